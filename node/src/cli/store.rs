//! `store`: looking at the documents that a node left on disk, while none uses them.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use pinwire_store::{Damage, Entry, Files, Options, Recovered, Which, recover};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::serve::{SourceArgs, Unusable};
use crate::store::StoreConfig;

/// Flags of `store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// What to do with the store.
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Read everything: exit status 0 if nothing is damaged, else 2. What is damaged is told, and its file set aside.
    Check(FolderArgs),
    /// List the documents that are kept.
    List(ListArgs),
    /// Remove documents for good; their bytes are overwritten.
    Erase(EraseArgs),
}

#[derive(Debug, Args)]
struct FolderArgs {
    /// The store's folder [default: the configuration's `store.path`].
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
    #[command(flatten)]
    sources: SourceArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Only those whose names (`TENANT::APP::NAME`) begin so.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false, args = ["document", "app"])]
struct EraseArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// The document of this name (`TENANT::APP::NAME`).
    #[arg(long, value_name = "NAME")]
    document: Option<String>,
    /// Every document of an app (`TENANT::APP`).
    #[arg(long, value_name = "APP")]
    app: Option<String>,
}

impl StoreArgs {
    /// Does it.
    ///
    /// # Errors
    /// A folder that is no store or is in use, or a configuration that cannot be used.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout().lock();
        match &self.command {
            StoreCommand::Check(args) => check(&args.open()?, &mut out),
            StoreCommand::List(args) => args.run(&mut out),
            StoreCommand::Erase(args) => args.run(&mut out),
        }
    }
}

impl FolderArgs {
    fn open(&self) -> anyhow::Result<Recovered> {
        let folder = match &self.path {
            Some(path) => path.clone(),
            None => match self.sources.sources().resolve().map_err(Unusable)?.config.store {
                StoreConfig::File(file) => file.folder,
                StoreConfig::Memory => {
                    bail!("the configuration keeps nothing on disk: store.path is not set")
                }
            },
        };
        if !folder.is_dir() {
            bail!("{} is not there: a node makes it when it starts with store.path", folder.display());
        }
        let of = |path: &Path| fs::metadata(path).with_context(|| format!("{}", path.display()));
        if !folder.join("documents.db").is_file() {
            bail!("{} has no documents.db: it is no store, or no node has used it yet", folder.display());
        }
        let (owner, me) = (of(&folder)?.uid(), rustix::process::geteuid().as_raw());
        if owner != me {
            // What this makes anew the node could not open.
            bail!(
                "{} belongs to user {owner}, and this is user {me}: run it as that user, as in \
                 `sudo -u pinwire pinwire-node store ...`",
                folder.display()
            );
        }
        Ok(recover(&folder, Box::new(Files), Options::default())?)
    }
}

/// What was damaged, on stderr: the status that goes with it.
fn tell(damages: &[Damage]) -> ExitCode {
    for damage in damages {
        let _ = writeln!(io::stderr(), "damaged: {damage}");
    }
    if damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn check(recovered: &Recovered, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut damages = recovered.damages.clone();
    let entries = recovered.table.entries(Which::Prefixed(""))?;
    for Entry { name, .. } in &entries {
        damages.extend(recovered.table.load(name, &[])?.damages);
    }
    if !damages.is_empty() {
        return Ok(tell(&damages));
    }
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    writeln!(out, "good: {} documents, {bytes} bytes", entries.len()).context("stdout")?;
    Ok(ExitCode::SUCCESS)
}

impl ListArgs {
    fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let recovered = self.folder.open()?;
        let status = tell(&recovered.damages);
        let entries = recovered.table.entries(Which::Prefixed(&self.prefix))?;
        let ended = |entry: &Entry| entry.ended_at.and_then(date);
        if self.json {
            let listed: Vec<_> = entries
                .iter()
                .map(|entry| json!({ "name": entry.name, "bytes": entry.bytes, "ended": ended(entry) }))
                .collect();
            writeln!(out, "{:#}", json!(listed)).context("stdout")?;
            return Ok(status);
        }
        for entry in &entries {
            let ended = ended(entry).unwrap_or_else(|| "-".to_owned());
            writeln!(out, "{:>12} {ended:20} {}", entry.bytes, entry.name).context("stdout")?;
        }
        Ok(status)
    }
}

fn date(unix_seconds: u64) -> Option<String> {
    let seconds = i64::try_from(unix_seconds).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

impl EraseArgs {
    fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let prefix = self.app.as_ref().map(|app| format!("{app}::"));
        let which = match (&self.document, &prefix) {
            (Some(document), _) if document.matches("::").count() >= 2 => Which::Named(document),
            (Some(_), _) => bail!("--document has to be TENANT::APP::NAME; `store list` shows them"),
            (None, Some(prefix)) if prefix.matches("::").count() == 2 => Which::Prefixed(prefix),
            _ => bail!("--app has to be TENANT::APP"),
        };
        let mut recovered = self.folder.open()?;
        let status = tell(&recovered.damages);
        let removed = recovered.table.erase(which)?;
        writeln!(out, "removed {removed} documents").context("stdout")?;
        if removed == 0 {
            bail!("there was none of this name; `store list` shows what there is");
        }
        Ok(status)
    }
}
