//! The program on a pseudo-terminal: keys in, a screen out.

use std::io::{Read as _, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

/// Generous: machines that build at the same time are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program on a pseudo-terminal.
pub struct Session {
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn Write + Send>,
    pub child: Box<dyn Child + Send + Sync>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    before: String,
}

/// What is on its screen.
struct Seen {
    screen: vt100::Parser,
    is_over: bool,
}

impl Session {
    pub fn start(mut command: CommandBuilder) -> Self {
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

    /// The console at these nodes.
    pub fn console(urls: &[&str], token: &str, more: &[&str]) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_pinwire-admin"));
        command.env("PINWIRE_ADMIN_TOKEN", token);
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        for url in urls {
            command.args(["--url", url]);
        }
        command.args(more);
        Self::start(command)
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
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

    /// Waits until the screen has a text.
    pub fn see(&self, text: &str) {
        self.wait(text, |seen| seen.screen.screen().contents().contains(text));
    }

    /// Waits until the screen has a text no more.
    pub fn see_no_more(&self, text: &str) {
        self.wait(text, |seen| !seen.screen.screen().contents().contains(text));
    }

    /// The line above the list begins with the view's name.
    pub fn see_view(&self, name: &str) {
        self.wait(name, |seen| {
            seen.screen.screen().contents().lines().nth(2).is_some_and(|line| line.starts_with(name))
        });
    }

    /// Waits for the end, and sees that the terminal is as it was.
    pub fn ended(mut self) -> ExitStatus {
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
