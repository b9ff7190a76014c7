//! Flags: parsed here, laid over a preset or a file, and turned into a scenario and a list of outputs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::manual::{CompletionsArgs, ManualArgs};
use crate::plan::PlanArgs;
use crate::scenario::presets::{NAMES, preset};
use crate::scenario::{
    Arrivals, Auth, Dialect, Driver, Kind, Load, Scenario, Server, Silence, StagePlan, Trust, duration,
};
use crate::view::Choice;

/// A load generator for WebSocket servers that checks what it measures.
#[derive(Debug, Parser)]
#[command(name = "pinwire-loadgen", version, about, after_help = EXIT_CODES, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Other things than running a scenario.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A run.
    #[command(flatten)]
    pub run: RunArgs,
}

const EXIT_CODES: &str = "\
Exit codes: 0 good; 99 an assertion failed, or something was lost, duplicated, reordered, corrupted, forgotten or diverged; 98 the \
generator was the limit (verdict INVALID); 97 the target could not be reached or was lost; 2 the command line or the \
scenario is wrong.

Examples:
  pinwire-loadgen document --secret $SECRET --url ws://127.0.0.1:8080 --rate 1000 --duration 30s
  pinwire-loadgen raw --url ws://127.0.0.1:9001/echo --closed 16 --connections 1000 --bytes 20
  pinwire-loadgen idle --connections 18000 --sources 127.0.0.2-127.0.0.9 --server-pid $PID";

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The scenarios, a line each.
    List,
    /// The JSON Schema of result files.
    Schema,
    /// An agent: runs shares of loads that another host coordinates with --agents.
    Agent(AgentArgs),
    /// Result files of one load that ran on several hosts become one.
    Merge(MergeArgs),
    /// Result files side by side: exits with 99 if one of --fail-on holds.
    Compare(CompareArgs),
    /// What hosts need for so many connections: memory, cores, network, settings.
    Plan(PlanArgs),
    /// Print a shell's completions, for packagers.
    #[command(hide = true)]
    Completions(CompletionsArgs),
    /// Write manual pages into a directory, for packagers.
    #[command(hide = true)]
    Manual(ManualArgs),
}

/// Flags of `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where coordinators come in.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// What coordinators must know; PINWIRE_AGENT_TOKEN does not show in process lists. Needed unless on loopback.
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    agent_token: Option<String>,
    /// Addresses of this host to dial from, whatever the coordinator says.
    #[arg(long, value_delimiter = ',')]
    pub sources: Vec<String>,
    /// Serve the process that started this one, over its stdin.
    #[arg(long, hide = true)]
    pub inherited: bool,
}

impl AgentArgs {
    /// The token, wherever it was given.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        agent_token(self.agent_token.as_ref())
    }
}

fn agent_token(given: Option<&String>) -> Option<String> {
    given.cloned().or_else(|| std::env::var("PINWIRE_AGENT_TOKEN").ok()).filter(|token| !token.is_empty())
}

/// Flags of `merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Result files (--json) of runs that were started by hand at the same time.
    #[arg(required = true, num_args = 2..)]
    pub files: Vec<PathBuf>,
    /// What becomes of the results.
    #[command(flatten)]
    pub outputs: Outputs,
}

/// Flags of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Result files of one side; with two files and no --with, the second is the other side.
    #[arg(required = true)]
    pub base: Vec<PathBuf>,
    /// Result files of the other side.
    #[arg(long, num_args = 1..)]
    pub with: Vec<PathBuf>,
    /// What must not be: `p99>+10%`, `rate<-5%`, `server.cpu_us_per_delivery>+5%`.
    #[arg(long, value_name = "EXPR")]
    pub fail_on: Vec<String>,
}

