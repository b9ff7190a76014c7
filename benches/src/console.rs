//! The console as whoever runs it has it: a process of its own on a pseudo-terminal, whose picture nobody looks at.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use clap::Parser;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// The role in which a measuring command is the console.
pub const ROLE: &str = "console";

/// Is the console, with these flags.
///
/// # Errors
/// Those of the console.
pub fn play(flags: &[String]) -> Result<()> {
    let words = std::iter::once("pinwire-admin".to_owned()).chain(flags.iter().cloned());
    pinwire_admin::cli::Cli::parse_from(words).run().map(drop)
}

/// A running console. It ends with its handle.
pub struct Console {
    child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    drawn: Arc<AtomicU64>,
    _terminal: Box<dyn MasterPty + Send>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Console").field("drawn", &self.drawn).finish_non_exhaustive()
    }
}

impl Console {
    /// Starts one at these addresses, on a terminal of 160x50.
    ///
    /// # Errors
    /// There is no terminal, or no process.
    pub fn start(urls: &[String], token: &str) -> Result<Self> {
        let size = PtySize { rows: 50, cols: 160, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size)?;
        let mut command = CommandBuilder::new(std::env::current_exe()?);
        command.args([ROLE, "--", "--discover", "off"]);
        for url in urls {
            command.args(["--url", url]);
        }
        for (name, value) in [
            ("TERM", "xterm-256color"),
            ("LANG", "C.UTF-8"),
            ("XDG_CONFIG_HOME", "/nonexistent"),
            ("PINWIRE_ADMIN_TOKEN", token),
        ] {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command)?;
        let (mut screen, keys) = (pair.master.try_clone_reader()?, pair.master.take_writer()?);
        let drawn = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&drawn);
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(read) = screen.read(&mut bytes) {
                if read == 0 {
                    return;
                }
                counted.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
        Ok(Self { child, keys, drawn, _terminal: pair.master })
    }

    /// Types.
    ///
    /// # Errors
    /// It has ended.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).context("the console has ended")?;
        Ok(self.keys.flush()?)
    }

    /// Its process.
    ///
    /// # Errors
    /// It has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.process_id().context("the console has ended")
    }

    /// Bytes that it has drawn.
    #[must_use]
    pub fn drawn(&self) -> u64 {
        self.drawn.load(Ordering::Relaxed)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
