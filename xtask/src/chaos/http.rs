//! Asking nodes: one connection, any number of questions.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A node that is stopped or cut off does not answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const ANSWER_MAX: usize = 16 << 20;

/// A connection to a node's HTTP, or to its admin API.
pub(super) struct Http {
    stream: BufReader<TcpStream>,
    host: String,
    /// For `Authorization`.
    token: Option<String>,
}

impl Http {
    /// To `host:port`.
    pub(super) fn connect(host: &str, token: Option<&str>) -> Result<Self> {
        let address = host.to_socket_addrs()?.next().context("an address")?;
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: host.to_owned(), token: token.map(str::to_owned) })
    }

    /// Status and body of an answer.
    pub(super) fn get(&mut self, path: &str) -> Result<(u16, String)> {
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        self.stream.get_mut().write_all((request + "\r\n").as_bytes())?;
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status line")?;
        let mut length = 0;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header")?;
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().context("a length")?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                bail!("{path}: an answer without a length");
            }
        }
        ensure!(length <= ANSWER_MAX, "{path}: an answer of {length} bytes");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body)?))
    }

    /// A good answer, as JSON.
    pub(super) fn json(&mut self, path: &str) -> Result<Value> {
        let (status, body) = self.get(path)?;
        ensure!(status == 200, "{path}: {status} {body}");
        serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "{} closed the connection", self.host);
        Ok(line.trim_end().to_owned())
    }
}

/// The sum of a metric's samples in Prometheus' text.
pub(super) fn metric(text: &str, name: &str) -> f64 {
    let of = |line: &str| -> Option<f64> {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with([' ', '{']) {
            return None;
        }
        rest.rsplit(' ').next()?.parse().ok()
    };
    text.lines().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_metric_are_summed_and_no_other() {
        let text = "# TYPE a counter\na{of=\"x\"} 2\na{of=\"y\"} 3\na_total 7\nb 1\n";
        assert_eq!((metric(text, "a"), metric(text, "a_total"), metric(text, "c")), (5.0, 7.0, 0.0));
    }
}
