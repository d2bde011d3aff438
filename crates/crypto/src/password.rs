//! Passwords: Argon2id (RFC 9106) for new ones, bcrypt for imported ones. CPU-heavy: call from a blocking thread.

use aiox_core::{Error, Result};
use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use secrecy::{ExposeSecret, SecretString};

/// Least number of characters of a password.
pub const MIN_CHARS: usize = 8;
/// Most characters of a password.
pub const MAX_CHARS: usize = 256;

// 19 MiB, two passes, one lane: the OWASP minimum for Argon2id.
fn argon() -> Result<Argon2<'static>> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|error| Error::internal(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Checks the length of a new password.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check(password: &SecretString) -> Result<()> {
    let count = password.expose_secret().chars().count();
    if (MIN_CHARS..=MAX_CHARS).contains(&count) { Ok(()) } else { Err(Error::invalid("password", "must have 8 to 256 characters")) }
}

/// A PHC string for the store.
///
/// # Errors
/// [`Error::Internal`] when the hash cannot be computed.
pub fn hash(password: &SecretString) -> Result<String> {
    let hash = argon()?.hash_password(password.expose_secret().as_bytes()).map_err(|error| Error::internal(error.to_string()))?;
    Ok(hash.to_string())
}

/// What comparing a password found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Wrong.
    No,
    /// Right.
    Yes,
    /// Right, with an old kind of hash that should be replaced now.
    YesOutdated,
}

/// Compares a password with a stored hash (Argon2id PHC string or bcrypt). An unreadable hash is a wrong password.
#[must_use]
pub fn verify(password: &SecretString, stored: &str) -> Verified {
    let password = password.expose_secret();
    if stored.starts_with("$2") {
        return if bcrypt::verify(password, stored).unwrap_or(false) { Verified::YesOutdated } else { Verified::No };
    }
    let right =
        PasswordHash::new(stored).is_ok_and(|hash| argon().is_ok_and(|argon| argon.verify_password(password.as_bytes(), &hash).is_ok()));
    if right { Verified::Yes } else { Verified::No }
}

/// Does the work of [`verify`] for an account that does not exist, so that the answer takes the same time.
pub fn verify_nobody(password: &SecretString) {
    // A valid hash of a random password, with the parameters of `argon`.
    const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$3u3i9mH1W8Yk2s5p8d2T1xkq3c8bX8hQ9s1n3Jt7c0I";
    let _ = verify(password, NOBODY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_verifies_its_password_only_and_is_salted() {
        let (one, two) = (SecretString::from("correct horse"), SecretString::from("correct hors"));
        let (a, b) = (hash(&one).unwrap(), hash(&one).unwrap());
        assert_ne!(a, b);
        assert_eq!(verify(&one, &a), Verified::Yes);
        assert_eq!(verify(&two, &a), Verified::No);
        assert_eq!(verify(&one, "garbage"), Verified::No);
    }

    #[test]
    fn an_imported_bcrypt_hash_verifies_and_asks_for_replacement() {
        let stored = bcrypt::hash("correct horse", 4).unwrap();
        assert_eq!(verify(&SecretString::from("correct horse"), &stored), Verified::YesOutdated);
        assert_eq!(verify(&SecretString::from("wrong"), &stored), Verified::No);
    }

    #[test]
    fn nobody_costs_what_somebody_costs() {
        // The stand-in must parse, or the work would not be done.
        assert!(
            PasswordHash::new("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$3u3i9mH1W8Yk2s5p8d2T1xkq3c8bX8hQ9s1n3Jt7c0I").is_ok()
        );
    }

    #[test]
    fn lengths_are_bounded_in_characters() {
        assert!(check(&SecretString::from("ä".repeat(8))).is_ok());
        assert!(check(&SecretString::from("a".repeat(7))).is_err());
        assert!(check(&SecretString::from("a".repeat(257))).is_err());
    }
}
