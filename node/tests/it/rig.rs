//! The program, a directory with its files, and what it says.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pinwire-node"));
    program.env_clear();
    program
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = program().args(args).output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code().unwrap(), text)
}

/// A directory with what `config init` makes.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let file = home.config();
        let (status, told) = run(&["config", "init", file.to_str().unwrap(), "--region", "eu-central-1"]);
        assert_eq!(status, 0, "{told}");
        home
    }

    pub fn config(&self) -> PathBuf {
        self.0.path().join("pinwire.toml")
    }

    pub fn secret(&self) -> PathBuf {
        self.0.path().join("pinwire.secret")
    }

    pub fn prepend(&self, text: &str) {
        let before = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), format!("{text}\n{before}")).unwrap();
    }

    pub fn replace(&self, old: &str, new: &str) {
        let before = fs::read_to_string(self.config()).unwrap();
        assert!(before.contains(old), "{before}");
        fs::write(self.config(), before.replace(old, new)).unwrap();
    }

    pub fn token(&self) -> String {
        let secret = fs::read_to_string(self.secret()).unwrap();
        let args = ["token", "mint", "--region", "eu-central-1", "--secret", secret.trim()];
        let (status, token) = run(&args);
        assert_eq!(status, 0, "{token}");
        token.trim().to_owned()
    }

    pub fn config_command(&self, command: &str) -> (i32, String) {
        run(&["config", command, "--config", self.config().to_str().unwrap()])
    }
}

/// A node that serves.
pub struct Serving {
    pub child: Child,
    log: Mutex<Receiver<String>>,
    pub ready: Value,
    _stdout: BufReader<ChildStdout>,
}

impl Serving {
    /// In plain text, with one thread.
    pub fn start(config: &Path) -> Self {
        Self::start_with(config, &["listen=127.0.0.1:0", "threads=1"])
    }

    pub fn start_with(config: &Path, settings: &[&str]) -> Self {
        Self::start_by(program(), config, settings)
    }

    /// With so many file descriptors.
    pub fn start_with_files(files: u32, config: &Path, settings: &[&str]) -> Self {
        let mut shell = Command::new("/bin/sh");
        let limited = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        shell.env_clear().args(["-c", &limited, env!("CARGO_BIN_EXE_pinwire-node")]);
        Self::start_by(shell, config, settings)
    }

    /// By a command that runs [`program`], with some variables perhaps.
    pub fn start_by(mut program: Command, config: &Path, settings: &[&str]) -> Self {
        let mut child = program
            // This machine is busy with tests, and its load says nothing of the node's.
            .env("PINWIRE_SHEDDING_RESOURCES", "")
            .args(["serve", "--json", "--config"])
            .arg(config)
            // Clients of tests are not sent away one by one, unless a test wants that.
            .args(["--set", "drain.window=0s"])
            // Nor is anybody refused since the machine is busy with other tests.
            .args(["--set", "shedding.resources="])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{line:?}; the log: {:?}", log.try_iter().collect::<Vec<_>>()));
        Self { child, log: Mutex::new(log), ready, _stdout: stdout }
    }

    /// Waits for a line of the log that has all of these words.
    pub fn logs(&self, words: &[&str]) -> String {
        self.logs_until(words).pop().unwrap()
    }

    /// The same, with all that came before it since the last call.
    pub fn logs_until(&self, words: &[&str]) -> Vec<String> {
        let (log, mut seen) = (self.log.lock().unwrap(), Vec::new());
        loop {
            let line = log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{words:?} not in {seen:#?}"));
            seen.push(line);
            if seen.last().is_some_and(|line| words.iter().all(|word| line.contains(word))) {
                return seen;
            }
        }
    }

    /// The value of a metric with these labels, over all threads.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics", "");
        let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        let values: Vec<f64> = lines.map(|(_, value)| value.parse().unwrap()).collect();
        assert!(!values.is_empty(), "{name} in\n{text}");
        values.iter().sum()
    }

    /// Asks for an upgrade; returns the socket and the status, or how it ended.
    pub fn knock(&self, token: &str) -> (TcpStream, String) {
        let url = self.ready["regions"][0]["ws_url"].as_str().unwrap();
        let mut socket = TcpStream::connect(url.strip_prefix("ws://").unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            socket,
            "GET /document?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        // No byte behind the head: it is the caller's.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if socket.read(&mut byte).unwrap() == 0 {
                break;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        (socket, head.split(' ').nth(1).unwrap_or("closed").to_owned())
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The status of a discovery with this token.
    pub fn discovery(&self, token: &str) -> u16 {
        self.get("/discovery?documentName=d", token).0
    }

    /// Status and body.
    pub fn get(&self, path: &str, token: &str) -> (u16, String) {
        let url = self.ready["regions"][0]["http_url"].as_str().unwrap();
        let mut socket = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        write!(socket, "{request}Authorization: Bearer {token}\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn end(mut self) -> i32 {
        self.signal("TERM");
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
