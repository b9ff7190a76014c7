//! The name whose addresses are kept, and the zone it is in.

use crate::SettingError;
use hickory_proto::rr::Name;
use std::fmt;

/// Longest TTL: a node that is gone is looked for that long.
const TTL_MAX_S: u32 = 86_400;

/// A region's name (`eu-central-1.example.net`), its zone (`example.net`), and how long resolvers may keep its addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct RegionName {
    name: Name,
    zone: Name,
    ttl_s: u32,
}

impl RegionName {
    /// Checks the three. Case and a dot at the end do not count.
    ///
    /// # Errors
    /// One of them is no host name, the name is not in the zone, or the TTL is out of range.
    pub fn new(name: &str, zone: &str, ttl_s: u32) -> Result<Self, SettingError> {
        let (name, zone) = (host_name("name", name)?, host_name("zone", zone)?);
        if !zone.zone_of(&name) {
            return Err(SettingError::new(
                "name",
                format!("{} is not in the zone {}", text(&name), text(&zone)),
                "give a name that is or ends in the zone",
            ));
        }
        if !(1..=TTL_MAX_S).contains(&ttl_s) {
            return Err(SettingError::new(
                "ttl",
                format!("{ttl_s} s is out of range"),
                "give 1 to 86400; 30 is usual, since nodes come and go",
            ));
        }
        Ok(Self { name, zone, ttl_s })
    }

    /// The region's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The zone it is in.
    #[must_use]
    pub fn zone(&self) -> &Name {
        &self.zone
    }

    /// How long resolvers may keep the addresses.
    #[must_use]
    pub fn ttl_s(&self) -> u32 {
        self.ttl_s
    }

    /// The region's name without a dot at the end.
    #[must_use]
    pub fn name_text(&self) -> String {
        text(&self.name)
    }

    /// The zone without a dot at the end.
    #[must_use]
    pub fn zone_text(&self) -> String {
        text(&self.zone)
    }
}

impl fmt::Debug for RegionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} in {}, {} s", self.name_text(), self.zone_text(), self.ttl_s)
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name_text())
    }
}

/// A host name as a DNS name in lower case: letters, digits, `-`, and `_` at the start of a label. So it needs no escape, wherever
/// it is written.
pub(crate) fn host_name(setting: &'static str, given: &str) -> Result<Name, SettingError> {
    let fault = |what: &str| {
        SettingError::new(
            setting,
            format!("{given:?} {what}"),
            "give a host name such as eu-central-1.example.net",
        )
    };
    let labels = given.strip_suffix('.').unwrap_or(given);
    let is_label = |label: &str| {
        let inner = label.strip_prefix('_').unwrap_or(label);
        !inner.is_empty()
            && !inner.starts_with('-')
            && !inner.ends_with('-')
            && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !labels.split('.').all(is_label) {
        return Err(fault("is not a host name"));
    }
    let mut name =
        Name::from_ascii(labels.to_ascii_lowercase()).map_err(|error| fault(&error.to_string()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Without a dot at the end.
pub(crate) fn text(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::RegionName;

    #[test]
    fn case_and_the_last_dot_do_not_count() {
        let one = RegionName::new("EU-central-1.Example.net.", "example.NET", 30).unwrap();
        let other = RegionName::new("eu-central-1.example.net", "example.net", 30).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.name_text(), "eu-central-1.example.net");
    }

    #[test]
    fn the_name_may_be_the_zone_itself() {
        assert!(RegionName::new("eu.example.net", "eu.example.net", 30).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_a_mend() {
        for (name, zone, ttl, place, fault) in [
            ("eu.example.org", "example.net", 30, "name", "is not in the zone"),
            ("euexample.net", "example.net", 30, "name", "is not in the zone"),
            ("eu..net", "net", 30, "name", "is not a host name"),
            ("", "net", 30, "name", "is not a host name"),
            ("a b.net", "net", 30, "name", "is not a host name"),
            ("eu.net", "*.net", 30, "zone", "is not a host name"),
            ("eu.net", "net", 0, "ttl", "out of range"),
            ("eu.net", "net", 86_401, "ttl", "out of range"),
        ] {
            let error = RegionName::new(name, zone, ttl).unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains(fault) && error.contains("give"), "{error}");
        }
        let long = format!("{}.net", "a".repeat(64));
        assert!(RegionName::new(&long, "net", 30).is_err());
    }
}
