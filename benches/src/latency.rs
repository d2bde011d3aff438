//! Statistics over exact samples.

use std::time::Duration;

/// The value below or at which `percent` of the samples lie (nearest rank). `None` without samples.
pub(crate) fn percentile(sorted: &[Duration], percent: f64) -> Option<Duration> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is small and not negative")]
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).or(sorted.last()).copied()
}

/// Milliseconds with their fraction.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Rounded to three decimals, for reports.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn ranks_are_exact() {
        let hundred = ms(1..=100);
        for (percent, wanted) in [(50.0, 50), (99.0, 99), (99.1, 100), (100.0, 100), (0.0, 1)] {
            assert_eq!(percentile(&hundred, percent), Some(Duration::from_millis(wanted)), "{percent}");
        }
        assert_eq!(percentile(&ms([1, 2, 3]), 50.0), Some(Duration::from_millis(2)));
        assert_eq!(percentile(&ms([1, 2]), 50.0), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&ms([8]), 99.0), Some(Duration::from_millis(8)));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn fractions_stay() {
        assert_eq!(round(millis(Duration::from_nanos(1_234_567))), 1.235);
    }
}
