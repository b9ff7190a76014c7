//! The admin API of a running node against its own description, by schemathesis: requests made up from `/v1/openapi.json`, good
//! ones and bad ones, and answers that have to be as described.

use crate::shell::{command, root, status_within, target_dir, wait_within};
use crate::tally::Tally;
use crate::{setup, unit};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A run takes a quarter of a minute.
const RUN_LIMIT: Duration = Duration::from_secs(180);
/// For the node to end.
const END_LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn run(_args: &[String]) -> Result<Tally> {
    let schemathesis = setup::install_schemathesis()?;
    unit::build(&[])?;
    // What it keeps between runs lies there.
    let directory = target_dir().join("api");
    fs::create_dir_all(&directory)?;
    let report = directory.join("junit.xml");
    let _ = fs::remove_file(&report);
    let node = Node::start()?;
    let mut run = command(schemathesis);
    run.current_dir(&directory)
        .arg("--config-file")
        .arg(root().join("xtask/schemathesis.toml"))
        .args(["run", &format!("{}/v1/openapi.json", node.url)])
        .args(["--header", &format!("Authorization: Bearer {}", node.token)])
        // It never ends.
        .args(["--exclude-path", "/v1/stream"])
        .args(["--report", "junit", "--report-junit-path"])
        .arg(&report);
    let status = status_within(&mut run, RUN_LIMIT)?;
    node.end()?;
    let report = fs::read_to_string(&report).context("schemathesis' report")?;
    let tally = unit::read_junit(&report).context("schemathesis' report has no totals")?;
    if tally == Tally::default() || (!status.success() && tally.failed == 0) {
        bail!("schemathesis ended with {status}, {tally}");
    }
    Ok(tally)
}

/// A `dev` node; it is killed if it is not ended.
struct Node {
    child: Child,
    url: String,
    token: String,
}

impl Node {
    fn start() -> Result<Self> {
        let mut child = command(unit::release_binary("pinwire-node"))
            .args(["dev", "--listen", "127.0.0.1:0", "--threads", "2", "--json"])
            .env("PINWIRE_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .context("the node")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line).context("the node's line of JSON")?;
        let text = |pointer: &str| -> Result<String> {
            let value = ready.pointer(pointer).and_then(Value::as_str);
            Ok(value.with_context(|| format!("the node told no {pointer}"))?.to_owned())
        };
        Ok(Self { url: text("/regions/0/admin_url")?, token: text("/admin_token")?, child })
    }

    /// Ends it; it has to end well.
    fn end(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        command("kill").arg(&pid).status().context("kill")?;
        match wait_within(&mut self.child, END_LIMIT)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the node ended with {status}"),
            None => bail!("the node did not end"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
