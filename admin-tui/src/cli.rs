//! Flags, and what they begin.

use std::collections::HashSet;
use std::io::{self, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tokio::sync::mpsc::Receiver;

use crate::app::{App, Kind, Options, Screen};
use crate::client::{Fleet, FleetOptions, Trust, TrustFiles, Update, What};
use crate::config::{File, Goal, Wanted};
use crate::keys::Keys;
use crate::list::{List, full_name};
use crate::once::{self, Form, Quiet};
use crate::record::{Player, Recorder, Redaction, bundle, write_new};
use crate::run::{Contexts, Elsewhere, Source, interactive, now};
use crate::theme::{Graphics, Palette, Theme};

/// Documents at the top of each node that are followed.
const DOCUMENTS: usize = 100;

/// The terminal console of Pinwire: regions, nodes, pins and what is wrong right now.
///
/// It talks to the admin API of one or several nodes, and finds the others of a cluster from them. It only looks, unless --rw lets it act.
#[derive(Debug, Parser)]
#[command(name = "pinwire-admin", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Subcommands>,
    /// A node: http://HOST:PORT, https://HOST:PORT or unix:PATH; several times for several
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// A context of the configuration
    #[arg(short, long, value_name = "NAME")]
    context: Option<String>,
    /// The file with the node's admin token; without it the variable `PINWIRE_ADMIN_TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Authorities to believe in place of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A certificate of one's own, for mutual TLS
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// How other nodes are found: peers, off, or a pattern with {name}, {region}, {host}
    #[arg(long, value_name = "HOW")]
    discover: Option<String>,
    /// The configuration, in place of ~/.config/pinwire/admin.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Allows actions: drain, move, close, unpin, log level
    #[arg(long)]
    rw: bool,
    /// The view to begin with, or to print
    #[arg(long, value_name = "VIEW", value_parser = view)]
    view: Option<Kind>,
    /// Rows that are shown: words, region=eu, occ>80, app=~^a, -f letters
    #[arg(long, value_name = "TERMS", allow_hyphen_values = true)]
    filter: Option<String>,
    /// The field by which they are sorted, and desc or asc
    #[arg(long, value_name = "FIELD")]
    sort: Option<String>,
    /// The document that the view `document` is about: TENANT::APP::NAME
    #[arg(long, value_name = "NAME")]
    document: Option<String>,
    /// Prints the view once and ends: 0 all nodes reached, 1 some, 3 none
    #[arg(long, conflicts_with = "stream")]
    once: bool,
    /// How it is printed
    #[arg(short, long, value_enum, value_name = "FORMAT", requires = "once")]
    output: Option<Form>,
    /// How long to wait for nodes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Prints the view each second, as a line of JSON
    #[arg(long)]
    stream: bool,
    /// So many lines of --stream
    #[arg(long, value_name = "N", requires = "stream")]
    count: Option<u64>,
    /// Records all that nodes tell
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Shows a recording in place of nodes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["record", "url", "context", "rw", "once", "stream", "bundle"])]
    replay: Option<PathBuf>,
    /// Writes a redacted support bundle and ends
    #[arg(long, value_name = "FILE", conflicts_with_all = ["once", "stream"])]
    bundle: Option<PathBuf>,
    /// Colours
    #[arg(long, value_enum, value_name = "NAME")]
    theme: Option<Palette>,
    /// What the terminal can draw; found out without it
    #[arg(long, value_enum, value_name = "WHAT")]
    graphics: Option<Graphics>,
    /// Leaves the mouse to the terminal
    #[arg(long)]
    no_mouse: bool,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Lists the contexts of the configuration
    Contexts {
        /// The configuration, in place of ~/.config/pinwire/admin.toml
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Prints completions for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Writes the manual page into a directory
    Manual {
        /// The directory
        directory: PathBuf,
    },
}

