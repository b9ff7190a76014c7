//! A node in a process of its own, and what that process uses.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::Instant;

use pinwire_node::Node;
use pinwire_node::admin::AdminAddress;

use super::admin::AdminClient;
use super::client::TestClient;
use super::{Options, PATIENCE, eventually, pause};

/// Memory that each data thread may keep beyond what it had: the output of its largest turn, the last long message, and what
/// its allocator has in pieces.
const KEPT_PER_THREAD: u64 = 40 << 20;

/// A running node; it ends with this.
pub struct TestNode {
    child: Child,
    stdin: Option<ChildStdin>,
    address: SocketAddr,
    is_killed: bool,
    admin: Option<SocketAddr>,
}

/// What a node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Resident bytes.
    pub resident: u64,
    /// The most there ever were.
    pub peak: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Established or half-closed connections, whether they have a descriptor or stand in a ring's table.
    pub connections: usize,
}

impl Measure {
    fn is_within(self, before: Self, threads: usize) -> bool {
        self.resident <= before.resident + threads as u64 * KEPT_PER_THREAD
            && self.descriptors <= before.descriptors
            && self.connections <= before.connections
    }
}

impl TestNode {
    /// Starts a node from the program that calls [`run_child`].
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(program: &str, options: &Options) -> Self {
        let mut node = Self::spawn(program, options);
        let mut line = String::new();
        let stdout = node.child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let mut addresses = line
            .split_whitespace()
            .map(|address| address.parse().unwrap_or_else(|_| panic!("no address: {line:?}")));
        node.address = addresses.next().unwrap_or_else(|| panic!("no address: {line:?}"));
        node.admin = addresses.next();
        node
    }

    /// Starts a process without waiting for the node in it, which has no address yet.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn spawn(program: &str, options: &Options) -> Self {
        let options = serde_json::to_string(options).expect("plain data");
        let mut child = Command::new(program)
            .arg(options)
            // What the node holds is measured, not what its allocator keeps for later.
            .env("MIMALLOC_PURGE_DELAY", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { stdin: child.stdin.take(), child, address, admin: None, is_killed: false }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way to its admin API.
    ///
    /// # Panics
    /// It was started without [`Options::admin`].
    #[must_use]
    pub fn admin(&self) -> AdminClient {
        AdminClient::new(self.admin.expect("an admin listener"))
    }

    /// What it uses now.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn measure(&self) -> Measure {
        let pid = self.child.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the node runs");
        let bytes = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
        };
        let resident = bytes("VmRSS:").expect("the node runs");
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the node runs").count();
        Measure {
            resident,
            peak: bytes("VmHWM:").unwrap_or(resident),
            descriptors,
            connections: self.connections().len(),
        }
    }

    /// The node's ends of its connections: the peer's port, the socket's state (1 is established) and its timer (2 is
    /// keep-alive), as the kernel lists them.
    ///
    /// # Panics
    /// The kernel lists none.
    #[must_use]
    pub fn connections(&self) -> Vec<(u16, u8, u8)> {
        const TIME_WAIT: u8 = 6;
        const LISTEN: u8 = 10;
        let table = fs::read_to_string("/proc/net/tcp").expect("a table");
        let hex = |text: &str| u16::from_str_radix(text, 16).ok();
        let row = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = |at: usize| hex(fields.get(at)?.rsplit(':').next()?);
            // In the kernel's order of bytes: 127.0.0.1.
            fields.get(1)?.starts_with("0100007F:").then_some(())?;
            let timer = hex(fields.get(5)?.split(':').next()?)?;
            // What its process has closed has no inode.
            (*fields.get(9)? != "0").then_some(())?;
            Some((port(1)?, port(2)?, hex(fields.get(3)?)? as u8, timer as u8))
        };
        table
            .lines()
            .skip(1)
            .filter_map(row)
            .filter(|(port, _, state, _)| {
                *port == self.address.port() && ![TIME_WAIT, LISTEN].contains(state)
            })
            .map(|(_, peer, state, timer)| (peer, state, timer))
            .collect()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power failure would: at once, whatever it does.
    ///
    /// # Panics
    /// It has ended before.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
        self.is_killed = true;
    }

    /// Tells the node to stop, without waiting.
    pub fn tell_to_stop(&mut self) {
        self.stdin = None;
    }

    /// Waits for the node's end; true if it ended well.
    ///
    /// # Panics
    /// It does not end.
    pub fn wait(&mut self) -> bool {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.is_some_and(|status| status.success())
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.stdin = None;
        if self.is_killed {
            return;
        }
        if std::thread::panicking() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else {
            assert!(self.wait(), "the node ended badly");
        }
    }
}

