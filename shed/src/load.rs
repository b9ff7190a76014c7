//! How full a node is, and of what.

use std::fmt;

/// What a node may run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Upgraded connections.
    Connections,
    /// Bytes.
    Memory,
    /// Processor time.
    Cpu,
}

impl Resource {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 3] = [Self::Connections, Self::Memory, Self::Cpu];

    /// As configuration, metrics and logs call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// So much used of so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Part {
    /// In use.
    pub used: u64,
    /// What there is; 0 is full.
    pub limit: u64,
}

impl Part {
    /// From 0, nothing, to 1, all, and beyond.
    #[must_use]
    pub fn share(self) -> f64 {
        if self.limit == 0 { 1.0 } else { self.used as f64 / self.limit as f64 }
    }
}

/// What a node uses, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Load {
    /// Upgraded connections.
    pub connections: Part,
    /// Bytes; `None` where the host does not say.
    pub memory: Option<Part>,
    /// Share of the processor time that the node may use, smoothed; `None` where the host does not say.
    pub cpu: Option<f64>,
}

impl Load {
    /// How full of one thing; `None` if nobody knows.
    #[must_use]
    pub fn share_of(&self, resource: Resource) -> Option<f64> {
        match resource {
            Resource::Connections => Some(self.connections.share()),
            Resource::Memory => self.memory.map(Part::share),
            Resource::Cpu => self.cpu,
        }
    }

    /// How full, which is how full of what there is least of.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let known =
            Resource::ALL.into_iter().filter_map(|of| Some(Occupancy { of, share: self.share_of(of)? }));
        known.reduce(|fuller, next| if next.share > fuller.share { next } else { fuller }).unwrap_or_default()
    }
}

/// How full a node is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Occupancy {
    /// Of this.
    pub of: Resource,
    /// From 0, nothing, to 1, full, and beyond.
    pub share: f64,
}

impl Default for Occupancy {
    fn default() -> Self {
        Self { of: Resource::Connections, share: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_as_full_as_of_what_it_has_least_of() {
        let load = Load {
            connections: Part { used: 5, limit: 10 },
            memory: Some(Part { used: 9, limit: 10 }),
            cpu: Some(0.7),
        };
        assert_eq!(load.occupancy(), Occupancy { of: Resource::Memory, share: 0.9 });
        let unknown = Load { memory: None, cpu: None, ..load };
        assert_eq!(unknown.occupancy(), Occupancy { of: Resource::Connections, share: 0.5 });
    }

    #[test]
    fn who_may_have_nothing_is_full() {
        assert!(Load::default().occupancy().share >= 1.0);
    }
}
