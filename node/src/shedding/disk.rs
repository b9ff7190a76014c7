//! How much is free on the store's disk, looked up by a thread of its own: a disk that hangs holds nobody up but that thread.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How often it is looked up.
const ASK_EVERY_US: u64 = 1_000_000;

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free: u64,
    pub(super) total: u64,
}

/// The way to the thread, and what it said last. The thread ends once this is dropped and the disk answers; nobody waits for it.
#[derive(Debug)]
pub(super) struct Disk {
    asks: SyncSender<()>,
    answers: Receiver<Option<Room>>,
    /// An answer is awaited since then.
    awaited_us: Option<u64>,
    due_us: u64,
    room: Option<Room>,
}

impl Disk {
    /// Starts the thread: `probe` looks it up, for as long as it takes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(mut probe: impl FnMut() -> Option<Room> + Send + 'static) -> io::Result<Self> {
        // One ask is under way at most, so neither side ever waits to send.
        let (asks, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
            while let Ok(()) = asked.recv() {
                if answer.send(probe()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { asks, answers, awaited_us: None, due_us: 0, room: None })
    }

    /// Takes an answer, and asks if it is time to; answers what is known. Never waits.
    pub(super) fn look(&mut self, now_us: u64) -> Option<Room> {
        if let Ok(room) = self.answers.try_recv() {
            (self.room, self.awaited_us) = (room, None);
        }
        if self.awaited_us.is_none() && now_us >= self.due_us && self.asks.try_send(()).is_ok() {
            (self.awaited_us, self.due_us) = (Some(now_us), now_us + ASK_EVERY_US);
        }
        self.room
    }

    /// For how long it owes an answer.
    pub(super) fn silent_us(&self, now_us: u64) -> u64 {
        self.awaited_us.map_or(0, |since_us| now_us.saturating_sub(since_us))
    }
}

/// What there is of the disk with this folder, if that can be told.
pub(super) fn room_of(folder: &Path) -> Option<Room> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Some(Room { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks) })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn what_the_disk_says_is_known_once_it_has_said_it() {
        let mut disk = Disk::start(|| room_of(Path::new("/"))).unwrap();
        assert_eq!(disk.look(0), None);
        disk.room = disk.answers.recv_timeout(PATIENCE).unwrap();
        let room = disk.look(0).unwrap();
        assert!(room.free <= room.total && room.total > 0);
    }

    #[test]
    fn a_disk_that_hangs_is_asked_once_and_holds_nobody_up() {
        let (asked, asks) = channel();
        let (release, hanging) = channel::<()>();
        let mut disk = Disk::start(move || {
            asked.send(()).unwrap();
            // It ends when the test does.
            let _ = hanging.recv();
            None
        })
        .unwrap();
        for seconds in 0..60 {
            assert_eq!(disk.look(seconds * ASK_EVERY_US), None);
            assert_eq!(disk.silent_us(seconds * ASK_EVERY_US), seconds * ASK_EVERY_US);
        }
        asks.recv_timeout(PATIENCE).unwrap();
        drop(disk);
        drop(release);
        // The thread is gone, without having been asked again.
        assert!(asks.recv_timeout(PATIENCE).is_err());
    }
}