/// Runs `test` against a node while bystanders go about their work. They must not be disturbed, and afterwards the node must
/// use no more than before.
///
/// # Panics
/// That is not so.
pub fn beside_others(program: &str, options: &Options, test: impl FnOnce(&TestNode, &mut Bystanders)) {
    let node = TestNode::start(program, options);
    let mut bystanders = Bystanders::of(&node);
    bystanders.check();
    let before = node.measure();
    test(&node, &mut bystanders);
    let start = Instant::now();
    loop {
        bystanders.stir();
        let last = node.measure();
        if last.is_within(before, options.threads) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it had {before:?}, and keeps {last:?}");
        pause(20);
    }
    bystanders.leave();
}

/// Pairs of clients who go about their work while something bad happens elsewhere, on documents of every thread.
pub struct Bystanders {
    pairs: Vec<(TestClient, TestClient)>,
    clock: u32,
}

impl Bystanders {
    /// Clients of a node.
    #[must_use]
    pub fn of(node: &TestNode) -> Self {
        let pair = |n: usize| {
            let document = format!("bystanders-{n}");
            (TestClient::join(node, &document), TestClient::join(node, &document))
        };
        Self { pairs: (0..6).map(pair).collect(), clock: 0 }
    }

    /// They go, and agree with the node on it.
    fn leave(self) {
        for (writer, reader) in self.pairs {
            for mut client in [writer, reader] {
                client.close(1000);
                assert_eq!(client.closed(), Some(1000));
            }
        }
    }

    /// What one writes reaches the other.
    ///
    /// # Panics
    /// It does not.
    pub fn check(&mut self) {
        self.work("a");
    }

    /// Enough work for every thread of the node to allocate and free, upon which an allocator gives back what it had kept.
    fn stir(&mut self) {
        self.work(&"b".repeat(40_000));
    }

    fn work(&mut self, text: &str) {
        let len = u32::try_from(text.len()).expect("short");
        let (update, undo) = (super::append(7, self.clock, text), super::deletion(7, self.clock, len));
        self.clock += len;
        for (writer, reader) in &mut self.pairs {
            writer.message(&super::ywebsocket_update(&update));
            writer.message(&super::ywebsocket_update(&undo));
            while super::update_of(&reader.binary()) != Some(&update) {}
        }
    }
}

/// The child's side: runs a node with the options in the first argument until stdin ends.
#[must_use]
pub fn run_child() -> ExitCode {
    let options = std::env::args().nth(1).and_then(|options| serde_json::from_str::<Options>(&options).ok());
    let Some(options) = options else { return ExitCode::from(2) };
    let node = match Node::start(options.config()) {
        Ok(node) => node,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    let admin = node.admin_addresses().iter().map(|address| match address {
        AdminAddress::Tcp(address, _) => format!(" {address}"),
        AdminAddress::Unix(_) => String::new(),
    });
    let _ = writeln!(std::io::stdout(), "{}{}", node.address(), admin.collect::<String>());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    match node.stop() {
        Ok(()) => ExitCode::SUCCESS,
        Err(hung) => {
            let _ = writeln!(std::io::stderr(), "{hung}");
            ExitCode::FAILURE
        }
    }
}
