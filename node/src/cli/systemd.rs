//! What systemd is told, where it started the process and waits for that (`Type=notify`). Elsewhere nothing happens.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::oneshot;

use crate::Node;
use crate::drain::{Progress, Stage};

/// A stop that is told of this often is given twice as long each time.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long systemd waits for the next word of a node that drains.
const EXTENSION: Duration = Duration::from_secs(15);

/// Tells it something.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told of the node's state");
    }
}

/// It serves.
pub(super) fn tell_ready(region: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serves {region}"))]);
}

/// Another process is the service's from now on.
pub(super) fn tell_succeeded(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// This process is the service's again, and serves.
pub(super) fn tell_resumed(region: &str) {
    let status = format!("serves {region}, since the process that had taken over is lost");
    tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Status(&status), NotifyState::Ready]);
}

/// The configuration is being read again.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// How far a drain is: for whoever looks, and so that systemd goes on waiting.
pub(super) fn tell_progress(progress: &Progress) {
    let Progress { stage, connections, connections_before, carried, .. } = *progress;
    let doing = match stage {
        Stage::Serving => "serves",
        Stage::LeavingDns => "drains: leaves DNS",
        Stage::Leaving => "drains: out of DNS, takes who still comes",
        Stage::Closing => "drains: closes its clients",
        Stage::Over => "drained",
    };
    let carried = match carried {
        0 => String::new(),
        carried => format!(", and {carried} sessions of other nodes"),
    };
    let status = format!("{doing}; {connections} of {connections_before} connections are left{carried}");
    let extension = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(extension)]);
}

/// Ends with this.
pub(super) type Watchdog = Option<oneshot::Sender<()>>;

/// Tells the watchdog, if there is one, twice as often as it wants to hear, as long as every data thread answers.
///
/// # Errors
/// The system gives no thread.
pub(super) fn start_watchdog(node: &Node) -> io::Result<Watchdog> {
    let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(None) };
    let (end, ended) = oneshot::channel();
    let threads = node.threads();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let watch = async move {
        let mut times = tokio::time::interval(limit / 2);
        loop {
            times.tick().await;
            if threads.all_answer().await {
                tell(&[NotifyState::Watchdog]);
            } else {
                tracing::error!("a data thread does not answer: systemd is not told that all is well");
            }
        }
    };
    let until_end = async move {
        tokio::select! {
            () = watch => {}
            _ = ended => {}
        }
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || runtime.block_on(until_end))?;
    Ok(Some(end))
}