fn view(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind);
    found.ok_or_else(|| format!("there are {}", Kind::ALL.map(|(_, name)| name).join(", ")))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Cli {
    /// Does what the flags say.
    ///
    /// # Errors
    /// What cannot be done, in words.
    pub fn run(self) -> Result<ExitCode> {
        if let Some(command) = &self.command {
            command.run()?;
            return Ok(ExitCode::SUCCESS);
        }
        let file = File::read(self.config.as_deref(), &variable)?;
        if let Some(path) = &self.replay {
            let player = Player::open(path)?;
            let mut app = self.app(&file, &path.display().to_string(), crate::client::Discovery::Off)?;
            self.aim(&mut app)?;
            interactive(app, Source::Replay(player), self.contexts(&file), None, self.with_mouse(&file))?;
            return Ok(ExitCode::SUCCESS);
        }
        let goal = file.goal(&self.wanted(), &variable)?;
        let mut app = self.app(&file, &goal.name, goal.discovery.clone())?;
        self.aim(&mut app)?;
        let list = app.list();
        if self.output == Some(Form::Prometheus) && list.is_some_and(List::is_of_texts) {
            bail!(
                "--output prometheus: {} are texts, and no numbers; json, csv and table have them",
                list.map_or("", List::name)
            );
        }
        if (self.once || self.stream) && list.is_none() && self.output != Some(Form::Nagios) {
            bail!("--view overview is a picture: name a list with --view, such as nodes or pins");
        }
        let recorder = self.record.as_deref().map(|path| Recorder::create(path, now())).transpose()?;
        let (fleet, updates) = start(&goal)?;
        let seen = watch(&mut app, &fleet, &goal);
        drop(seen);
        if !self.once && !self.stream && self.bundle.is_none() {
            let source = Source::Live(fleet, updates);
            interactive(app, source, self.contexts(&file), recorder, self.with_mouse(&file))?;
            return Ok(ExitCode::SUCCESS);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let quiet = Quiet::new(app, fleet, updates, recorder);
        runtime.block_on(self.quietly(quiet)).map(ExitCode::from)
    }

    /// The other clusters of the configuration, for who goes from one to another. What flags said was of the first.
    fn contexts(&self, file: &File) -> Contexts {
        let file = file.clone();
        Contexts::new(move |name| {
            let wanted = Wanted { context: Some(name.to_owned()), ..Wanted::default() };
            let goal = file.goal(&wanted, &variable)?;
            let (fleet, updates) = start(&goal)?;
            Ok(Elsewhere { goal, fleet, updates })
        })
    }

    async fn quietly(&self, mut quiet: Quiet) -> Result<u8> {
        if self.stream {
            let list = quiet.app.list().ok_or_else(|| anyhow!("--view names no list"))?;
            return once::stream(quiet, list, self.count, stdout().lock()).await;
        }
        quiet.gather(Duration::from_secs(self.timeout)).await;
        let now = now();
        let reached = quiet.reached(now);
        quiet.app.arrange(now);
        if let Some(path) = &self.bundle {
            write_new(path, &bundle(&quiet.app.model, &Redaction::new()?, now)?)?;
            return Ok(reached);
        }
        let list = quiet.app.list().unwrap_or(List::Nodes);
        match once::write(
            &mut quiet.app,
            list,
            self.output.unwrap_or_default(),
            reached,
            &mut stdout().lock(),
            now,
        ) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => {
                let code = other?;
                self.tell_lost(&quiet.app);
                return Ok(code);
            }
        }
        Ok(reached)
    }

    /// On stderr, so that what is printed stays what was asked for.
    fn tell_lost(&self, app: &App) {
        for (_, node) in app.model.nodes() {
            if let crate::model::Link::Lost { why, .. } = &node.link {
                eprintln!("{}: {why}", node.address());
            }
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            context: self.context.clone(),
            urls: self.url.clone(),
            token_file: self.token_file.clone(),
            trust: TrustFiles { ca: self.ca.clone(), certificate: self.cert.clone(), key: self.key.clone() },
            discover: self.discover.clone(),
        }
    }

    fn with_mouse(&self, file: &File) -> bool {
        !self.no_mouse && file.mouse != Some(false)
    }

    fn app(&self, file: &File, name: &str, discovery: crate::client::Discovery) -> Result<App> {
        let is_plain = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let palette = self.theme.or(file.theme).unwrap_or_default();
        let palette = if is_plain { Palette::Mono } else { palette };
        let graphics = self.graphics.or(file.graphics).unwrap_or_else(Graphics::of_environment);
        Ok(App::new(Options {
            may_act: self.rw,
            discovery,
            context: name.to_owned(),
            is_replay: self.replay.is_some(),
            theme: Theme::new(palette, graphics),
            is_plain,
            keys: Keys::with(&file.keys).map_err(|why| anyhow!(why))?,
        }))
    }

    /// Goes to the view that is wanted.
    fn aim(&self, app: &mut App) -> Result<()> {
        let default = if self.once || self.stream { Kind::Nodes } else { Kind::Overview };
        app.screen = Screen::of(self.view.unwrap_or(default));
        if self.bundle.is_some() {
            app.screen = Screen::of(Kind::Logs);
        }
        if let Some(name) = &self.document {
            let name = full_name(name).ok_or_else(|| anyhow!("--document: write TENANT::APP::NAME"))?;
            app.screen.document = Some(name);
        } else if app.screen.kind == Kind::Document {
            bail!("--view document needs --document TENANT::APP::NAME");
        }
        let commands = [("filter", &self.filter), ("sort", &self.sort)];
        for (command, text) in commands {
            let Some(text) = text else { continue };
            app.command(&format!("{command} {text}"), 0);
            if let Some((slip, _)) = app.notice.take() {
                bail!("--{command}: {slip}");
            }
        }
        Ok(())
    }
}