/// Flags of a run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// One of the scenarios of `list`, or a file of one (.toml).
    #[arg(required = true)]
    pub scenario: Option<String>,
    /// Where to connect; several are taken in turn. NAME= before one names its region in results: `eu=ws://127.0.0.1:8080`.
    #[arg(long, help_heading = "Target", value_name = "[NAME=]URL")]
    pub url: Vec<String>,
    /// One token for all clients.
    #[arg(long, help_heading = "Target", conflicts_with_all = ["secret", "key"])]
    token: Option<String>,
    /// A token of its own for each client, signed with this secret (HS256).
    #[arg(long, help_heading = "Target", allow_hyphen_values = true, conflicts_with = "key")]
    secret: Option<String>,
    /// A token of its own for each client, signed with this PEM file.
    #[arg(long, help_heading = "Target", value_name = "FILE")]
    key: Option<String>,
    /// wss: certificates (PEM) that vouch for the server, instead of this host's
    #[arg(long, help_heading = "Target", value_name = "FILE")]
    ca: Option<String>,
    /// wss: believe every server
    #[arg(long, help_heading = "Target", conflicts_with = "ca")]
    insecure: bool,
    /// What documents speak.
    #[arg(long, help_heading = "Target", value_enum)]
    dialect: Option<DialectArg>,
    /// A further request header.
    #[arg(long, help_heading = "Target", value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A subprotocol to offer.
    #[arg(long, help_heading = "Target")]
    protocol: Vec<String>,
    /// Offer permessage-deflate.
    #[arg(long, help_heading = "Target")]
    deflate: bool,
    /// Prefix of document names.
    #[arg(long, help_heading = "Target")]
    document_prefix: Option<String>,
    /// Where documents are opened first (redirect).
    #[arg(long, help_heading = "Target", value_name = "URL")]
    home_url: Option<String>,
    /// Ask /discovery of a URL where a document is before dialling.
    #[arg(long, help_heading = "Target")]
    discover: bool,
    /// Connections in all.
    #[arg(long, short = 'c', help_heading = "Load")]
    connections: Option<u32>,
    /// Dials a second; as fast as it goes if not given.
    #[arg(long, help_heading = "Load")]
    connect_rate: Option<f64>,
    /// Dials under way at most.
    #[arg(long, help_heading = "Load")]
    dialling: Option<u32>,
    /// Sends a second over all senders (open model).
    #[arg(long, short = 'r', help_heading = "Load", conflicts_with_all = ["closed", "stages"])]
    rate: Option<f64>,
    /// Stages of an open load: `100@10s,100..1000@30s`.
    #[arg(long, help_heading = "Load", conflicts_with = "closed")]
    stages: Option<String>,
    /// Gaps between sends as of independent users.
    #[arg(long, help_heading = "Load")]
    poisson: bool,
    /// Closed model: so many sends under way for each sender.
    #[arg(long, help_heading = "Load", value_name = "IN FLIGHT")]
    closed: Option<u32>,
    /// How long to send, or to hold.
    #[arg(long, short = 'd', help_heading = "Load", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Not counted, before the load.
    #[arg(long, help_heading = "Load", value_parser = duration::parse)]
    warm_up: Option<Duration>,
    /// Longest wait for deliveries after the last send.
    #[arg(long, help_heading = "Load", value_parser = duration::parse)]
    drain: Option<Duration>,
    /// Deliveries later than this count as late.
    #[arg(long, help_heading = "Load", value_parser = duration::parse)]
    late_after: Option<Duration>,
    /// Longest time from a dial to joined.
    #[arg(long, help_heading = "Load", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Come back when a connection is lost, as stock clients do, and send what the server lacks.
    #[arg(long, help_heading = "Load")]
    redial: bool,
    /// Give up a connection on which nothing comes for so long: `30s` as stock clients do, or `5s..30s`, each client at a time of its own.
    #[arg(long, help_heading = "Load", value_name = "TIME[..TIME]", value_parser = Silence::from_str)]
    silence: Option<Silence>,
    #[command(flatten)]
    kind: KindArgs,
    /// Threads of load; 0: one for each core.
    #[arg(long, help_heading = "Generator")]
    threads: Option<u32>,
    /// Cores to bind the threads to.
    #[arg(long, help_heading = "Generator", value_delimiter = ',')]
    cores: Vec<usize>,
    /// How to talk to the kernel.
    #[arg(long, help_heading = "Generator", value_enum)]
    driver: Option<DriverArg>,
    /// Addresses to dial from, `127.0.0.2-127.0.0.40` or several.
    #[arg(long, help_heading = "Generator", value_delimiter = ',')]
    sources: Vec<String>,
    /// The same seed plans the same run, in the same documents.
    #[arg(long, help_heading = "Generator")]
    seed: Option<u64>,
    /// The server's process on this machine, to report its CPU and memory.
    #[arg(long, help_heading = "Generator", value_name = "PID")]
    server_pid: Option<u32>,
    /// Share the run out to so many processes on this machine.
    #[arg(long, help_heading = "Generator", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub processes: Option<u32>,
    /// Share the run out to agents on other hosts (see `agent`).
    #[arg(
        long,
        help_heading = "Generator",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        conflicts_with = "processes"
    )]
    pub agents: Vec<String>,
    /// What the agents want to know; PINWIRE_AGENT_TOKEN does not show in process lists.
    #[arg(long, help_heading = "Generator", value_name = "TOKEN", allow_hyphen_values = true)]
    agent_token: Option<String>,
    /// Run even if preflight says that it cannot work.
    #[arg(long, help_heading = "Generator")]
    pub force: bool,
    /// Search the highest rate at which this holds: `p99<5ms`. Begins with --rate.
    #[arg(long, help_heading = "Outcome", value_name = "EXPR")]
    pub search: Option<String>,
    /// What becomes of the results.
    #[command(flatten)]
    pub outputs: Outputs,
    /// What to see while it runs.
    #[arg(long, help_heading = "Outcome", value_enum, default_value_t)]
    view: Choice,
    /// The same as `--view json`.
    #[arg(long, help_heading = "Outcome", conflicts_with_all = ["view", "quiet"])]
    progress_json: bool,
    /// The same as `--view none`.
    #[arg(long, short = 'q', help_heading = "Outcome", conflicts_with = "view")]
    quiet: bool,
    /// Print the scenario as TOML instead of running it.
    #[arg(long, help_heading = "Outcome")]
    pub dump_scenario: bool,
}

