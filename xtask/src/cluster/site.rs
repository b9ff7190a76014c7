//! Where the processes of a region run, and under which addresses others find them.

/// On this machine's loopback, unless a region has a network of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// A program that becomes the process, as `ip netns exec NAME` does.
    pub(crate) prefix: Vec<String>,
    /// Where servers and the admin API listen, and nodes for clients that are near.
    pub(crate) host: String,
    /// What the world knows the nodes by.
    pub(crate) public: String,
}

impl Default for Site {
    fn default() -> Self {
        let host = || "127.0.0.1".to_owned();
        Self { prefix: Vec::new(), host: host(), public: host() }
    }
}

impl Site {
    /// All addresses that nodes listen on.
    pub(super) fn hosts(&self) -> Vec<&str> {
        let mut hosts = vec![self.public.as_str(), self.host.as_str()];
        hosts.dedup();
        hosts
    }
}
