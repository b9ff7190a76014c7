//! When a client dials again: as the stock client of its dialect does, which knows of no `Retry-After`.

use crate::scenario::Dialect;

/// y-websocket waits this long times two to the failed attempts ...
const UNIT_NS: u64 = 100_000_000;
/// ... and this long at most (`maxBackoffTime`).
const MOST_NS: u64 = 2_500_000_000;
/// HocuspocusProvider 3 and 4 wait this long after a connection is lost, and never less (`delay`, `minDelay`).
const DELAY_NS: u64 = 1_000_000_000;
/// What doubles with each failed attempt, and of which a random part is waited, ends here (`maxDelay`).
const DELAY_MOST_NS: u64 = 30_000_000_000;
/// No wait doubles more often than this.
const DOUBLINGS_MAX: u16 = 6;

/// Nanoseconds from the end of a connection that stood (`failures` is 0), or from the last of so many dials in a row that
/// failed, to the next dial.
pub(crate) fn wait_ns(dialect: Dialect, failures: u16, random: &mut fastrand::Rng) -> u64 {
    match dialect {
        Dialect::YWebsocket => (UNIT_NS << failures.min(DOUBLINGS_MAX)).min(MOST_NS),
        Dialect::Hocuspocus => {
            let most = (DELAY_NS << failures.saturating_sub(1).min(DOUBLINGS_MAX)).min(DELAY_MOST_NS);
            random.u64(DELAY_NS..=most)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(dialect: Dialect, failures: u16) -> (u64, u64) {
        let mut random = fastrand::Rng::with_seed(1);
        let waits = (0..2_000).map(|_| wait_ns(dialect, failures, &mut random) / 1_000_000);
        waits.fold((u64::MAX, 0), |(least, most), wait| (least.min(wait), most.max(wait)))
    }

    #[test]
    fn y_websocket_doubles_what_it_waits_up_to_two_and_a_half_seconds() {
        let expected = [100, 200, 400, 800, 1_600, 2_500, 2_500];
        for (failures, wait) in (0..).zip(expected) {
            assert_eq!(waits(Dialect::YWebsocket, failures), (wait, wait));
        }
        assert_eq!(waits(Dialect::YWebsocket, u16::MAX), (2_500, 2_500));
    }

    #[test]
    fn hocuspocus_waits_a_second_and_then_a_random_part_of_what_doubles_up_to_thirty() {
        for failures in [0, 1] {
            assert_eq!(waits(Dialect::Hocuspocus, failures), (1_000, 1_000));
        }
        for (failures, most) in [(2, 2_000), (3, 4_000), (6, 30_000), (u16::MAX, 30_000)] {
            let (least, longest) = waits(Dialect::Hocuspocus, failures);
            assert!((1_000..1_200).contains(&least), "{failures}: {least}");
            assert!((most * 9 / 10..=most).contains(&longest), "{failures}: {longest}");
        }
    }
}
