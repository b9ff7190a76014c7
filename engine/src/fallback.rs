//! Why io_uring is not used: named, so that an operator can change it.

use std::{fmt, io};

/// Why io_uring is not in use, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// `io_uring_setup` is refused (EPERM): a seccomp filter, as container runtimes set by default.
    NotPermitted,
    /// The `kernel.io_uring_disabled` setting has this value (1: unprivileged users, 2: everyone).
    DisabledBySysctl(u8),
    /// The kernel has no io_uring (ENOSYS), or a filter answers so.
    NoSystemCall,
    /// The ring's memory is above the locked-memory limit (ENOMEM).
    MemoryLock,
    /// The kernel lacks something the engine needs.
    Missing(&'static str),
    /// A step of setting up failed with this error code.
    Failed(&'static str, i32),
}

impl FallbackReason {
    /// Sorts the error of `io_uring_setup`.
    pub(crate) fn of_setup(error: &io::Error) -> FallbackReason {
        match error.raw_os_error() {
            Some(libc::EPERM) => match disabled_by_sysctl() {
                Some(level) => FallbackReason::DisabledBySysctl(level),
                None => FallbackReason::NotPermitted,
            },
            Some(libc::ENOSYS) => FallbackReason::NoSystemCall,
            Some(libc::ENOMEM) => FallbackReason::MemoryLock,
            Some(libc::EINVAL) => FallbackReason::Missing("SINGLE_ISSUER with DEFER_TASKRUN (Linux 6.1)"),
            code => FallbackReason::Failed("io_uring_setup", code.unwrap_or(0)),
        }
    }

    pub(crate) fn of_step(step: &'static str, error: &io::Error) -> FallbackReason {
        match error.raw_os_error() {
            Some(libc::ENOMEM) => FallbackReason::MemoryLock,
            code => FallbackReason::Failed(step, code.unwrap_or(0)),
        }
    }
}

fn disabled_by_sysctl() -> Option<u8> {
    let level = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    level.trim().parse().ok().filter(|level| *level > 0)
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FallbackReason::NotPermitted => {
                f.write_str("io_uring_setup is not permitted (seccomp filter, EPERM)")
            }
            FallbackReason::DisabledBySysctl(level) => {
                write!(f, "sysctl kernel.io_uring_disabled is {level}")
            }
            FallbackReason::NoSystemCall => f.write_str("the kernel has no io_uring (ENOSYS)"),
            FallbackReason::MemoryLock => {
                f.write_str("the ring does not fit the locked-memory limit (ENOMEM)")
            }
            FallbackReason::Missing(what) => write!(f, "the kernel lacks {what}"),
            FallbackReason::Failed(step, code) => {
                write!(f, "{step} failed: {}", io::Error::from_raw_os_error(*code))
            }
        }
    }
}

impl std::error::Error for FallbackReason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setup_errors_are_named() {
        let named = |code| FallbackReason::of_setup(&io::Error::from_raw_os_error(code));
        assert_eq!(named(libc::ENOSYS), FallbackReason::NoSystemCall);
        assert_eq!(named(libc::ENOMEM), FallbackReason::MemoryLock);
        assert!(matches!(named(libc::EINVAL), FallbackReason::Missing(_)));
        assert!(matches!(
            named(libc::EPERM),
            FallbackReason::NotPermitted | FallbackReason::DisabledBySysctl(_)
        ));
        assert!(named(libc::EMFILE).to_string().contains("io_uring_setup"));
    }
}
