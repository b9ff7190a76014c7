//! What a move costs those who write: a document goes to and fro between two regions while clients of both regions' nodes write, and each
//! client's pause is measured, from its last acknowledgement in the one region to its first in the other.
//!
//! Runs beside a cluster: `cargo xtask cluster --json -- cargo measure moves`. Clients bring along what is not acknowledged and nothing
//! else; at the end every node has to have everything that was.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use pinwire_benches::cluster::{Cluster, Node};
use pinwire_benches::edits::append_edit;
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::tokens::Mint;
use pinwire_protocol::document::hocuspocus::{self, Body, Frame};
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::varint::Reader;
use pinwire_protocol::ws::{self, Decoder, Event, Limits, Opcode, Role, Scratch};
use serde_json::json;

const DOCUMENT: &str = "moved";
/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before a client dials again that nobody told where.
const AGAIN: Duration = Duration::from_millis(20);
/// Acknowledgements of each client between two moves.
const BETWEEN: u64 = 20;

/// Moves a document to and fro while clients write, and measures their pauses
#[derive(Parser, Debug)]
#[command(name = "moves")]
struct Args {
    /// Moves
    #[arg(long, default_value_t = 100)]
    moves: usize,
    /// Writers that begin at each node
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// Milliseconds from an acknowledgement to the next edit
    #[arg(long, default_value_t = 5)]
    think: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// What clients share with whoever moves the document.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// In milliseconds, with who waited.
    pauses: Mutex<Vec<(usize, f64)>>,
    /// Acknowledgements of each, and in which region.
    progress: Vec<[AtomicU64; 2]>,
}

struct Client {
    number: usize,
    token: String,
    at: Node,
    nodes: Arc<[Node]>,
    think: Duration,
    acknowledged: u32,
    last: Option<(Instant, usize)>,
}

impl Client {
    fn run(mut self, shared: &Shared) -> Result<u32> {
        while !shared.is_over.load(Ordering::Relaxed) {
            match self.write(shared)? {
                Some(url) => {
                    let there = self.nodes.iter().find(|node| url.contains(&node.address));
                    self.at = there.with_context(|| format!("sent to {url}, which is nobody"))?.clone();
                }
                None => std::thread::park_timeout(AGAIN),
            }
        }
        Ok(self.acknowledged)
    }

    /// Writes until the connection ends; where it is sent.
    fn write(&mut self, shared: &Shared) -> Result<Option<String>> {
        let mut socket = Socket::open(&self.at)?;
        socket.say(|out| hocuspocus::append_auth(out, DOCUMENT, &self.token, None))?;
        loop {
            let Some(message) = socket.told()? else { return Ok(socket.sent_to()) };
            let Ok(Frame::Message { body, .. }) = hocuspocus::decode(&message) else { continue };
            match body {
                Body::Authenticated { .. } => {}
                Body::PermissionDenied { reason } => return Ok(redirect(reason)),
                Body::Close { reason } => return Ok(reason.and_then(redirect)),
                Body::SyncStatus { applied } => {
                    ensure!(applied, "an edit was refused");
                    self.was_acknowledged(shared);
                    std::thread::park_timeout(self.think);
                }
                _ => continue,
            }
            if shared.is_over.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let mut update = Vec::new();
            append_edit(&mut update, self.number as u64 + 1, self.acknowledged);
            socket.say(|out| {
                hocuspocus::append_sync(out, DOCUMENT, &SyncMessage::Update { update: &update });
            })?;
        }
    }

