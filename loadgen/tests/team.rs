//! Runs of several processes, as users start them: what is merged is the whole, and who is lost is named.

mod rig;

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use pinwire_loadgen::results::{Measure, Results, VerdictLevel};
use rig::Fault;

const DOCUMENTS: [&str; 8] =
    ["document", "--documents", "6", "--members", "4", "--awareness-rate", "0", "--warm-up"];

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinwire-loadgen"));
    command.env_remove("PINWIRE_AGENT_TOKEN");
    command
}

fn documents(target: SocketAddr, args: &[&str]) -> Command {
    let mut command = program();
    command.args(DOCUMENTS).args(["0s", "--threads", "1", "--url", &format!("ws://{target}")]).args(args);
    command
}

fn results(folder: &Path, mut command: Command) -> (Output, Option<Results>) {
    let json = folder.join("results.json");
    let output = command.arg("--json").arg(&json).output().unwrap();
    let results = json.exists().then(|| pinwire_loadgen::report::json::read(&json).unwrap());
    (output, results)
}

/// A machine that is busy otherwise may make the generator late: it says so, and nothing else is wrong.
fn is_good(output: &Output, results: &Results) {
    let is_late = results.verdict.level == VerdictLevel::Invalid;
    let expected = if is_late { 98 } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{:?} {:?}", results.verdict, results.correctness);
    assert_eq!(results.correctness.faults(), 0, "{:?}", results.correctness);
}

fn is_sum(results: &Results, parts: usize) {
    assert_eq!(results.processes.len(), parts);
    let latency = &results.total.latency[&Measure::Latency];
    let of_parts: u64 =
        results.processes.iter().map(|part| part.total.latency[&Measure::Latency].count()).sum();
    assert_eq!((latency.count(), of_parts), (results.total.received, results.total.received));
    let greatest = results.processes.iter().map(|part| part.total.latency[&Measure::Latency].max()).max();
    assert_eq!(Some(latency.max()), greatest);
    let in_seconds: u64 = results.intervals.iter().map(|second| second.received).sum();
    assert_eq!(in_seconds, results.total.received);
    let seconds: Vec<u32> = results.intervals.iter().map(|second| second.second).collect();
    assert_eq!(seconds, (0..seconds.len() as u32).collect::<Vec<_>>());
    for part in &results.processes {
        let clock = part.clock.unwrap();
        assert!(clock.round_trip_ns > 0 && part.failure.is_none(), "{part:?}");
    }
}

#[test]
fn processes_share_one_load_and_their_results_are_its_sum() {
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("junit.xml");
    let mut command = documents(
        rig::start(Fault::None),
        &["--processes", "3", "--rate", "600", "-d", "1s", "--quiet", "--assert", "lost=0"],
    );
    command.arg("--junit").arg(&junit);
    let (output, found) = results(folder.path(), command);
    let found = found.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    is_good(&output, &found);
    assert_eq!((found.total.sent, found.total.received), (600, 1_800));
    assert_eq!(found.total.frames_received, 1_800, "what the auditors were sent at the end is not counted");
    assert_eq!((found.connections.wanted, found.connections.peak), (24, 24));
    is_sum(&found, 3);
    assert_eq!(found.processes[2].name, "process 3");
    assert_eq!(found.generator.threads[1].name, "process 2 worker 1");
    assert!(std::fs::read_to_string(junit).unwrap().contains("tests=\"3\" failures=\"0\""));
}

#[test]
fn a_fault_that_one_process_meets_is_the_runs() {
    let folder = tempfile::tempdir().unwrap();
    let target = rig::start(Fault::Drop(700));
    let args = ["--processes", "2", "--rate", "600", "-d", "1s", "--quiet", "--drain", "1s"];
    let (output, found) = results(folder.path(), documents(target, &args));
    let found = found.unwrap();
    assert_eq!((output.status.code(), found.correctness.lost), (Some(99), 2));
    assert!(found.correctness.examples[0].starts_with("process "), "{:?}", found.correctness.examples);
}

/// A program that is still at it, and what it says second by second.
struct Busy {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl Busy {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, said }
    }

    fn until(&mut self, what: &str) -> String {
        let found = self.said.by_ref().map_while(Result::ok).find(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("it never said {what}"))
    }

    fn exit(mut self) -> Option<i32> {
        for line in self.said.by_ref().map_while(Result::ok) {
            drop(line);
        }
        self.child.wait().unwrap().code()
    }
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

