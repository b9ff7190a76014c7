//! The last good sets in a file, so that a node can start while a provider is down. Whoever can write the file decides whose
//! tokens are good: it is written for this user alone, and not believed if others could have written it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::read_file;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Contents {
    version: u32,
    sets: Vec<Entry>,
}

/// What a URL answered last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) url: String,
    pub(super) etag: Option<String>,
    /// Unix time at which it was fetched or confirmed.
    pub(super) checked_at: u64,
    /// As it came.
    pub(super) jwks: String,
}

/// What the file has; nothing if there is none.
///
/// # Errors
/// Why it is not believed.
pub(super) fn read(file: &Path) -> Result<Vec<Entry>, String> {
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    if metadata.mode() & 0o022 != 0 {
        return Err("is not used: other users can write it; remove it, or chmod 600".to_owned());
    }
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us && metadata.uid() != 0 {
        return Err(format!("is not used: it belongs to user {}, not to this one", metadata.uid()));
    }
    let bytes = read_file(file)?;
    let contents: Contents =
        serde_json::from_slice(&bytes).map_err(|error| format!("is not used: it is damaged ({error})"))?;
    if contents.version != VERSION {
        return Err(format!("is not used: it has version {}, not {VERSION}", contents.version));
    }
    Ok(contents.sets)
}

/// Replaces the file as a whole: at any moment it is the old one or the new one, also on the disk.
pub(super) fn write(file: &Path, sets: Vec<Entry>) -> io::Result<()> {
    let name = file.file_name().ok_or_else(|| io::Error::other("names no file"))?.to_string_lossy();
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let new = directory.join(format!(".{name}.{}.tmp", std::process::id()));
    // One that a crash left behind would keep its mode.
    let _ = fs::remove_file(&new);
    let written = write_new(&new, &Contents { version: VERSION, sets }).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
        return written;
    }
    File::open(directory)?.sync_all()
}

fn write_new(file: &Path, contents: &Contents) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(&serde_json::to_vec_pretty(contents)?)?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn entry(text: &str) -> Entry {
        Entry {
            url: "https://auth.example.com/jwks".to_owned(),
            etag: Some("\"1\"".to_owned()),
            checked_at: 7,
            jwks: text.to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read_by_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("jwks.json");
        assert_eq!(read(&file), Ok(Vec::new()), "none is there yet");
        write(&file, vec![entry("one")]).unwrap();
        write(&file, vec![entry("two")]).unwrap();
        assert_eq!(read(&file), Ok(vec![entry("two")]));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_file_that_is_damaged_or_others_could_write_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("jwks.json");
        write(&file, vec![entry("one")]).unwrap();
        let whole = fs::read(&file).unwrap();
        for len in 0..whole.len() {
            fs::write(&file, &whole[..len]).unwrap();
            assert!(read(&file).unwrap_err().contains("damaged"), "cut at {len}");
        }
        let later = String::from_utf8(whole).unwrap().replace("\"version\": 1", "\"version\": 2");
        fs::write(&file, later).unwrap();
        assert!(read(&file).unwrap_err().contains("version 2, not 1"));
        write(&file, vec![entry("one")]).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(read(&file).unwrap_err().contains("other users can write it"));
    }
}
