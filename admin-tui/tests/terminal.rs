//! The program on a real pseudo-terminal, against nodes on real sockets: all views are typed through, actions are done, and the
//! terminal is as it was, also after a panic and a signal.

mod rig;

use std::io::{Read as _, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use rig::{FakeNode, TOKEN};

/// Generous: machines that build at the same time are slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tells the test's own program, started anew, that it is the one to panic.
const PANICS: &str = "PINWIRE_ADMIN_TEST_PANICS";

struct Session {
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    before: String,
}

struct Seen {
    screen: vt100::Parser,
    is_over: bool,
}

impl Session {
    fn start(mut command: CommandBuilder) -> Self {
        let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        let before = modes(pair.master.as_ref());
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let seen = Arc::new((
            Mutex::new(Seen {
                screen: vt100::Parser::new(24.try_into().unwrap(), 80.try_into().unwrap(), 0),
                is_over: false,
            }),
            Condvar::new(),
        ));
        let (mut reader, for_thread) = (pair.master.try_clone_reader().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let read = reader.read(&mut bytes).unwrap_or(0);
                let (lock, news) = &*for_thread;
                let mut seen = lock.lock().unwrap();
                seen.screen.process(&bytes[..read]);
                seen.is_over = read == 0;
                news.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        let writer = pair.master.take_writer().unwrap();
        Self { master: pair.master, writer, child, seen, before }
    }

    fn console(nodes: &[&FakeNode], more: &[&str]) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_pinwire-admin"));
        command.env("PINWIRE_ADMIN_TOKEN", TOKEN);
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        for node in nodes {
            command.args(["--url", &node.url]);
        }
        command.args(more);
        Self::start(command)
    }

    fn press(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    fn wait(&self, what: &str, is_there: impl Fn(&Seen) -> bool) {
        let (lock, news) = &*self.seen;
        let end = Instant::now() + PATIENCE;
        let mut seen = lock.lock().unwrap();
        while !is_there(&seen) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} did not come:\n{}", seen.screen.screen().contents());
            seen = news.wait_timeout(seen, left).unwrap().0;
        }
    }

    fn see(&self, text: &str) {
        self.wait(text, |seen| seen.screen.screen().contents().contains(text));
    }

    /// The line above the list begins with the view's name.
    fn see_view(&self, name: &str) {
        self.wait(name, |seen| {
            seen.screen.screen().contents().lines().nth(2).is_some_and(|line| line.starts_with(name))
        });
    }

    /// Waits for the end, and sees that the terminal is as it was.
    fn ended(mut self) -> ExitStatus {
        self.wait("the end", |seen| seen.is_over || !seen.screen.screen().alternate_screen());
        let status = self.child.wait().unwrap();
        let after = modes(self.master.as_ref());
        assert_eq!(after, self.before, "modes of the terminal");
        self.wait("the cursor", |seen| {
            let screen = seen.screen.screen();
            !screen.alternate_screen()
                && !screen.hide_cursor()
                && !screen.bracketed_paste()
                && screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None
        });
        status
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn modes(master: &dyn MasterPty) -> String {
    let modes = master.get_termios().unwrap();
    format!(
        "{:?} {:?} {:?} {:?}",
        modes.input_flags, modes.output_flags, modes.control_flags, modes.local_flags
    )
}

#[test]
fn an_operator_types_through_all_views_and_leaves_the_terminal_as_it_was() {
    let (one, two) = (FakeNode::start(0), FakeNode::start(1));
    let mut session = Session::console(&[&one, &two], &[]);
    session.see("2/2 nodes");
    session.see("is overloaded");
    for (key, view) in [
        ("2", "regions"),
        ("3", "nodes"),
        ("4", "pins"),
        ("5", "documents"),
        ("6", "connections"),
        ("7", "apps"),
        ("8", "events"),
        ("9", "logs"),
        ("0", "audit"),
        ("t", "cores"),
    ] {
        session.press(key);
        session.see_view(view);
    }
    session.press("3");
    session.see("eu-central-1");
    session.press("\r");
    session.see_view("node of");
    session.press("5\r");
    session.see_view("document");
    session.press("?");
    session.see("any key leaves it");
    session.press("x4/region=us\r");
    session.see("filter region=us");
    session.press(":nodes state=over\r");
    session.see("filter state=over");
    session.press("D");
    session.see("--rw");
    session.press("q");
    assert!(session.ended().success());
}

#[test]
fn an_action_is_done_once_its_name_is_typed() {
    let node = FakeNode::start(0);
    let mut session = Session::console(&[&node], &["--rw", "--view", "connections"]);
    session.see("13b-2a");
    session.press("C");
    session.see("Type its name");
    session.see("curl");
    session.press("wrong\r");
    session.see("not its name");
    assert_eq!(node.acts(), [""; 0]);
    session.press("\u{15}13b-2a\r");
    session.see("done: close connection 13b-2a");
    assert_eq!(node.acts(), ["POST /v1/connections/13b-2a/close {}"]);
    session.press("q");
    assert!(session.ended().success());
}

#[test]
fn a_node_that_goes_is_lost_with_its_age_and_the_other_stays() {
    let (one, two) = (FakeNode::start(0), FakeNode::start(3));
    let mut session = Session::console(&[&one, &two], &["--view", "nodes"]);
    session.see("2/2 nodes");
    drop(two);
    session.see("1/2 nodes");
    session.see("lost");
    session.press("1");
    session.see("is not reached for");
    session.press("q");
    assert!(session.ended().success());
}

#[test]
fn a_refused_token_is_told_with_what_to_do() {
    let node = FakeNode::start(0);
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_pinwire-admin"));
    command.env("PINWIRE_ADMIN_TOKEN", "another");
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command.args(["--url", &node.url, "--view", "nodes"]);
    let mut session = Session::start(command);
    session.see("refused");
    session.press("\r");
    session.see("admin.token_file");
    session.press("q");
    assert!(session.ended().success());
}

#[test]
fn a_signal_ends_it_and_gives_the_terminal_back() {
    let node = FakeNode::start(0);
    let session = Session::console(&[&node], &[]);
    session.see("1/1 nodes");
    let pid = session.child.process_id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(session.ended().success());
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_told() {
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["a_program_that_panics", "--exact", "--nocapture"]);
    command.env(PANICS, "1");
    let session = Session::start(command);
    session.see("something that cannot be");
    assert!(!session.ended().success());
}

/// Not a test by itself: what the one above starts.
#[test]
fn a_program_that_panics() {
    if std::env::var_os(PANICS).is_none() {
        return;
    }
    let mut taken = pinwire_admin::terminal::Taken::take(true).unwrap();
    taken.terminal.draw(|_| {}).unwrap();
    panic!("something that cannot be");
}

#[test]
fn a_recording_is_replayed_without_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ndjson").display().to_string();
    let node = FakeNode::start(0);
    let mut session = Session::console(&[&node], &["--record", &path]);
    session.see("1/1 nodes");
    session.press("q");
    assert!(session.ended().success());
    drop(node);
    let mut session = Session::console(&[], &["--replay", &path]);
    session.see("REPLAY");
    session.press("p,");
    session.see("PAUSED");
    session.press(".3");
    session.see("eu-central-1");
    session.press("q");
    assert!(session.ended().success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(TOKEN), "the token is in the recording");
}
