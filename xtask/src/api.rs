//! The admin API of a running node against its own description, by schemathesis: requests made up from `/v1/openapi.json`, good
//! ones and bad ones, and answers that have to be as described. Clients are there meanwhile, so that there is something to tell.

use crate::shell::{command, root, status_within, target_dir, wait_within};
use crate::tally::Tally;
use crate::{setup, unit};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

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
    let clients = Clients::start(&node)?;
    let config = directory.join("schemathesis.toml");
    fs::write(&config, configuration(&node.document()?)?)?;
    let mut run = command(schemathesis);
    run.current_dir(&directory)
        .arg("--config-file")
        .arg(&config)
        .args(["run", &format!("{}/v1/openapi.json", node.url)])
        .args(["--header", &format!("Authorization: Bearer {}", node.token)])
        // It never ends.
        .args(["--exclude-path", "/v1/stream"])
        .args(["--report", "junit", "--report-junit-path"])
        .arg(&report);
    let status = status_within(&mut run, RUN_LIMIT)?;
    drop(clients);
    node.end()?;
    let report = fs::read_to_string(&report).context("schemathesis' report")?;
    let tally = unit::read_junit(&report).context("schemathesis' report has no totals")?;
    if tally == Tally::default() || (!status.success() && tally.failed == 0) {
        bail!("schemathesis ended with {status}, {tally}");
    }
    Ok(tally)
}

/// What schemathesis runs with, and which document there is.
fn configuration(document: &Value) -> Result<String> {
    let mut text = fs::read_to_string(root().join("xtask/schemathesis.toml"))?;
    for path in ["", "/messages"] {
        // What is a string in JSON is one in TOML.
        let parameters = ["tenant", "app", "name"].map(|name| format!("{name} = {}", document[name]));
        let parameters = parameters.join(", ");
        text += &format!(
            "\n[[operations]]\ninclude-path = \"/v1/documents/{{tenant}}/{{app}}/{{name}}{path}\"\n\
             parameters = {{ {parameters} }}\n"
        );
    }
    Ok(text)
}

/// Clients of a document, who come back when they are closed; gone with this.
struct Clients(Child);

impl Clients {
    fn start(node: &Node) -> Result<Self> {
        let child = command(unit::release_binary("pinwire-loadgen"))
            .args(["idle", "--url", &node.ws_url, "--token", &node.client_token])
            .args(["--connections", "6", "--dialect", "hocuspocus"])
            .args(["--duration", &format!("{}s", RUN_LIMIT.as_secs())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Ok(Self(child.context("the load generator")?))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `dev` node; it is killed if it is not ended.
struct Node {
    child: Child,
    url: String,
    token: String,
    ws_url: String,
    client_token: String,
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
        Ok(Self {
            url: text("/regions/0/admin_url")?,
            token: text("/admin_token")?,
            ws_url: text("/regions/0/ws_url")?,
            client_token: text("/token")?,
            child,
        })
    }

    /// A document that there is, once there is one.
    fn document(&self) -> Result<Value> {
        let start = Instant::now();
        loop {
            let mut page: Value = self.get("/v1/documents?limit=1")?;
            match page["documents"].get_mut(0) {
                Some(document) => return Ok(document.take()),
                None if start.elapsed() > END_LIMIT => bail!("the load generator opened no document"),
                None => {}
            }
        }
    }

    fn get(&self, path: &str) -> Result<Value> {
        let authority = self.url.strip_prefix("http://").context("an address")?;
        let mut socket = TcpStream::connect(authority)?;
        socket.set_read_timeout(Some(END_LIMIT))?;
        write!(socket, "GET {path} HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", self.token)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("a whole head")?;
        serde_json::from_str(body).with_context(|| answer.clone())
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
