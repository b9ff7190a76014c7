//! A control thread that works for the data threads: how it starts and ends.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::data::Mailbox;
use crate::node::AbortOnPanic;

/// A running thread, and the way to it. Dropping it has the thread end its work in good order, which it does in bounded time.
#[derive(Debug)]
pub(crate) struct Running<Way> {
    pub(crate) way: Way,
    mailboxes: Option<oneshot::Sender<Arc<[Mailbox]>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told besides requests.
#[derive(Debug)]
pub(crate) struct Signals {
    /// The data threads run; or it fails, and the node did not start.
    pub(crate) mailboxes: oneshot::Receiver<Arc<[Mailbox]>>,
    /// It is to end.
    pub(crate) stopping: oneshot::Receiver<()>,
}

/// A runtime for such a thread.
///
/// # Errors
/// The system gives none.
pub(crate) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()
}

impl<Way> Running<Way> {
    /// Starts a thread that works until `work` is done.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start<Done: Future<Output = ()>>(
        name: &str,
        runtime: Runtime,
        way: Way,
        work: impl FnOnce(Signals) -> Done + Send + 'static,
    ) -> io::Result<Self> {
        let (mailboxes, mailboxes_in) = oneshot::channel();
        let (stop, stopping) = oneshot::channel();
        let signals = Signals { mailboxes: mailboxes_in, stopping };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let guard = AbortOnPanic;
            runtime.block_on(work(signals));
            runtime.shutdown_background();
            std::mem::forget(guard);
        })?;
        Ok(Self { way, mailboxes: Some(mailboxes), stop: Some(stop), thread: Some(thread) })
    }

    /// The data threads run: they are told from now on.
    pub(crate) fn started(&mut self, mailboxes: &Arc<[Mailbox]>) {
        if let Some(sender) = self.mailboxes.take() {
            // A thread that has ended has ended the process.
            let _ = sender.send(Arc::clone(mailboxes));
        }
    }
}

impl<Way> Drop for Running<Way> {
    fn drop(&mut self) {
        drop((self.mailboxes.take(), self.stop.take()));
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }
}
