//! History and notices in a file, where there is no Redis and a folder for documents: it is replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pinwire_status::{At, Board, History, Notice};
use serde::{Deserialize, Serialize};

/// Bytes that are read at most: more than a board can come to.
const READ_MAX: u64 = 8 << 20;

/// The file.
#[derive(Debug)]
pub(super) struct StatusFile(PathBuf);

#[derive(Serialize, Deserialize)]
struct Kept {
    history: History,
    notices: Vec<Notice>,
}

impl StatusFile {
    pub(super) fn within(folder: &Path) -> Self {
        Self(folder.join("status.json"))
    }

    /// What was kept goes into the board. A file that cannot be read is begun anew.
    pub(super) fn read(&self, board: &mut Board, now: At) {
        let kept: Kept = match self.load() {
            Ok(Some(kept)) => kept,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(file = %self.0.display(), %error, "the history of status cannot be read: it begins anew");
                return;
            }
        };
        kept.notices.into_iter().for_each(|notice| _ = board.notices.merge(now, notice));
        board.adopt(now, kept.history);
    }

    fn load(&self) -> io::Result<Option<Kept>> {
        let file = match File::open(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, READ_MAX), &mut text)?;
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// Keeps what the board has.
    pub(super) fn write(&self, board: &Board) -> io::Result<()> {
        let kept =
            Kept { history: board.history().clone(), notices: board.notices.iter().cloned().collect() };
        let unfinished = self.0.with_extension("json.new");
        let mut file = File::create(&unfinished)?;
        file.write_all(serde_json::to_string(&kept)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use pinwire_status::{Pace, State};

    use super::*;

    #[test]
    fn what_was_kept_is_there_again_and_what_is_damaged_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (file, now) = (StatusFile::within(folder.path()), At::unix(1_000));
        let fresh = || Board::new(now, Pace { looks: 1, open: 0, end: 0 });
        let mut board = fresh();
        file.read(&mut board, now);
        board.look(now, "us-1", State::Unavailable, "away");
        file.write(&board).unwrap();
        let mut again = fresh();
        file.read(&mut again, now);
        assert_eq!(again.history(), board.history());
        assert_eq!(again.history().incidents.len(), 1);
        fs::write(folder.path().join("status.json"), "{").unwrap();
        let mut anew = fresh();
        file.read(&mut anew, now);
        assert!(anew.history().incidents.is_empty());
        file.write(&anew).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
