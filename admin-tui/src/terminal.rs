//! The real terminal, and giving it back: when the guard is dropped, and when any thread panics, before the panic is told.

use std::io::{self, Stdout, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

/// Whether the terminal is ours.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back, if it is ours.
pub fn restore() {
    if IS_OURS.swap(false, Ordering::AcqRel) {
        // There is nobody left to tell that it failed.
        let _ =
            execute!(io::stdout(), DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// The terminal, taken.
#[derive(Debug)]
pub struct Taken {
    /// What is drawn on.
    pub terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Taken {
    /// Takes it.
    ///
    /// # Errors
    /// There is none.
    pub fn take(with_mouse: bool) -> Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        let needs = "the console needs a terminal; --once and --stream do without";
        enable_raw_mode().context(needs)?;
        IS_OURS.store(true, Ordering::Release);
        let take = || -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
            execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
            if with_mouse {
                execute!(io::stdout(), EnableMouseCapture)?;
            }
            Terminal::new(CrosstermBackend::new(io::stdout()))
        };
        match take() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                restore();
                Err(error).context(needs)
            }
        }
    }
}

impl Taken {
    /// Forgets what was drawn, so that all is drawn anew. The library's own way asks the terminal where its cursor is, which not
    /// every terminal answers.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn clear(&mut self) -> io::Result<()> {
        execute!(io::stdout(), Clear(ClearType::All))?;
        self.terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        restore();
    }
}

/// The sequence that puts text on the clipboard of the terminal that one sits at (OSC 52).
#[must_use]
pub fn clipboard(text: &str) -> String {
    format!("\x1b]52;c;{}\x07", STANDARD.encode(text))
}

/// Puts text on the clipboard.
pub fn copy(text: &str) {
    // A terminal that does not know the sequence ignores it.
    let mut out = io::stdout();
    let _ = out.write_all(clipboard(text).as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_cannot_end_the_sequence() {
        let sequence = clipboard("acme::notes\x07\x1b]0;x");
        assert_eq!(sequence.matches('\x07').count(), 1);
        assert_eq!(sequence.matches('\x1b').count(), 1);
    }
}
