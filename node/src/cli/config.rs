//! `config`: making, checking and showing configurations.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::serve::{SourceArgs, Unusable};
use super::token::random_hex;
use crate::config::{schema, template};

/// Flags of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do with configurations.
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Write a file to begin with, and beside it a file with a new secret. Neither may exist.
    Init(InitArgs),
    /// Find everything that is wrong with a configuration: exit status 0 if nothing is, else 2.
    Check(SourceArgs),
    /// Show every value that would be in force, and where it was set.
    Dump(DumpArgs),
    /// Print a JSON Schema of the file, for editors.
    Schema,
}

#[derive(Debug, Args)]
struct InitArgs {
    /// The file to write.
    #[arg(default_value = "pinwire.toml")]
    file: PathBuf,
    /// The region of the node; an empty one is for the reader of the file to fill in.
    #[arg(long, default_value = "local-1")]
    region: String,
    /// Sets a key in the file; may be given more than once. Lists are separated by commas.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Args)]
struct DumpArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// As JSON: a list of objects with `key`, `value` (as in TOML), `origin` and `reload`.
    #[arg(long)]
    json: bool,
}

impl ConfigArgs {
    /// Does it.
    ///
    /// # Errors
    /// A configuration that cannot be used, or a file that cannot be written.
    pub fn run(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match &self.command {
            ConfigCommand::Init(args) => args.run(&mut out),
            ConfigCommand::Check(sources) => check(sources, &mut out),
            ConfigCommand::Dump(args) => {
                let resolved = args.sources.sources().resolve().map_err(Unusable)?;
                if args.json {
                    writeln!(out, "{:#}", resolved.dump_json()).context("stdout")
                } else {
                    write!(out, "{}", resolved.dump()).context("stdout")
                }
            }
            ConfigCommand::Schema => writeln!(out, "{:#}", schema()).context("stdout"),
        }
    }
}

fn check(sources: &SourceArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let resolved = sources.sources().resolve().map_err(Unusable)?;
    for warning in &resolved.warnings {
        writeln!(out, "warning: {warning}").context("stdout")?;
    }
    write!(out, "{}", resolved.summary()).context("stdout")
}

impl InitArgs {
    fn run(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !self.region.chars().all(is_name) {
            anyhow::bail!("--region `{}` has something besides small letters, digits and -", self.region);
        }
        let secret_file = self.file.with_extension("secret");
        let name = secret_file.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.context("the file to write has no name")?;
        if let Some(there) = [&self.file, &secret_file].into_iter().find(|file| file.exists()) {
            anyhow::bail!("{} is there already, and is left as it is", there.display());
        }
        let text = template(&self.region, &name, &self.set).map_err(Unusable)?;
        let secret = random_hex::<32>().context("the system gives no random numbers for a secret")?;
        // The secret first: without it the file is of no use.
        create(&secret_file, 0o600, &format!("{secret}\n"))?;
        if let Err(error) = create(&self.file, 0o644, &text) {
            let _ = fs::remove_file(&secret_file);
            return Err(error);
        }
        let (file, secret) = (self.file.display(), secret_file.display());
        write!(
            out,
            "wrote {file}\nwrote {secret} (mode 600)\n\n\
             Start:    pinwire-node serve --config {file}\n\
             A token:  pinwire-node token mint --secret \"$(cat {secret})\" --region {}\n",
            self.region
        )
        .context("stdout")
    }
}

fn create(file: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let mut opened = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    opened.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
}
