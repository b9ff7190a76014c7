//! Hosting: the monoio runtime of a data thread, and the one thing it awaits.

use std::future::Future;
use std::io;
use std::net::TcpStream as StdStream;

use monoio::net::TcpStream;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::backend::Backend;
use crate::config::{Config, DriverInUse};
use crate::{Engine, sys};

/// Entries of monoio's own ring: it never holds more than one poll.
const HOST_ENTRIES: u32 = 256;

/// Makes an engine on the calling thread and runs `main` with it until it returns.
///
/// The runtime's driver follows the engine's, so that a machine without io_uring needs none.
///
/// # Errors
/// When the engine or the runtime cannot be made.
pub fn run<M, F>(config: Config, main: M) -> io::Result<F::Output>
where
    M: FnOnce(Engine) -> F,
    F: Future,
    F::Output: 'static,
{
    let engine = Engine::new(config)?;
    if engine.driver() == DriverInUse::Uring
        && let Ok(mut host) = RuntimeBuilder::<IoUringDriver>::new().with_entries(HOST_ENTRIES).build()
    {
        return Ok(host.block_on(main(engine)));
    }
    let mut host = RuntimeBuilder::<LegacyDriver>::new().with_entries(HOST_ENTRIES).build()?;
    Ok(host.block_on(main(engine)))
}

/// Binds the calling thread to one processor, numbered as the system does.
///
/// # Errors
/// When the processor does not exist or may not be used.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    sys::pin_to_core(core)
}

/// The processors this thread may use, ascending: one data thread for each.
///
/// # Errors
/// When the system does not tell.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    sys::allowed_cores()
}

/// What the thread sleeps on: a descriptor that monoio can await.
#[derive(Default)]
pub(crate) struct Bed {
    stream: Option<TcpStream>,
}

impl Bed {
    /// Returns when the backend has something to reap.
    pub(crate) async fn sleep(&mut self, backend: &dyn Backend) {
        if self.stream.is_none() {
            // monoio awaits readability only of its own types; any descriptor may hide in this one.
            let made = backend.wait_fd().map(StdStream::from).and_then(TcpStream::from_std);
            match made {
                Ok(stream) => self.stream = Some(stream),
                Err(error) => return tracing::error!(%error, "the data thread cannot sleep"),
            }
        }
        if let Some(stream) = &self.stream
            && let Err(error) = stream.readable(false).await
        {
            tracing::error!(%error, "waiting for the kernel failed");
        }
    }
}
