//! `upgrade`: has another process take a running node's connections over, by its admin API, and says what became of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use pinwire_admin_api::actions::UpgradeBegun;
use pinwire_admin_api::node::{Upgrade, UpgradeState};
use pinwire_admin_api::problem::Problem;
use serde::Deserialize;

use super::serve::{SourceArgs, Unusable};
use crate::config::secret_of;

/// The next process may take a minute to be ready.
const PATIENCE: Duration = Duration::from_secs(75);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(15);
/// Between two looks at what became of it.
const LOOK: Duration = Duration::from_millis(100);

/// Flags of `upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// The node's admin socket, instead of what the configuration says.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Something that carries a request and its answer.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Where the admin API is.
enum Place {
    Unix(PathBuf),
    /// With the token that it asks for.
    Tcp(SocketAddr, String),
}

/// What is looked at of a node; another version may say more, or less.
#[derive(Deserialize)]
struct Seen {
    upgrade: Option<Upgrade>,
}

impl Place {
    /// The status of an answer, and its body.
    fn ask(&self, method: &str, path: &str) -> anyhow::Result<(u16, String)> {
        let (mut stream, authorization): (Box<dyn Stream>, _) = match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).with_context(|| path.display().to_string())?;
                stream.set_read_timeout(Some(ANSWER))?;
                (Box::new(stream), String::new())
            }
            Self::Tcp(address, token) => {
                let stream = TcpStream::connect(address).with_context(|| address.to_string())?;
                stream.set_read_timeout(Some(ANSWER))?;
                (Box::new(stream), format!("Authorization: Bearer {token}\r\n"))
            }
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{authorization}Content-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).context("the node's admin API")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the node's admin API does not answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the node's admin API does not answer")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.context("the node's admin API speaks no HTTP")?, body.to_owned()))
    }

    /// What became of the process, as far as whoever answers knows.
    fn look(&self, pid: u32) -> anyhow::Result<Option<Upgrade>> {
        let (status, body) = self.ask("GET", "/v1/node")?;
        if status != 200 {
            bail!("it answers {status}");
        }
        let Seen { upgrade } = serde_json::from_str(&body).context("the node's answer")?;
        Ok(upgrade.filter(|upgrade| upgrade.pid == pid))
    }
}

impl UpgradeArgs {
    /// Asks the node, and says which process serves from now on.
    ///
    /// # Errors
    /// It cannot be asked, or no other process takes over: then it goes on as it was, unless this says otherwise.
    pub fn run(&self) -> anyhow::Result<()> {
        let place = self.place()?;
        let (status, body) = place.ask("POST", "/v1/node/upgrade")?;
        if status != 202 {
            let problem: Option<Problem> = serde_json::from_str(&body).ok();
            let what = problem.map_or_else(|| format!("it answers {status}"), |problem| problem.detail);
            bail!("the node goes on as it was: {what}");
        }
        let UpgradeBegun { pid } = serde_json::from_str(&body).context("the node's answer")?;
        let deadline = Instant::now() + PATIENCE;
        let mut unknown = "it is not ready yet".to_owned();
        while Instant::now() < deadline {
            // One of them may end just while it answers: the other one does next time.
            match place.look(pid) {
                Ok(Some(Upgrade { state: UpgradeState::Succeeded, .. })) => {
                    writeln!(std::io::stdout(), "process {pid} serves; the one before drains")?;
                    return Ok(());
                }
                Ok(Some(Upgrade { state: UpgradeState::Failed, error, .. })) => {
                    bail!("the node goes on as it was: {}", error.unwrap_or_default());
                }
                Ok(Some(Upgrade { state: UpgradeState::Lost, error, .. })) => {
                    let how = error.unwrap_or_default();
                    bail!("process {pid} took over and ended ({how}); the one before serves again");
                }
                Ok(Some(Upgrade { state: UpgradeState::Starting, .. })) => {
                    unknown = "it is not ready yet".to_owned();
                }
                Ok(None) => unknown = "the node does not know of it".to_owned(),
                Err(error) => unknown = format!("{error:#}"),
            }
            std::thread::park_timeout(LOOK);
        }
        bail!("process {pid} may still take over: {unknown}; /v1/node and the events say what becomes of it");
    }

    fn place(&self) -> anyhow::Result<Place> {
        if let Some(socket) = &self.socket {
            return Ok(Place::Unix(socket.clone()));
        }
        let resolved = self.sources.sources().resolve().map_err(Unusable)?;
        let admin = resolved.config.admin.clone().context("the node has no admin API: set admin.socket")?;
        if let Some(socket) = admin.socket {
            return Ok(Place::Unix(socket));
        }
        let address = admin.listen.first().context("the node has no admin API: set admin.socket")?;
        if admin.tls.is_some() {
            bail!("the admin API speaks TLS: set admin.socket, or ask for POST /v1/node/upgrade yourself");
        }
        let file = resolved.admin_token_file();
        let token = secret_of(&file).map_err(|what| anyhow::anyhow!("{} {what}", file.display()))?;
        Ok(Place::Tcp(*address, String::from_utf8_lossy(&token).into_owned()))
    }
}
