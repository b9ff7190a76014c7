//! A cluster with clients that write, and what has to hold when all is over.

use super::http::{Http, metric};
use super::load::{Load, Shape};
use super::network::Network;
use super::options::Plan;
use super::outcome::Outcome;
use super::scenarios::Scenario;
use super::watch::{self, Rules, Watch};
use crate::cluster::{Cluster, Options, REGISTRY, nap};
use crate::shell::{command, stdout, target_dir};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For what has to come about, beside leases and graces; builds may run on the same machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is run.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) node: PathBuf,
    pub(super) loadgen: PathBuf,
}

/// What nodes go by, short or as it is in the field. No client is left without a word for so long that it would give up: not one that
/// writes itself either, which is not pinged.
struct Times {
    lease: Duration,
    grace: Duration,
    settings: &'static [&'static str],
}

const SHORT: Times = Times {
    lease: Duration::from_secs(6),
    grace: Duration::from_secs(3),
    settings: &[
        "cluster.lease=6s",
        "cluster.renew=1s",
        "cluster.probe_interval=1s",
        "deadlines.grace=3s",
        "deadlines.ping=1s",
        "deadlines.idle_frame=1s",
    ],
};
const USUAL: Times = Times {
    lease: Duration::from_secs(20),
    grace: Duration::from_secs(10),
    settings: &["deadlines.ping=5s", "deadlines.idle_frame=5s"],
};

/// How often every node is asked for all pins.
const WATCHED_EVERY: Duration = Duration::from_millis(250);
const WATCHED_EVERY_LONG: Duration = Duration::from_secs(1);
/// Beside a lease, for nodes to notice that a registry has forgotten something: until it is the master, and they renew.
const HEALING: Duration = Duration::from_secs(10);
/// Answers without which nothing was watched.
const WATCHED_LEAST: u64 = 10;

/// What is told lags behind: what holds for so long holds.
const STEADY: Duration = Duration::from_secs(3);

/// An app, as `/usage` is asked for it.
struct App {
    name: String,
    token: String,
}

/// See the module's documentation.
pub(super) struct Rig<'a> {
    pub(super) plan: &'a Plan,
    pub(super) programs: &'a Programs,
    // What needs something ends before it.
    pub(super) loads: Vec<Load>,
    pub(super) cluster: Cluster,
    network: Option<Network>,
    pub(super) outcome: Outcome,
    times: &'static Times,
    /// Nodes carry sessions to other regions.
    is_relay: bool,
    /// Nodes that do not run, or do not answer, by their numbers.
    away: BTreeSet<usize>,
    /// A region takes documents over that another one had: what was acknowledged there is not here until clients bring it.
    pub(super) is_taken_over: bool,
    apps: BTreeMap<&'static str, App>,
    /// Until nodes end.
    watch: Option<Watch>,
    began: Instant,
}

impl<'a> Rig<'a> {
    /// Starts the cluster that a scenario wants.
    pub(super) fn start(scenario: &Scenario, plan: &'a Plan, programs: &'a Programs) -> Result<Self> {
        let began = Instant::now();
        let mut options = Options::default();
        (options.layout, options.silence) = (scenario.layout, scenario.silence);
        (options.is_relay, options.nodes) = (scenario.is_relay, scenario.nodes);
        let network = match scenario.is_split {
            true => Some(Network::new()?),
            false => None,
        };
        if let Some(network) = &network {
            let mut regions = options.region_names();
            let last = regions.pop().unwrap_or_default();
            options.sites.insert(last, network.region());
            for other in regions.into_iter().chain([REGISTRY.to_owned()]) {
                options.sites.insert(other, network.world());
            }
        }
        let times = if plan.is_long { &USUAL } else { &SHORT };
        options.settings.extend(times.settings.iter().map(|setting| (*setting).to_owned()));
        let cluster = Cluster::start(&options, &programs.node)?;
        let rules = Rules {
            every: if plan.is_long { WATCHED_EVERY_LONG } else { WATCHED_EVERY },
            heals_within: scenario.is_forgetful.then_some(times.lease + HEALING),
        };
        let watch = Watch::start(&cluster, rules)?;
        let outcome = Outcome { scenario: scenario.name, ..Outcome::default() };
        let (loads, away, apps) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        Ok(Self {
            plan,
            programs,
            loads,
            cluster,
            network,
            outcome,
            times,
            is_relay: scenario.is_relay,
            away,
            is_taken_over: false,
            apps,
            watch: Some(watch),
            began,
        })
    }

