//! How many connections a process can hold, by its limit of file descriptors.
//!
//! Some room is kept for connections that are no WebSocket yet and for plain HTTP, so that a node that is full still says so, and
//! still answers `/health`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Driver};
use crate::doctor::uring_refused;

/// Descriptors that a process needs for everything but connections.
const OTHER_FILES: u64 = 100;
/// Most room that is kept for connections before their upgrade and for HTTP, by process (epoll) or by thread (io_uring).
const SPARE_MAX: u64 = 1024;

/// What connections have descriptors of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    /// With io_uring each ring has a table of its own of as many entries as the process may have descriptors.
    pub(crate) is_uring: bool,
    pub(crate) threads: u64,
    pub(crate) rings_per_thread: u64,
}

impl Tables {
    /// Connections that a process with so many descriptors has room for.
    pub(crate) fn room(self, files: u64) -> u64 {
        if self.is_uring {
            files
                .saturating_mul(self.rings_per_thread)
                .saturating_sub(spare(files))
                .saturating_mul(self.threads)
        } else {
            files.saturating_sub(OTHER_FILES + spare(files))
        }
    }

    /// Descriptors that so many connections need.
    pub(crate) fn files_for(self, connections: u64) -> u64 {
        let (mut low, mut high) = (0, connections + OTHER_FILES + SPARE_MAX);
        while low < high {
            let middle = low.midpoint(high);
            if self.room(middle) >= connections { high = middle } else { low = middle + 1 }
        }
        // Descriptors of the process itself, too, where connections have others.
        low.max(2 * OTHER_FILES)
    }

    /// What to do for more connections.
    pub(crate) fn mend(self, connections: u64, hard: Option<u64>) -> String {
        let needed = self.files_for(connections);
        let mut mend = format!("LimitNOFILE={needed} in the systemd unit, or ulimit -n {needed}");
        if self.is_uring {
            mend += ", or a larger rings_per_thread";
        }
        if hard.is_some_and(|hard| hard < needed) {
            mend += "; the hard limit is lower than that";
        }
        mend
    }
}

fn spare(files: u64) -> u64 {
    (files / 8).min(SPARE_MAX)
}

/// What a node can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Upgraded connections of the node.
    pub(crate) connections: u32,
    /// Connections of each thread, those before their upgrade included.
    pub(crate) slots: u32,
    /// HTTP connections.
    pub(crate) http: usize,
}

impl Capacity {
    fn of(config: &Config, tables: Tables, files: u64) -> Self {
        let connections = tables.room(files).min(config.max_connections.into());
        let free = files.saturating_sub(OTHER_FILES);
        let for_http = match tables.is_uring {
            true => free / 2,
            false => free.saturating_sub(connections + spare(files) / 2),
        };
        let fit = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        Self {
            connections: fit(connections),
            slots: fit(connections + spare(files)),
            http: config.http.max_connections.min(usize::try_from(for_http.max(8)).unwrap_or(usize::MAX)),
        }
    }

    /// What this process can hold, its limit of descriptors raised as far as that helps. Less than the configuration wants is
    /// told.
    pub(crate) fn here(config: &Config) -> Self {
        let tables = Tables {
            is_uring: config.driver != Driver::Epoll && uring_refused().is_none(),
            threads: config.threads as u64,
            rings_per_thread: config.rings_per_thread.into(),
        };
        let Rlimit { current, maximum } = raised_to(tables.files_for(config.max_connections.into()));
        let files = current.unwrap_or(u64::MAX);
        let capacity = Self::of(config, tables, files);
        if capacity.connections < config.max_connections {
            tracing::warn!(
                "ulimit -n is {files}: there is room for {} connections, not for the {} of max_connections; {}",
                capacity.connections,
                config.max_connections,
                tables.mend(config.max_connections.into(), maximum)
            );
        }
        capacity
    }
}

/// Raises the soft limit of descriptors, where the hard limit allows it; returns what holds then.
fn raised_to(wanted: u64) -> Rlimit {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return limit;
    }
    let raised = limit.maximum.map_or(wanted, |most| most.min(wanted));
    // What cannot be raised holds as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit });
    getrlimit(Resource::Nofile)
}

#[cfg(test)]
mod tests {
    use pinwire_token::KeySet;

    use super::*;

    const EPOLL: Tables = Tables { is_uring: false, threads: 2, rings_per_thread: 1 };
    const URING: Tables = Tables { is_uring: true, threads: 2, rings_per_thread: 3 };

    #[test]
    fn what_is_needed_for_connections_has_room_for_them() {
        for tables in [EPOLL, URING] {
            for connections in [1, 500, 1_000, 100_000, 4_000_000] {
                let files = tables.files_for(connections);
                assert!(tables.room(files) >= connections, "{tables:?} {connections}");
                let is_least = files == 2 * OTHER_FILES || tables.room(files - 1) < connections;
                assert!(is_least, "{tables:?} {connections}");
            }
        }
        assert_eq!((EPOLL.files_for(100_000), URING.files_for(100_000)), (101_124, 17_008));
    }

    fn wants_1_000() -> Config {
        let listen = ([127, 0, 0, 1], 0).into();
        Config { max_connections: 1_000, ..Config::dev(listen, 2, KeySet::new()) }
    }

    #[test]
    fn a_process_of_few_descriptors_keeps_some_for_answers() {
        let config = wants_1_000();
        let few = Capacity::of(&config, EPOLL, 256);
        assert_eq!(few, Capacity { connections: 124, slots: 156, http: 16 });
        let few = Capacity::of(&config, URING, 256);
        assert_eq!(few, Capacity { connections: 1_000, slots: 1_032, http: 78 });
        let plenty = Capacity::of(&config, EPOLL, 1 << 20);
        assert_eq!(plenty, Capacity { connections: 1_000, slots: 2_024, http: 1_024 });
    }
}
