//! Points in time: given by whoever calls, whole seconds in UTC.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds since 1970, in UTC. In JSON and in feeds as in RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(u64);

/// The end of the year 9999: RFC 3339 knows nothing later.
const LAST: u64 = 253_402_300_799;

impl At {
    /// So many seconds after 1970 began.
    #[must_use]
    pub const fn unix(seconds: u64) -> Self {
        Self(if seconds < LAST { seconds } else { LAST })
    }

    /// Seconds after 1970 began.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// Later by so many seconds.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self::unix(self.0.saturating_add(seconds))
    }

    /// Seconds since `earlier`; none if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    fn utc(self) -> OffsetDateTime {
        let seconds = i64::try_from(self.0).unwrap_or_default();
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// For people, as in `27 November 2026, 23:05 UTC`.
    #[must_use]
    pub fn for_people(self) -> String {
        let at = self.utc();
        format!("{} {} {}, {:02}:{:02} UTC", at.day(), at.month(), at.year(), at.hour(), at.minute())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.utc().format(&Rfc3339).unwrap_or_default())
    }
}

/// It is no time as in RFC 3339, or none since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no time as in RFC 3339; write 2026-11-27T23:05:00Z, for example")]
pub struct NoTime;

impl FromStr for At {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NoTime)?;
        u64::try_from(at.unix_timestamp()).map(Self::unix).map_err(|_| NoTime)
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_and_read_in_utc() {
        let at: At = "2026-11-28T00:05:30.25+01:00".parse().unwrap();
        assert_eq!(at.to_string(), "2026-11-27T23:05:30Z");
        assert_eq!(at.for_people(), "27 November 2026, 23:05 UTC");
        assert_eq!(at.to_string().parse(), Ok(at));
        for wrong in ["", "now", "1969-12-31T23:59:59Z", "2026-11-27", "2026-11-27T23:05:30"] {
            assert_eq!(wrong.parse::<At>(), Err(NoTime), "{wrong}");
        }
    }

    #[test]
    fn times_have_an_end_and_differences_are_never_negative() {
        let last = At::unix(u64::MAX);
        assert_eq!(last.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(last.plus(1), last);
        assert_eq!((At::unix(5).since(At::unix(9)), At::unix(9).since(At::unix(5))), (0, 4));
    }
}
