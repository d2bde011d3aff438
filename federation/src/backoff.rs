//! Waiting between attempts: full jitter, exponential from 1 s, at most 5 min (federation section 10, rule 5).

use std::time::Duration;

use aiox_core::ports::Ids;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(300);
/// Even a bell that rings all the time does not make attempts come faster than this.
const LEAST: Duration = Duration::from_millis(200);

/// The wait after `failures` failed attempts in a row: anything between [`LEAST`] and the exponential bound.
pub(crate) fn wait(failures: u32, ids: &dyn Ids) -> Duration {
    let bound = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(9)).min(MOST);
    let random = ids.secret();
    let fraction = u32::from_be_bytes([random[0], random[1], random[2], random[3]]);
    LEAST.max(bound.mul_f64(f64::from(fraction) / f64::from(u32::MAX)))
}

/// The part of a wait that no news can shorten.
pub(crate) const fn floor() -> Duration {
    LEAST
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    struct Fixed([u8; 32]);
    impl Ids for Fixed {
        fn uuid(&self) -> Uuid {
            Uuid::nil()
        }
        fn secret(&self) -> [u8; 32] {
            self.0
        }
    }

    #[test]
    fn the_bound_doubles_to_five_minutes() {
        let highest = Fixed([0xff; 32]);
        let waits: Vec<u64> = [1, 2, 3, 9, 10, 1000].map(|failures| wait(failures, &highest).as_secs()).to_vec();
        assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
        assert_eq!(wait(1000, &Fixed([0; 32])), LEAST);
        let middle = wait(5, &Fixed([0x80; 32]));
        assert!(middle > Duration::from_secs(7) && middle < Duration::from_secs(9));
    }
}
