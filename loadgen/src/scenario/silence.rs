//! How long a connection may be silent before its client gives it up.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scenario::duration;

/// `30s` for everybody, or `5s..30s`: clients differ, and with these bounds each has a time of its own, evenly spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Silence {
    from: Duration,
    to: Duration,
}

impl Silence {
    /// The time of a client; the same for the same number.
    #[must_use]
    pub fn of(&self, client: u32) -> Duration {
        // Neighbours differ, and many are spread evenly: the golden ratio's multiples.
        let share = f64::from(client.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX);
        self.from + (self.to - self.from).mul_f64(share)
    }
}

impl FromStr for Silence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let (from, to) = (duration::parse(from)?, duration::parse(to)?);
        if from.is_zero() || from > to {
            return Err(format!("`{text}` is no time of silence; write it as 30s, or 5s..30s"));
        }
        Ok(Self { from, to })
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::format(self.from))?;
        if self.from == self.to { Ok(()) } else { write!(f, "..{}", duration::format(self.to)) }
    }
}

impl TryFrom<String> for Silence {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Silence> for String {
    fn from(silence: Silence) -> Self {
        silence.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_a_time_within_the_bounds_and_all_of_them_are_used() {
        let silence: Silence = "4s..8s".parse().unwrap();
        let mut counts = [0; 4];
        for client in 0..1000 {
            let seconds = silence.of(client).as_secs_f64();
            assert!((4.0..=8.0).contains(&seconds), "{seconds}");
            counts[(seconds as usize - 4).min(3)] += 1;
        }
        assert!(counts.iter().all(|count| (240..=260).contains(count)), "{counts:?}");
        assert_eq!("30s".parse::<Silence>().unwrap().of(7), Duration::from_secs(30));
    }

    #[test]
    fn what_is_written_is_read_back_and_nonsense_refused() {
        for text in ["30s", "500ms..1500ms"] {
            assert_eq!(text.parse::<Silence>().unwrap().to_string(), text);
        }
        for wrong in ["0s", "8s..4s", "..", "soon"] {
            assert!(wrong.parse::<Silence>().is_err(), "{wrong}");
        }
    }
}
