//! A server under measurement: a child process that runs this same program in another role.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// A server in a process of its own.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    address: SocketAddr,
}

impl Child {
    /// This program, for arguments to be added.
    ///
    /// # Errors
    /// The system does not say where it is.
    pub fn command() -> Result<Command> {
        Ok(Command::new(std::env::current_exe()?))
    }

    /// Starts a command that ends up in this program, and waits until it says where it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server's process")?;
        let mut line = String::new();
        let stdout = process.stdout.take().context("the server's stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let Ok(address) = line.trim().parse() else {
            let _ = process.kill();
            let _ = process.wait();
            bail!("the server did not start; it said {line:?}");
        };
        Ok(Self { process, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Has it end, and waits for that.
    ///
    /// # Errors
    /// It ends with an error.
    pub fn stop(mut self) -> Result<()> {
        let status = self.end()?;
        if status.success() { Ok(()) } else { bail!("the server ended with {status}") }
    }

    /// Waits for the end of one that ends by itself; returns what it wrote to stderr, where that is a pipe.
    ///
    /// # Errors
    /// It ends with an error.
    pub fn read_to_its_end(mut self) -> Result<String> {
        let mut text = String::new();
        if let Some(mut stderr) = self.process.stderr.take() {
            stderr.read_to_string(&mut text)?;
        }
        let status = self.end()?;
        if status.success() { Ok(text) } else { bail!("the server ended with {status}: {text}") }
    }

    fn end(&mut self) -> Result<ExitStatus> {
        drop(self.process.stdin.take());
        Ok(self.process.wait()?)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // After a failure; one that has ended already is not there to be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's side: says where it listens.
///
/// # Errors
/// The parent does not listen.
pub fn say_address(address: SocketAddr) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{address}")?;
    Ok(out.flush()?)
}

/// The child's side: returns when the parent has closed its end, or has ended itself.
///
/// # Errors
/// Stdin cannot be read.
pub fn wait_for_end_of_stdin() -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