/// What becomes of results.
#[derive(Debug, Args)]
pub struct Outputs {
    /// What must hold: `p99<5ms`, `errors=0`, `rate>=1000`.
    #[arg(long = "assert", help_heading = "Outcome", value_name = "EXPR")]
    pub assertions: Vec<String>,
    /// Write results as JSON (see `schema`).
    #[arg(long, help_heading = "Outcome", value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the seconds as CSV.
    #[arg(long, help_heading = "Outcome", value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the latencies of each second as an HdrHistogram log.
    #[arg(long, help_heading = "Outcome", value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Write a page with plots that needs nothing else.
    #[arg(long, help_heading = "Outcome", value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the verdict, the checks and the assertions as JUnit XML.
    #[arg(long, help_heading = "Outcome", value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// What only some kinds know.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of some scenarios")]
struct KindArgs {
    /// Documents.
    #[arg(long)]
    documents: Option<u32>,
    /// Members of a document.
    #[arg(long)]
    members: Option<u32>,
    /// Members who write.
    #[arg(long)]
    writers: Option<u32>,
    /// Bytes of text in an edit.
    #[arg(long)]
    edit_bytes: Option<u32>,
    /// Awareness changes a second and member.
    #[arg(long)]
    awareness_rate: Option<f64>,
    /// Bytes of an awareness state.
    #[arg(long)]
    awareness_bytes: Option<u32>,
    /// Members who read slowly.
    #[arg(long)]
    slow: Option<u32>,
    /// Bytes a second that they read.
    #[arg(long)]
    slow_bytes_per_second: Option<u64>,
    /// Exponent of Zipf's law.
    #[arg(long)]
    skew: Option<f64>,
    /// How long visitors stay.
    #[arg(long, value_parser = duration::parse)]
    stay: Option<Duration>,
    /// Edits a second and document beside the visitors.
    #[arg(long)]
    edit_rate: Option<f64>,
    /// How often all connections are cut.
    #[arg(long)]
    storms: Option<u32>,
    /// Who gets what is sent.
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// Bytes of a raw message.
    #[arg(long)]
    bytes: Option<u32>,
    /// Text frames.
    #[arg(long)]
    text: bool,
    /// Path of subscribers; `{n}` is the topic.
    #[arg(long)]
    subscribe_path: Option<String>,
    /// Topics.
    #[arg(long)]
    topics: Option<u32>,
    /// Publishers beside the subscribers, or among them (`--mode members`).
    #[arg(long)]
    publishers: Option<u32>,
    /// What publishers put before each message; `{n}` is the topic.
    #[arg(long)]
    publish_prefix: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DialectArg {
    YWebsocket,
    Hocuspocus,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DriverArg {
    Auto,
    Uring,
    Epoll,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    Echo,
    Broadcast,
    BroadcastAll,
    Members,
}

impl RunArgs {
    /// How the run shows itself.
    #[must_use]
    pub fn view(&self) -> Choice {
        match (self.quiet, self.progress_json) {
            (true, _) => Choice::None,
            (_, true) => Choice::Json,
            _ => self.view,
        }
    }

    /// The agents' token, wherever it was given.
    #[must_use]
    pub fn agent_token(&self) -> Option<String> {
        agent_token(self.agent_token.as_ref())
    }

    /// The scenario that these flags ask for.
    ///
    /// # Errors
    /// No such scenario, a file that is none, a flag that the scenario does not know.
    pub fn resolve(&self) -> Result<Scenario> {
        let name = self.scenario.as_deref().context("name a scenario: see `pinwire-loadgen list`")?;
        let mut scenario = match preset(name) {
            Some(scenario) => scenario,
            None if name.ends_with(".toml") => {
                let text =
                    std::fs::read_to_string(name).with_context(|| format!("the scenario file {name}"))?;
                crate::scenario::file::parse(&text).with_context(|| format!("the scenario file {name}"))?
            }
            None => bail!("no scenario `{name}`; there are {}, or give a file (.toml)", NAMES.join(", ")),
        };
        self.apply_target(&mut scenario);
        self.apply_load(&mut scenario)?;
        self.kind.apply(&mut scenario)?;
        self.apply_generator(&mut scenario);
        scenario.settle();
        let problems = scenario.problems();
        ensure!(problems.is_empty(), "the scenario cannot be run:\n  {}", problems.join("\n  "));
        Ok(scenario)
    }

    fn apply_target(&self, scenario: &mut Scenario) {
        let target = &mut scenario.target;
        if !self.url.is_empty() {
            target.urls.clone_from(&self.url);
        }
        if let Some(token) = &self.token {
            target.auth = Auth::Token(token.clone());
        } else if let Some(secret) = &self.secret {
            target.auth = Auth::Secret(secret.clone());
        } else if let Some(key) = &self.key {
            target.auth = Auth::Key(key.clone());
        }
        match (&self.ca, self.insecure) {
            (Some(file), _) => target.trust = Trust::Roots(file.clone()),
            (None, true) => target.trust = Trust::Anybody,
            (None, false) => {}
        }
        match self.dialect {
            Some(DialectArg::YWebsocket) => target.dialect = Dialect::YWebsocket,
            Some(DialectArg::Hocuspocus) => target.dialect = Dialect::Hocuspocus,
            None => {}
        }
        target.headers.extend(self.header.iter().cloned());
        target.protocols.extend(self.protocol.iter().cloned());
        target.deflate |= self.deflate;
        target.discover |= self.discover;
        set(&mut target.document_prefix, self.document_prefix.as_ref());
    }

    fn apply_load(&self, scenario: &mut Scenario) -> Result<()> {
        set(&mut scenario.clients.count, self.connections.as_ref());
        set(&mut scenario.clients.dialling, self.dialling.as_ref());
        scenario.clients.redial |= self.redial;
        scenario.clients.silence = self.silence.or(scenario.clients.silence);
        set(&mut scenario.clients.timeout, self.timeout.as_ref());
        scenario.clients.rate = self.connect_rate.or(scenario.clients.rate);
        set(&mut scenario.warm_up, self.warm_up.as_ref());
        set(&mut scenario.drain, self.drain.as_ref());
        set(&mut scenario.late_after, self.late_after.as_ref());
        if let Some(in_flight) = self.closed {
            let duration = self.duration.unwrap_or(Duration::from_secs(10));
            scenario.load = Load::Closed { in_flight, duration };
            return Ok(());
        }
        if let Kind::Idle { hold, .. } = &mut scenario.kind {
            set(hold, self.duration.as_ref());
            return Ok(());
        }
        match &mut scenario.load {
            Load::Closed { duration, .. } => set(duration, self.duration.as_ref()),
            Load::Open { stages, arrivals } => {
                if let Some(text) = &self.stages {
                    *stages = parse_stages(text)?;
                }
                for stage in stages.iter_mut() {
                    if let Some(rate) = self.rate {
                        (stage.from, stage.to) = (rate, rate);
                    }
                    set(&mut stage.duration, self.duration.as_ref());
                }
                if self.poisson {
                    *arrivals = Arrivals::Poisson;
                }
            }
        }
        Ok(())
    }

    fn apply_generator(&self, scenario: &mut Scenario) {
        let generator = &mut scenario.generator;
        set(&mut generator.threads, self.threads.as_ref());
        set(&mut generator.seed, self.seed.as_ref());
        if self.seed.is_none() && preset(self.scenario.as_deref().unwrap_or_default()).is_some() {
            // Runs that nobody asked to repeat must not meet in the same documents.
            generator.seed = fastrand::u64(..u64::from(u32::MAX));
        }
        if !self.cores.is_empty() {
            generator.cores.clone_from(&self.cores);
        }
        if !self.sources.is_empty() {
            generator.sources.clone_from(&self.sources);
        }
        match self.driver {
            Some(DriverArg::Auto) => generator.driver = Driver::Auto,
            Some(DriverArg::Uring) => generator.driver = Driver::Uring,
            Some(DriverArg::Epoll) => generator.driver = Driver::Epoll,
            None => {}
        }
        if let Some(pid) = self.server_pid {
            scenario.server = Some(Server { pid });
        }
        if let (Kind::Redirect { home_url }, Some(url)) = (&mut scenario.kind, &self.home_url) {
            home_url.clone_from(url);
        }
    }
}

fn set<T: Clone>(place: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        place.clone_from(value);
    }
}

impl KindArgs {
    /// Lays what was given over the kind; a flag that the kind does not know is an error.
    fn apply(&self, scenario: &mut Scenario) -> Result<()> {
        let name = scenario.name();
        // The kind is a table with a field for each of its flags, by the same names.
        let mut table = toml::Table::try_from(&scenario.kind)?;
        let text = |value: &Option<String>| value.clone().map(toml::Value::String);
        let integer = |value: Option<u32>| value.map(|value| toml::Value::Integer(value.into()));
        let given: [(&str, Option<toml::Value>); 19] = [
            ("documents", integer(self.documents)),
            ("members", integer(self.members)),
            ("writers", integer(self.writers)),
            ("edit_bytes", integer(self.edit_bytes)),
            ("awareness_rate", self.awareness_rate.map(toml::Value::Float)),
            ("awareness_bytes", integer(self.awareness_bytes)),
            ("slow", integer(self.slow)),
            (
                "slow_bytes_per_second",
                self.slow_bytes_per_second.map(|bytes| toml::Value::Integer(bytes as i64)),
            ),
            ("skew", self.skew.map(toml::Value::Float)),
            ("stay", self.stay.map(|stay| toml::Value::String(duration::format(stay)))),
            ("edit_rate", self.edit_rate.map(toml::Value::Float)),
            ("storms", integer(self.storms)),
            ("mode", self.mode.map(|mode| toml::Value::String(mode.name().into()))),
            ("bytes", integer(self.bytes)),
            ("text", self.text.then_some(toml::Value::Boolean(true))),
            ("subscribe_path", text(&self.subscribe_path)),
            ("topics", integer(self.topics)),
            ("publishers", integer(self.publishers)),
            ("publish_prefix", text(&self.publish_prefix)),
        ];
        let members_is_of = table.contains_key("documents_of");
        for (field, value) in given {
            let Some(value) = value else { continue };
            let field = if field == "members" && members_is_of { "documents_of" } else { field };
            // An option that is none is not in the table.
            let is_known = table.contains_key(field) || (field == "subscribe_path" && name == "raw");
            ensure!(
                is_known,
                "--{} means nothing to `{name}`, which knows {}",
                field.replace('_', "-"),
                table.keys().filter(|key| *key != "name").cloned().collect::<Vec<_>>().join(", ")
            );
            table.insert(field.to_owned(), value);
        }
        scenario.kind = table.try_into().with_context(|| format!("flags of `{name}`"))?;
        // One writer more than there are members is what a smaller --members leaves of the preset.
        if let Kind::Document { members, writers, .. } = &mut scenario.kind
            && self.writers.is_none()
        {
            *writers = (*writers).min(*members);
        }
        Ok(())
    }
}

impl ModeArg {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Broadcast => "broadcast",
            Self::BroadcastAll => "broadcast-all",
            Self::Members => "members",
        }
    }
}

