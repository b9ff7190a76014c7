//! `upgrade`: has another process take a running node's connections over, by its admin API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use pinwire_admin_api::actions::Upgraded;
use pinwire_admin_api::problem::Problem;

use super::serve::{SourceArgs, Unusable};
use crate::admin::leaving::PENDING;
use crate::config::secret_of;

/// The next process may take a minute to be ready.
const PATIENCE: Duration = Duration::from_secs(75);

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

impl UpgradeArgs {
    /// Asks the node, and says which process serves from now on.
    ///
    /// # Errors
    /// It cannot be asked, or no other process takes over: then it goes on as it was.
    pub fn run(&self) -> anyhow::Result<()> {
        let (mut stream, authorization) = self.connect()?;
        let request = format!(
            "POST /v1/node/upgrade HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{authorization}Content-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).context("the node's admin API")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the node's admin API does not answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if head.split(' ').nth(1) != Some("200") {
            let problem: Option<Problem> = serde_json::from_str(body).ok();
            let line = head.lines().next().unwrap_or("nothing");
            let what = problem.map_or_else(|| format!("it answers {line}"), |problem| problem.detail);
            if what == PENDING {
                bail!("the node may still be taken over from: {what}");
            }
            bail!("the node goes on as it was: {what}");
        }
        let Upgraded { pid } = serde_json::from_str(body).context("the node's answer")?;
        writeln!(std::io::stdout(), "process {pid} serves; the one before drains")?;
        Ok(())
    }

    /// A connection to the admin API, and a header with the token that it asks for.
    fn connect(&self) -> anyhow::Result<(Box<dyn Stream>, String)> {
        let (mut socket, mut rest) = (self.socket.clone(), None);
        if socket.is_none() {
            let resolved = self.sources.sources().resolve().map_err(Unusable)?;
            let admin =
                resolved.config.admin.clone().context("the node has no admin API: set admin.socket")?;
            socket = admin.socket.clone();
            rest = Some((admin, resolved.admin_token_file()));
        }
        if let Some(path) = socket {
            let stream = UnixStream::connect(&path).with_context(|| path.display().to_string())?;
            stream.set_read_timeout(Some(PATIENCE))?;
            return Ok((Box::new(stream), String::new()));
        }
        let (admin, token_file) = rest.context("there is no admin API")?;
        let address = admin.listen.first().context("the node has no admin API: set admin.socket")?;
        if admin.tls.is_some() {
            bail!("the admin API speaks TLS: set admin.socket, or ask for POST /v1/node/upgrade yourself");
        }
        let token =
            secret_of(&token_file).map_err(|what| anyhow::anyhow!("{} {what}", token_file.display()))?;
        let stream = TcpStream::connect(address).with_context(|| address.to_string())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok((Box::new(stream), format!("Authorization: Bearer {}\r\n", String::from_utf8_lossy(&token))))
    }
}
