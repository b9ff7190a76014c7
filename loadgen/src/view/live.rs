//! The whole terminal while a run goes on: a thread of its own draws what the main thread tells, and reads keys.
//!
//! It is drawn on stderr, so that stdout has the summary alone. The terminal is given back when the view is dropped, when
//! any thread panics, and before a second interrupt ends the program.

use std::io::{self, Stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use signal_hook::consts::SIGINT;

use crate::run::{Second, Status};
use crate::signals::interrupt;
use crate::view::draw::draw;
use crate::view::model::Model;
use crate::view::palette::Palette;
use crate::view::{Heading, View};

/// How long the thread waits for a key before it looks whether there is news.
const KEYS: Duration = Duration::from_millis(100);
/// It draws this often at least: time goes on also where nothing happens.
const REDRAW: Duration = Duration::from_millis(500);

/// Whether the terminal is ours.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back, if it is ours.
pub fn restore() {
    if IS_OURS.swap(false, Ordering::AcqRel) {
        // There is nobody left to tell that it failed.
        let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// See the module's documentation.
pub(crate) struct Live {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Between the main thread and the one that draws. It is a state and no queue: what is not drawn in time is replaced.
struct Shared {
    model: Mutex<Model>,
    has_news: AtomicBool,
    is_over: AtomicBool,
    stop: Arc<AtomicBool>,
}

impl Live {
    /// Takes the terminal.
    pub(crate) fn start(stop: Arc<AtomicBool>) -> Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        enable_raw_mode().context("a live view needs a terminal: use --view lines")?;
        IS_OURS.store(true, Ordering::Release);
        let taken = execute!(io::stderr(), EnterAlternateScreen, Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stderr())));
        let terminal = match taken {
            Ok(terminal) => terminal,
            Err(error) => {
                restore();
                return Err(error).context("a live view needs a terminal: use --view lines");
            }
        };
        let shared = Arc::new(Shared {
            model: Mutex::default(),
            has_news: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
            stop,
        });
        let for_thread = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("view".into()).spawn(move || for_thread.show(terminal))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn tell(&self, change: impl FnOnce(&mut Model)) {
        change(&mut self.shared.model());
        self.shared.has_news.store(true, Ordering::Release);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        restore();
    }
}

impl View for Live {
    fn begin(&self, heading: &Heading) {
        self.tell(|model| model.begin(heading));
    }

    fn note(&self, text: &str) {
        self.tell(|model| model.note(text));
    }

    fn status(&self, status: &Status) {
        self.tell(|model| model.status(status));
    }

    fn second(&self, second: &Second) {
        self.tell(|model| model.second(second));
    }
}

impl Shared {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, mut terminal: Terminal<CrosstermBackend<Stderr>>) {
        let palette = Palette::of_environment();
        let mut drawn = Instant::now();
        while !self.is_over.load(Ordering::Acquire) && IS_OURS.load(Ordering::Acquire) {
            let is_resized = self.read_keys();
            if is_resized || self.has_news.swap(false, Ordering::AcqRel) || drawn.elapsed() >= REDRAW {
                drawn = Instant::now();
                let mut model = self.model();
                model.is_stopping = self.stop.load(Ordering::Acquire);
                // A terminal that went away leaves nothing to draw on; the run goes on.
                let _ = terminal.draw(|frame| draw(frame, &model, palette));
            }
        }
    }

    /// True where the terminal has another size now.
    fn read_keys(&self) -> bool {
        match event::poll(KEYS) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(_) => {
                std::thread::park_timeout(KEYS);
                return false;
            }
        }
        match event::read() {
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                let is_ctrl_c =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if is_ctrl_c || key.code == KeyCode::Char('q') {
                    interrupt(&self.stop, SIGINT);
                    self.has_news.store(true, Ordering::Release);
                }
                false
            }
            Ok(Event::Resize(..)) => true,
            _ => false,
        }
    }
}
