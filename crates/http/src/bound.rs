//! How many streams one principal may hold open.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aiox_core::{Caller, Error, Result};

/// Event streams and WebSockets of one principal at the same time; a further one is refused until one of them ends.
pub const MOST: usize = 64;

/// Open streams by principal.
#[derive(Default)]
pub(crate) struct Streams {
    open: Mutex<HashMap<String, usize>>,
}

/// One open stream; dropped, it makes room.
pub(crate) struct Place {
    streams: Arc<Streams>,
    principal: String,
}

impl Streams {
    pub(crate) fn enter(self: &Arc<Self>, caller: &Caller) -> Result<Place> {
        self.enter_as(caller.principal.key())
    }

    fn enter_as(self: &Arc<Self>, principal: String) -> Result<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(principal.clone()).or_default();
        if *count >= MOST {
            let message = format!("at most {MOST} streams may be open at once");
            return Err(Error::Limited { code: "too_many_streams", message, retry_after: Duration::from_secs(5) });
        }
        *count += 1;
        Ok(Place { streams: self.clone(), principal })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_principal_has_its_bound_and_leaves_nothing_behind() {
        let streams = Arc::new(Streams::default());
        let mut places: Vec<Place> = (0..MOST).map(|_| streams.enter_as("user:1".into()).unwrap()).collect();
        assert!(matches!(streams.enter_as("user:1".into()), Err(Error::Limited { code: "too_many_streams", .. })));
        assert!(streams.enter_as("user:2".into()).is_ok());
        places.pop();
        places.push(streams.enter_as("user:1".into()).unwrap());
        assert!(streams.enter_as("user:1".into()).is_err());
        drop(places);
        assert!(streams.open.lock().unwrap().is_empty());
    }
}