fn start(goal: &Goal) -> Result<(Fleet, Receiver<Update>)> {
    let options =
        FleetOptions { trust: Trust::read(&goal.trust)?, token: goal.token.clone(), documents: DOCUMENTS };
    Fleet::start(options).context("no thread for the network")
}

fn watch(app: &mut App, fleet: &Fleet, goal: &Goal) -> HashSet<crate::client::Address> {
    let mut seen = HashSet::new();
    for address in &goal.addresses {
        if seen.insert(address.clone()) {
            app.update(Update { node: address.clone(), what: What::Watched }, now());
            fleet.watch(address.clone());
        }
    }
    seen
}

impl Subcommands {
    fn run(&self) -> Result<()> {
        match self {
            Self::Contexts { config } => {
                let file = File::read(config.as_deref(), &variable)?;
                let mut out = String::new();
                for (name, context) in &file.contexts {
                    let mark = if file.current.as_ref() == Some(name) { "*" } else { " " };
                    let urls: Vec<String> = context.urls.iter().map(ToString::to_string).collect();
                    out.push_str(&format!("{mark} {name}  {}\n", urls.join(" ")));
                }
                io::Write::write_all(&mut stdout(), out.as_bytes())?;
            }
            Self::Completions { shell } => {
                let mut command = Cli::command();
                let name = command.get_name().to_owned();
                clap_complete::generate(*shell, &mut command, name, &mut stdout());
            }
            Self::Manual { directory } => {
                std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
                clap_mangen::generate_to(Cli::command(), directory)
                    .with_context(|| directory.display().to_string())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_hang_together() {
        Cli::command().debug_assert();
        for flags in
            [&["--replay", "a", "--rw"][..], &["-o", "json"], &["--once", "--stream"], &["--view", "nosuch"]]
        {
            let all = std::iter::once("pinwire-admin").chain(flags.iter().copied());
            assert!(Cli::try_parse_from(all).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn a_filter_may_begin_with_letters_in_their_order() {
        let flags = ["pinwire-admin", "--once", "--view", "pins", "--filter", "-f rdmp", "-o", "csv"];
        let cli = Cli::try_parse_from(flags).unwrap();
        let mut app = cli.app(&File::default(), "", crate::client::Discovery::Off).unwrap();
        cli.aim(&mut app).unwrap();
        assert_eq!((app.pane().filter_text.as_str(), cli.output), ("-f rdmp", Some(Form::Csv)));
    }

    #[test]
    fn a_slip_in_a_filter_ends_the_program_with_its_reason() {
        let cli =
            Cli::try_parse_from(["pinwire-admin", "--once", "--view", "nodes", "--filter", "occ>x"]).unwrap();
        let mut app = cli.app(&File::default(), "", crate::client::Discovery::Off).unwrap();
        assert!(cli.aim(&mut app).unwrap_err().to_string().contains("no number"));
    }
}