fn children(pid: u32) -> Vec<u32> {
    let parent = |entry: &Path| -> Option<u32> {
        let stat = std::fs::read_to_string(entry.join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let own = processes.filter(|entry| parent(entry) == Some(pid));
    own.filter_map(|entry| entry.file_name()?.to_str()?.parse().ok()).collect()
}

#[test]
fn a_process_that_dies_in_the_run_makes_it_invalid_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("results.json");
    let target = rig::start(Fault::None);
    let mut command = documents(
        target,
        &["--processes", "2", "--rate", "100", "-d", "60s", "--progress-json", "--drain", "1s"],
    );
    command.arg("--json").arg(&json);
    let mut busy = Busy::start(command);
    busy.until("\"phase\":\"load\"");
    kill(children(busy.child.id())[0]);
    assert_eq!(busy.exit(), Some(98));
    let found = pinwire_loadgen::report::json::read(&json).unwrap();
    assert_eq!(found.verdict.level, VerdictLevel::Invalid);
    let failed: Vec<_> = found.processes.iter().filter(|part| part.failure.is_some()).collect();
    assert_eq!(failed.len(), 1);
    let failure = failed[0].failure.as_deref().unwrap();
    assert!(failure.contains("signal: 9"), "{failure}");
    assert!(
        found.verdict.reasons.iter().any(|reason| reason.starts_with(&failed[0].name)),
        "{:?}",
        found.verdict
    );
}

#[test]
fn an_interrupt_ends_every_process_and_reports_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("results.json");
    let target = rig::start(Fault::None);
    let mut command = documents(
        target,
        &["--processes", "2", "--rate", "100", "-d", "60s", "--progress-json", "--drain", "1s"],
    );
    command.arg("--json").arg(&json);
    let mut busy = Busy::start(command);
    busy.until("\"phase\":\"load\"");
    let sent = Command::new("kill").args(["-INT", &busy.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let end = busy.until("\"event\":\"end\"");
    assert!(end.contains("stopped before its end"), "{end}");
    assert!(matches!(busy.exit(), Some(0 | 98)));
    is_sum(&pinwire_loadgen::report::json::read(&json).unwrap(), 2);
}

/// An agent on a free port.
fn agent(token: &str) -> (Busy, String) {
    let mut command = program();
    command.args(["agent", "--listen", "127.0.0.1:0"]).env("PINWIRE_AGENT_TOKEN", token);
    let mut busy = Busy::start(command);
    let mut announced = String::new();
    BufReader::new(busy.child.stdout.take().unwrap()).read_line(&mut announced).unwrap();
    let address = announced.trim().rsplit(' ').next().unwrap().to_owned();
    (busy, address)
}

fn end(mut agent: Busy) {
    kill(agent.child.id());
    agent.child.wait().unwrap();
}

#[test]
fn agents_share_a_load_run_after_run_and_refuse_who_does_not_know_the_token() {
    let token = "a token of the agents";
    let (one, first) = agent(token);
    let (other, second) = agent(token);
    let agents = format!("{first},{second}");
    let target = rig::start(Fault::None);
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let args = ["--agents", &agents, "--agent-token", token, "--rate", "300", "-d", "1s", "--quiet"];
        let (output, found) = results(folder.path(), documents(target, &args));
        let found = found.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        is_good(&output, &found);
        assert_eq!(found.total.received, 900);
        is_sum(&found, 2);
        assert_eq!(found.processes[0].name, first);
    }
    let args = ["--agents", &agents, "--agent-token", "another", "--rate", "300", "-d", "1s", "--quiet"];
    let output = documents(target, &args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("wrong token") && said.contains(&first), "{said}");
    end(one);
    end(other);
}

#[test]
fn an_agent_serves_one_coordinator_and_is_free_when_that_is_lost() {
    let (mut agent, address) = agent("a token of the agents");
    let target = rig::start(Fault::None);
    let shared = ["--agents", &address, "--agent-token", "a token of the agents", "--drain", "1s"];
    let with = |more: &[&str]| documents(target, &[&shared[..], more].concat());
    let mut first = Busy::start(with(&["--rate", "100", "-d", "60s", "--progress-json"]));
    first.until("\"phase\":\"load\"");
    let refused = with(&["--rate", "100", "-d", "1s", "--quiet"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(2) && said.contains("busy: it serves the coordinator at"),
        "{said}"
    );
    kill(first.child.id());
    first.child.wait().unwrap();
    agent.until("the load was stopped");
    let folder = tempfile::tempdir().unwrap();
    let (output, found) = results(folder.path(), with(&["--rate", "100", "-d", "1s", "--quiet"]));
    is_good(&output, &found.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr))));
    end(agent);
}

#[test]
fn an_agent_that_is_not_there_is_named_with_what_to_run() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = documents(nobody.parse().unwrap(), &["--agents", &nobody, "--quiet"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains(&format!("pinwire-loadgen agent --listen {nobody}")), "{said}");
}

#[test]
fn files_of_runs_that_were_started_by_hand_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for number in 0..2 {
        let target = rig::start(Fault::None);
        let place = folder.path().join(number.to_string());
        std::fs::create_dir(&place).unwrap();
        let (_, found) = results(&place, documents(target, &["--rate", "300", "-d", "1s", "--quiet"]));
        assert_eq!(found.unwrap().total.sent, 300);
        files.push(place.join("results.json"));
    }
    let mut command = program();
    command.arg("merge").args(&files).args(["--assert", "sent=600"]);
    let (output, found) = results(folder.path(), command);
    let found = found.unwrap();
    is_good(&output, &found);
    assert_eq!((found.total.sent, found.processes.len()), (600, 2));
    assert!((found.total.seconds - 1.0).abs() < 1e-9);
}
