//! Requests that may come again: the first one acts, the others get its answer.

use aiox_core::{Caller, Error, Result};
use aiox_crypto::sha256;
use aiox_store::{
    Tx,
    idempotency::{self, Keyed},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::Tenants;
use crate::same;

/// How long a key is remembered.
const KEPT_SECONDS: i64 = 24 * 3600;

/// What makes a request the same as an earlier one.
#[derive(Debug, Clone)]
pub struct Repeatable {
    /// The idempotency key, 1 to 256 bytes.
    pub key: String,
    /// The request without its key.
    pub body: Value,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    /// What was made.
    pub value: T,
    /// Whether an earlier request made it.
    pub replayed: bool,
}

impl<T> Answered<T> {
    pub(super) const fn now(value: T) -> Self {
        Self { value, replayed: false }
    }
}

impl Tenants {
    /// Takes the key of a request in the transaction that acts on it, and keeps its answer, which must have no secret. If the request was
    /// made before, the answer that it got then: nothing may be done again.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the key was used for another request; database errors.
    pub(super) async fn first<T: Serialize + DeserializeOwned>(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        operation: &str,
        repeatable: Option<&Repeatable>,
        answer: &T,
    ) -> Result<Option<Answered<T>>> {
        let Some(Repeatable { key, body }) = repeatable else { return Ok(None) };
        let (principal, digest) = (caller.principal.key(), sha256(&same::form(body)));
        let keyed = Keyed { principal: &principal, operation, key, digest: &digest, at: self.clock.now() };
        let answer = serde_json::to_string(answer).map_err(Error::internal)?;
        match idempotency::claim(tx, &keyed, &answer).await? {
            None => Ok(None),
            Some(earlier) if earlier.digest == digest => {
                let value = serde_json::from_str(&earlier.answer).map_err(Error::internal)?;
                Ok(Some(Answered { value, replayed: true }))
            }
            Some(_) => Err(Error::conflict("conflict", "this idempotency key was used for another request")),
        }
    }

    /// Forgets what is too old: use of windows that are over, and idempotency keys. Call it now and then.
    ///
    /// # Errors
    /// Database errors.
    pub async fn tidy(&self) -> Result<()> {
        self.book.purge().await?;
        let mut tx = self.store.begin().await?;
        idempotency::forget(&mut tx, self.clock.now().plus_seconds(-KEPT_SECONDS)).await?;
        tx.commit().await
    }
}