    fn was_acknowledged(&mut self, shared: &Shared) {
        self.acknowledged += 1;
        let (now, region) = (Instant::now(), self.at.region);
        if let Some((before, _)) = self.last.filter(|(_, of)| *of != region) {
            let pause = (now - before).as_secs_f64() * 1e3;
            shared.pauses.lock().unwrap_or_else(PoisonError::into_inner).push((self.number, pause));
        }
        self.last = Some((now, region));
        let [count, at] = &shared.progress[self.number];
        at.store(region as u64, Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn redirect(reason: &str) -> Option<String> {
    reason.strip_prefix("REDIRECT:").map(str::to_owned)
}

/// A WebSocket by hand.
struct Socket {
    stream: TcpStream,
    decoder: Decoder,
    chunk: Vec<u8>,
    read: usize,
    reason: Option<String>,
}

impl Socket {
    fn open(node: &Node) -> Result<Self> {
        let mut stream = TcpStream::connect(&node.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        let decoder = Decoder::new(Role::Client, false);
        Ok(Self { stream, decoder, chunk: Vec::new(), read: 0, reason: None })
    }

    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let (mut payload, mut bytes) = (Vec::new(), Vec::new());
        write(&mut payload);
        ws::append_frame(&mut bytes, ws::Frame::new(Opcode::Binary).masked([1, 2, 3, 4]), &payload);
        Ok(self.stream.write_all(&bytes)?)
    }

    /// The next message; nothing once it is closed.
    fn told(&mut self) -> Result<Option<Vec<u8>>> {
        let mut scratch = Scratch::new();
        loop {
            if self.read == self.chunk.len() {
                self.chunk.resize(4096, 0);
                let read = self.stream.read(&mut self.chunk).unwrap_or_default();
                self.chunk.truncate(read);
                self.read = 0;
                if read == 0 {
                    return Ok(None);
                }
            }
            let decoded = self.decoder.decode(&mut self.chunk[self.read..], &Limits::DEFAULT, &mut scratch);
            let decoded = decoded.map_err(|error| anyhow::anyhow!("{error:?}"))?;
            self.read += decoded.consumed;
            match decoded.event {
                Some(Event::Message { payload, .. }) => return Ok(Some(payload.to_vec())),
                Some(Event::Close { reason, .. }) => {
                    self.reason = Some(reason.to_owned());
                    return Ok(None);
                }
                _ => {}
            }
        }
    }

    fn sent_to(&self) -> Option<String> {
        redirect(self.reason.as_deref()?)
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let cluster = Cluster::told("cargo xtask cluster --json -- cargo measure moves")?;
    ensure!(cluster.regions.len() > 1, "a document moves between two regions at least");
    let mint = Mint::new(&cluster.secret)?;
    let nodes: Arc<[Node]> = cluster.nodes.clone().into();
    let first: Vec<&Node> = nodes.iter().filter(|node| node.region == 0).collect();
    let count = args.writers * first.len();
    let progress = std::iter::repeat_with(<[AtomicU64; 2]>::default).take(count).collect();
    let shared = Arc::new(Shared { progress, ..Shared::default() });
    let mut clients: Vec<JoinHandle<Result<u32>>> = Vec::new();
    for number in 0..count {
        let client = Client {
            number,
            token: mint.token()?,
            at: first[number % first.len()].clone(),
            nodes: Arc::clone(&nodes),
            think: Duration::from_millis(args.think),
            acknowledged: 0,
            last: None,
        };
        let shared = Arc::clone(&shared);
        clients.push(std::thread::spawn(move || client.run(&shared)));
    }
    let calls = to_and_fro(&args, &cluster, &shared);
    shared.is_over.store(true, Ordering::Relaxed);
    let acknowledged: Vec<u32> = clients
        .into_iter()
        .map(|client| client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
        .collect::<Result<_>>()?;
    let calls = calls?;
    check(&cluster, &mint, args.moves % 2, &acknowledged)?;
    report(&args, &cluster, &shared, &calls, &acknowledged)
}

/// Moves the document; how long each took whoever asked, in milliseconds.
fn to_and_fro(args: &Args, cluster: &Cluster, shared: &Shared) -> Result<Vec<f64>> {
    wait_for(shared, 0)?;
    let page = cluster.ask(&cluster.nodes[0], "GET", "/v1/pins", "")?;
    let pin = page["pins"].as_array().into_iter().flatten().find(|pin| pin["name"] == DOCUMENT);
    let pin = pin.context("the document is not active")?;
    let part = |key: &str| pin[key].as_str().unwrap_or_default().to_owned();
    let path = format!("/v1/pins/{}/{}/{DOCUMENT}/move", part("tenant"), part("app"));
    let mut calls = Vec::new();
    for number in 0..args.moves {
        let to = (number + 1) % 2;
        // Every node is asked in turn: those that hand over, those that take, and those that pass it on.
        let node = &cluster.nodes[number % cluster.nodes.len()];
        let began = Instant::now();
        cluster.ask(node, "POST", &path, &json!({ "region": cluster.regions[to] }).to_string())?;
        calls.push(began.elapsed().as_secs_f64() * 1e3);
        wait_for(shared, to)?;
    }
    Ok(calls)
}

/// Waits until each client was acknowledged some more times in a region.
fn wait_for(shared: &Shared, region: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut from: Vec<Option<u64>> = vec![None; shared.progress.len()];
    loop {
        let is_there = shared.progress.iter().zip(&mut from).all(|([count, at], from)| {
            let count = count.load(Ordering::Relaxed);
            if count == 0 || at.load(Ordering::Relaxed) != region as u64 {
                *from = None;
                return false;
            }
            count >= *from.get_or_insert(count) + BETWEEN
        });
        if is_there {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("clients are not acknowledged in the document's region");
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Every node of the region that has the document has everything that was acknowledged.
fn check(cluster: &Cluster, mint: &Mint, region: usize, acknowledged: &[u32]) -> Result<()> {
    for node in cluster.nodes.iter().filter(|node| node.region == region) {
        let mut socket = Socket::open(node)?;
        let token = mint.token()?;
        socket.say(|out| hocuspocus::append_auth(out, DOCUMENT, &token, None))?;
        let vector = loop {
            let message = socket.told()?.context("closed")?;
            let Ok(Frame::Message { body, .. }) = hocuspocus::decode(&message) else { continue };
            if let Body::Sync(SyncMessage::Step1 { state_vector }) = body {
                break state_vector.to_vec();
            }
            if matches!(body, Body::Authenticated { .. }) {
                let step = SyncMessage::Step1 { state_vector: &[0] };
                socket.say(|out| hocuspocus::append_sync(out, DOCUMENT, &step))?;
            }
        };
        let mut reader = Reader::new(&vector);
        let mut there = vec![0; acknowledged.len()];
        for _ in 0..reader.var_uint()? {
            let (client, clock) = (reader.var_uint()?, reader.var_uint()?);
            if let Some(there) = there.get_mut(client as usize - 1) {
                *there = clock;
            }
        }
        let is_whole = there.iter().zip(acknowledged).all(|(there, told)| *there >= u64::from(*told));
        ensure!(is_whole, "{there:?} are at {}, and {acknowledged:?} were acknowledged", node.address);
    }
    Ok(())
}

fn report(
    args: &Args,
    cluster: &Cluster,
    shared: &Shared,
    calls: &[f64],
    acknowledged: &[u32],
) -> Result<ExitCode> {
    let mut report = Report::new("moves", "Moving a document between two regions while clients write");
    let pauses = shared.pauses.lock().unwrap_or_else(PoisonError::into_inner).clone();
    report.paragraph(&format!(
        "{} moves, {} writers, {} nodes; {} edits acknowledged, none of them missing at the end.",
        args.moves,
        acknowledged.len(),
        cluster.nodes.len(),
        acknowledged.iter().map(|count| u64::from(*count)).sum::<u64>()
    ));
    let row = |name: &str, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times.get(index).map_or_else(String::new, |time| format!("{time:.1}"))
        };
        vec![name.to_owned(), times.len().to_string(), at(0.5), at(0.99), at(1.0)]
    };
    let of_clients = pauses.iter().map(|(_, pause)| *pause).collect();
    report.table(
        &["milliseconds", "number", "p50", "p99", "max"],
        [
            row("a client's pause: last acknowledgement there to first one here", of_clients),
            row("the call that moves it", calls.to_vec()),
        ],
    );
    report.raw(&json!({ "pauses_ms": pauses, "calls_ms": calls }));
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}
