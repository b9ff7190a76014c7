//! Interrupts: the first ends the load, so that what there is gets reported; the second ends the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::view::live;

/// What a shell adds to a signal's number.
const SIGNALLED: i32 = 128;

/// Listens for SIGINT, SIGTERM and SIGHUP from now on, on a thread of its own. `stop` is what the first one sets.
///
/// # Errors
/// The kernel refuses the handlers or the thread.
pub fn listen(stop: &Arc<AtomicBool>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            interrupt(&stop, signal);
        }
    })?;
    Ok(())
}

/// As if the signal had come: a terminal in raw mode has Ctrl-C as a key.
pub fn interrupt(stop: &AtomicBool, signal: i32) {
    if stop.swap(true, Ordering::AcqRel) {
        live::restore();
        signal_hook::low_level::exit(SIGNALLED + signal);
    }
}

/// Leaves interrupts to somebody else: the process that started this one gets them too and says what to do.
///
/// # Errors
/// The kernel refuses the handlers.
pub fn leave_to_parent() -> Result<()> {
    for signal in [SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}
