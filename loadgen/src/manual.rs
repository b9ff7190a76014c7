//! Manual pages and completions, from the definition of the command line.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Flags of `manual`.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// The directory to write into: a page for the program and one for each command.
    directory: PathBuf,
}

impl CompletionsArgs {
    /// Prints them.
    pub fn run(&self) {
        let mut command = Cli::command();
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut io::stdout());
    }
}

impl ManualArgs {
    /// Writes the pages.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub fn run(&self) -> Result<()> {
        let place = || format!("cannot write {}", self.directory.display());
        std::fs::create_dir_all(&self.directory).with_context(place)?;
        clap_mangen::generate_to(Cli::command(), &self.directory).with_context(place)
    }
}