    /// The network that the last region has for itself.
    pub(super) fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("all regions are in one network")
    }

    pub(super) fn lease(&self) -> Duration {
        self.times.lease
    }

    pub(super) fn grace(&self) -> Duration {
        self.times.grace
    }

    /// All nodes as clients dial them, those of different regions in turn.
    pub(super) fn urls(&self) -> Vec<(String, String)> {
        let nodes = &self.cluster.nodes;
        let half = nodes.len() / 2;
        let turns = (0..half).flat_map(|at| [at, at + half]);
        turns.map(|at| (nodes[at].region.clone(), nodes[at].url())).collect()
    }

    /// Clients come to these nodes, and write from now on.
    pub(super) fn write(&mut self, shapes: Vec<Shape>, urls: &[(String, String)]) -> Result<()> {
        for shape in shapes {
            self.start_load(shape, urls, &[])?;
        }
        self.wait_until_writing()
    }

    /// Clients are on their way to these nodes; `more` are arguments of the load generator.
    pub(super) fn start_load(
        &mut self,
        shape: Shape,
        urls: &[(String, String)],
        more: &[&str],
    ) -> Result<()> {
        let (secret, folder) = (&self.cluster.nodes[0].shared.secret, self.cluster.folder());
        self.loads.push(Load::start(&self.programs.loadgen, shape, secret, urls, more, folder)?);
        Ok(())
    }

    /// Waits until all of them have joined, and write.
    pub(super) fn wait_until_writing(&mut self) -> Result<()> {
        self.loads.iter_mut().try_for_each(Load::wait_until_writing)?;
        self.know_apps()
    }

    /// Clients write for a while.
    pub(super) fn hold(&self) -> Result<()> {
        let began = Instant::now();
        let seconds: Vec<u64> = self.loads.iter().map(Load::second).collect();
        let wanted = self.plan.hold.as_secs();
        let has_held =
            || self.loads.iter().zip(&seconds).all(|(load, first)| load.second() >= first + wanted);
        while !has_held() || began.elapsed() < self.plan.hold {
            ensure!(began.elapsed() < self.plan.hold + PATIENCE, "the load generator stands still");
            nap();
        }
        Ok(())
    }

    /// Waits for something, for so long beside [`PATIENCE`]; what goes wrong meanwhile is tried again.
    pub(super) fn wait(
        &mut self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let seen = holds(self);
            if matches!(seen, Ok(true)) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > within + PATIENCE {
                match seen {
                    Ok(_) => bail!("{what}: not within {} s", began.elapsed().as_secs()),
                    Err(error) => return Err(error.context(format!("{what}: not in time"))),
                }
            }
            for _ in 0..10 {
                nap();
            }
        }
    }

    /// Waits until every client is connected, and every node that answers says so of the whole system, exactly. With a relay some have
    /// to be carried then.
    pub(super) fn wait_until_all_are_back(&mut self, note: &str) -> Result<()> {
        let carried = self.wait_for_all(note)?;
        self.outcome.demand(carried != Some(0.0), || format!("{note}: no session is carried"));
        Ok(())
    }

    /// The same where it is chance whether somebody is carried. Gives how many are, with a relay.
    pub(super) fn wait_for_all(&mut self, note: &str) -> Result<Option<f64>> {
        let within = self.lease() * 2 + self.grace();
        let what = "all clients are back, and /usage is exact";
        let took = self.wait_steadily(what, within, Self::check_all_are_back)?;
        self.outcome.note(format!("{note}: all back, and /usage exact, after {:.1} s", took.as_secs_f64()));
        if !self.is_relay {
            return Ok(None);
        }
        // Both ends of each count it.
        let carried = self.sum("pinwire_relayed_sessions")? / 2.0;
        self.outcome.note(format!("{carried} sessions are carried to another region"));
        Ok(Some(carried))
    }

    /// Waits until something holds, and goes on to do so; how long until it did.
    pub(super) fn wait_steadily(
        &mut self,
        what: &str,
        within: Duration,
        check: impl Fn(&Self) -> Result<()>,
    ) -> Result<Duration> {
        let mut since: Option<Instant> = None;
        let took = self.wait(what, within + STEADY, |rig| {
            if let Err(error) = check(rig) {
                since = None;
                return Err(error);
            }
            Ok(since.get_or_insert_with(Instant::now).elapsed() >= STEADY)
        })?;
        Ok(took.saturating_sub(STEADY))
    }

    /// Every client is connected, wherever.
    pub(super) fn check_all_are_connected(&self) -> Result<()> {
        for load in &self.loads {
            let (clients, open) = (u64::from(load.shape.clients), load.open());
            ensure!(open == clients, "{}: {open} of {clients} clients are connected", load.shape.name);
        }
        Ok(())
    }

    fn check_all_are_back(&self) -> Result<()> {
        self.check_all_are_connected()?;
        for load in &self.loads {
            let (clients, documents) = (u64::from(load.shape.clients), u64::from(load.shape.documents()));
            for usage in self.usage(load.shape.name)? {
                ensure!(usage == (clients, documents), "/usage says {usage:?}, not {clients}, {documents}");
            }
        }
        Ok(())
    }

    /// Connections and documents of a load's app, as each node says that answers.
    fn usage(&self, load: &str) -> Result<Vec<(u64, u64)>> {
        let app = self.apps.get(load).context("an app")?;
        let ask = |at: usize| -> Result<(u64, u64)> {
            let said = Http::connect(&self.cluster.nodes[at].http(), Some(&app.token))?.json("/usage")?;
            let current = |what: &str| said["usage"][what]["current"].as_u64().context("a count");
            Ok((current("connections")?, current("documents")?))
        };
        self.present().map(ask).collect()
    }

    /// Nodes that run and answer.
    fn present(&self) -> impl Iterator<Item = usize> {
        (0..self.cluster.nodes.len()).filter(|at| !self.away.contains(at))
    }

    /// Learns which apps the loads made up, from the names of their documents.
    fn know_apps(&mut self) -> Result<()> {
        let names: Vec<&'static str> = self.loads.iter().map(|load| load.shape.name).collect();
        for name in names {
            if self.apps.contains_key(name) {
                continue;
            }
            let pins = self.pins()?;
            let pin = pins.iter().find(|pin| {
                pin["name"]
                    .as_str()
                    .and_then(|of| of.strip_prefix(name))
                    .is_some_and(|rest| rest.starts_with('-'))
            });
            let pin = pin.with_context(|| format!("no document of {name} is pinned"))?;
            let text = |field: &str| pin[field].as_str().unwrap_or_default().to_owned();
            let (tenant, app) = (text("tenant"), text("app"));
            let mut mint = command(&self.programs.node);
            mint.args(["token", "mint", "--tenant", &tenant, "--app", &app, "--secret-file"]);
            mint.arg(self.cluster.folder().join("secret"));
            let token = stdout(&mut mint)?.trim().to_owned();
            self.apps.insert(name, App { name: format!("{tenant}::{app}"), token });
        }
        Ok(())
    }

    /// A token of a load's app.
    pub(super) fn token(&self, load: &str) -> Result<String> {
        Ok(self.apps.get(load).context("an app")?.token.clone())
    }

    /// All pins that the registry has, as a node says that answers.
    pub(super) fn pins(&self) -> Result<Vec<Value>> {
        let at = self.present().next().context("no node answers")?;
        self.pins_by(at)
    }

    /// The same from one node.
    pub(super) fn pins_by(&self, at: usize) -> Result<Vec<Value>> {
        let node = &self.cluster.nodes[at];
        let ask = || watch::pins(&node.admin(), &node.shared.admin_token);
        // A registry that is slow, or being replaced, may have no answer in time.
        ask().or_else(|_| ask())
    }

    /// Nodes that the registry knows to live.
    pub(super) fn lives(&self) -> Result<Vec<String>> {
        let at = self.present().next().context("no node answers")?;
        let node = &self.cluster.nodes[at];
        let known = Http::connect(&node.admin(), Some(&node.shared.admin_token))?.json("/v1/nodes")?;
        let name = |node: &Value| format!("{}/{}", node["name"].as_str().unwrap_or_default(), node["life"]);
        Ok(known["nodes"].as_array().into_iter().flatten().map(name).collect())
    }

    /// A number of a node.
    pub(super) fn metric(&self, at: usize, name: &str) -> Result<f64> {
        let (_, text) = Http::connect(&self.cluster.nodes[at].http(), None)?.get("/metrics")?;
        Ok(metric(&text, name))
    }

    /// The sum over all nodes that answer.
    pub(super) fn sum(&self, name: &str) -> Result<f64> {
        self.present().map(|at| self.metric(at, name)).sum()
    }

    /// Kills a node.
    pub(super) fn kill(&mut self, at: usize) -> Result<()> {
        self.away.insert(at);
        self.cluster.nodes[at].kill()
    }

    /// Starts a killed node again.
    pub(super) fn restart(&mut self, at: usize) -> Result<()> {
        self.cluster.nodes[at].restart()?;
        self.away.remove(&at);
        Ok(())
    }

    /// Stops a node, as the kernel does.
    pub(super) fn stop(&mut self, at: usize) {
        self.away.insert(at);
        self.cluster.nodes[at].signal("STOP");
    }

    /// Lets it go on.
    pub(super) fn go_on(&mut self, at: usize) {
        self.cluster.nodes[at].signal("CONT");
        self.away.remove(&at);
    }

    /// What came of it; of what went wrong while it ran as well as afterwards.
    pub(super) fn outcome(mut self, run: fn(&mut Self) -> Result<()>) -> Outcome {
        if let Err(error) = run(&mut self).and_then(|()| self.finish()) {
            self.outcome.problems.push(format!("{error:#}"));
        }
        self.end_watch();
        self.outcome.seconds = self.began.elapsed().as_secs_f64();
        self.keep_logs();
        self.outcome
    }

    /// Ends the writing, and sees that all is as it should be.
    fn finish(&mut self) -> Result<()> {
        self.hold()?;
        self.end_loads()?;
        self.check_emptied()?;
        for (name, what) in [
            ("pinwire_lease_lapses_total", "leases lapsed"),
            ("pinwire_pins_lost_total", "pins lost to another region"),
            ("pinwire_session_reloads_total", "sessions loaded again"),
        ] {
            let count = self.sum(name)?;
            if count > 0.0 {
                self.outcome.note(format!("{count} {what}"));
            }
        }
        self.end_watch();
        self.end_nodes();
        Ok(())
    }

    /// Ends the loads, and adds what they found.
    pub(super) fn end_loads(&mut self) -> Result<()> {
        if self.loads.is_empty() {
            return Ok(());
        }
        self.loads.iter_mut().for_each(Load::ask_to_end);
        for load in &mut self.loads {
            let results = load.results()?;
            self.outcome.add(load.shape.name, &results, self.is_taken_over);
            if self.is_relay {
                let redirected = self.outcome.redirected;
                self.outcome.demand(redirected == 0, || format!("{redirected} clients were redirected"));
            }
        }
        self.loads.clear();
        self.outcome.note_brought();
        Ok(())
    }

    /// Adds what was seen of pins all the time.
    fn end_watch(&mut self) {
        let Some(seen) = self.watch.take().map(Watch::end) else { return };
        let (documents, claims) = seen.counts();
        self.outcome.note(format!(
            "nodes told all pins {} times: {documents} documents under {claims} claims; and {} times that they serve one",
            seen.answers, seen.served
        ));
        self.outcome.demand(seen.answers >= WATCHED_LEAST, || "nobody told of pins".to_owned());
        self.outcome.demand(seen.served >= WATCHED_LEAST, || "nobody told what is served".to_owned());
        self.outcome.problems.extend(seen.problems);
    }

    /// When all clients have left, nothing is counted and, after the grace, nothing pinned.
    fn check_emptied(&mut self) -> Result<()> {
        let within = self.lease() + self.grace();
        let emptied = self.wait("no pin is left, and /usage says 0", within, |rig| {
            let pins = rig.pins()?;
            ensure!(pins.is_empty(), "{} pins are left, as {}", pins.len(), pins[0]);
            for name in rig.apps.keys() {
                for usage in rig.usage(name)? {
                    ensure!(usage == (0, 0), "/usage of {} says {usage:?}", rig.apps[name].name);
                }
            }
            Ok(true)
        });
        if emptied.is_err() {
            self.keep_answers();
        }
        emptied.map(|_| ())
    }

    /// What nodes say of themselves, beside what they logged, for whoever looks for a cause.
    fn keep_answers(&self) {
        for at in self.present() {
            let node = &self.cluster.nodes[at];
            for what in ["documents", "connections", "threads"] {
                let asked = Http::connect(&node.admin(), Some(&node.shared.admin_token))
                    .and_then(|mut http| http.get(&format!("/v1/{what}")));
                let said = asked.map_or_else(|error| format!("{error:#}"), |(_, said)| said);
                // Without it the run is as good.
                let _ = fs::write(self.cluster.folder().join(format!("{}-{what}.json", node.name)), said);
            }
        }
    }

    /// Every node ends well, and has not panicked in any of its lives.
    fn end_nodes(&mut self) {
        let Self { cluster, outcome, away, .. } = self;
        for (at, node) in cluster.nodes.iter_mut().enumerate() {
            if !away.contains(&at) {
                node.ask_to_end();
            }
        }
        for (at, node) in cluster.nodes.iter_mut().enumerate() {
            if !away.contains(&at)
                && let Err(error) = node.end()
            {
                outcome.problems.push(format!("{error:#}"));
            }
            let log = node.log();
            for line in log.lines().filter(|line| line.contains("panicked")).take(3) {
                outcome.problems.push(format!("{} said: {line}", node.name));
            }
        }
    }

    /// Copies what all programs said to where it can be looked at.
    fn keep_logs(&mut self) {
        let kept = target_dir().join("chaos").join(self.outcome.scenario);
        let copy = || -> Result<()> {
            let _ = fs::remove_dir_all(&kept);
            fs::create_dir_all(&kept)?;
            for entry in fs::read_dir(self.cluster.folder())? {
                let entry = entry?;
                if entry.file_type()?.is_file() && entry.file_name() != "secret" {
                    fs::copy(entry.path(), kept.join(entry.file_name()))?;
                }
            }
            Ok(())
        };
        let copied = copy();
        match copied {
            Ok(()) if self.outcome.problems.is_empty() => {}
            Ok(()) => self
                .outcome
                .note(format!("what all programs said is in target/chaos/{}", self.outcome.scenario)),
            Err(error) => self.outcome.note(format!("logs could not be kept: {error:#}")),
        }
    }
}
