//! What the kernel knows of the process.

use std::fs;

/// Numbers from `/proc/self`; `None` for what cannot be read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<f64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) start_seconds: Option<f64>,
    pub(crate) open_files: Option<f64>,
    pub(crate) max_files: Option<f64>,
}

impl Process {
    pub(crate) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The command's name in brackets may hold anything, spaces and brackets too.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as f64;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        // `man 5 proc_pid_stat`: fields are counted from 1, and two stand before the bracket's end.
        Self {
            resident_bytes: number(21).map(|pages| pages * page),
            cpu_seconds: number(11).zip(number(12)).map(|(user, system)| (user + system) / ticks),
            start_seconds: number(19).zip(boot_seconds()).map(|(start, boot)| boot + start / ticks),
            open_files: open_files(),
            max_files: limit.map(|limit| limit as f64),
        }
    }
}

/// Linux 6.2 and later tell the number as the directory's size; before, they have to be counted.
fn open_files() -> Option<f64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.len() {
        0 => fs::read_dir(DIRECTORY).ok().map(|files| files.count() as f64),
        known => Some(known as f64),
    }
}

fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known_well() {
        let process = Process::read();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((1e6..1e11).contains(&process.resident_bytes.unwrap()), "{process:?}");
        assert!((now - 86_400.0..=now + 1.0).contains(&process.start_seconds.unwrap()), "{process:?} {now}");
        assert!((3.0..1e6).contains(&process.open_files.unwrap()), "{process:?}");
        assert!(process.max_files.unwrap() >= process.open_files.unwrap());
        assert!(process.cpu_seconds.unwrap() >= 0.0);
    }
}