/// `100@10s,100..1000@30s`.
fn parse_stages(text: &str) -> Result<Vec<StagePlan>> {
    text.split(',')
        .map(|stage| {
            let wrong = || format!("--stages: `{stage}` is no stage; write it as 100@10s or 100..1000@30s");
            let (rates, time) = stage.trim().split_once('@').with_context(wrong)?;
            let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
            Ok(StagePlan {
                name: None,
                from: from.trim().parse().with_context(wrong)?,
                to: to.trim().parse().with_context(wrong)?,
                duration: duration::parse(time).map_err(anyhow::Error::msg).with_context(wrong)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: &[&str]) -> Result<Scenario> {
        let all = std::iter::once("pinwire-loadgen").chain(args.iter().copied());
        Cli::try_parse_from(all)?.run.resolve()
    }

    #[test]
    fn flags_are_laid_over_the_preset() {
        let scenario =
            resolve(&["document", "--documents", "5", "--members", "4", "--rate", "50", "-d", "3s"]).unwrap();
        assert_eq!(scenario.clients.count, 20);
        assert_eq!(scenario.load_duration(), Duration::from_secs(4));
        let idle = resolve(&["idle", "-c", "100", "--members", "5", "-d", "1m30s"]).unwrap();
        assert!(matches!(idle.kind, Kind::Idle { documents_of: 5, hold, .. } if hold.as_secs() == 90));
    }

    #[test]
    fn a_flag_of_another_scenario_is_an_error_that_names_what_there_is() {
        let error = resolve(&["fanout", "--storms", "3"]).unwrap_err().to_string();
        assert!(error.contains("--storms") && error.contains("edit_bytes"), "{error}");
        assert!(resolve(&["nothing"]).unwrap_err().to_string().contains("slow-reader"));
    }

    #[test]
    fn stages_are_read_and_a_wrong_one_is_shown() {
        let stages = parse_stages("100@10s, 100..1000@1m").unwrap();
        assert_eq!((stages.len(), stages[1].to), (2, 1000.0));
        assert!(parse_stages("100@10s,fast").unwrap_err().to_string().contains("`fast`"));
    }

    #[test]
    fn what_is_dumped_is_read_back() {
        for name in NAMES {
            let scenario = preset(name).unwrap();
            let text = toml::to_string(&scenario).unwrap();
            assert_eq!(crate::scenario::file::parse(&text).unwrap(), scenario, "{name}");
        }
    }
}
