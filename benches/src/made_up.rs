//! Made-up nodes on real sockets: the admin API of as many as one likes, each of whose threads, documents and numbers change each
//! second. They are for measuring consoles, and no nodes otherwise.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use pinwire_admin::model::example;
use pinwire_admin::run::now;
use serde_json::{Value, json};

/// What there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Regions that they are in.
    pub regions: usize,
    /// Pins of all regions.
    pub pins: u64,
}

/// Starts them; they run as long as the process does. Gives their URLs.
///
/// # Errors
/// There are no ports.
pub fn start(size: Size) -> Result<Vec<String>> {
    let size = Arc::new(size);
    (0..size.nodes)
        .map(|number| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let url = format!("http://{}", listener.local_addr()?);
            let size = Arc::clone(&size);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let size = Arc::clone(&size);
                    std::thread::spawn(move || serve(number, &size, stream));
                }
            });
            Ok(url)
        })
        .collect()
}

fn serve(number: usize, size: &Size, mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut first = String::new();
        reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        }
        let target = first.split(' ').nth(1)?.to_owned();
        match target.split('?').next()? {
            "/v1/stream" => return tell(number, size, &mut stream),
            "/v1/regions" => {
                answer(&mut stream, "200 OK", &json!(example::regions(number, size.regions)))?;
            }
            "/v1/nodes" => answer(&mut stream, "200 OK", &json!({ "nodes": [], "unanswered": [] }))?,
            "/v1/pins" => answer(&mut stream, "200 OK", &json!(page(size, &target)))?,
            "/v1/apps" => answer(&mut stream, "200 OK", &json!({ "apps": [] }))?,
            _ => {
                let problem = json!({ "type": "about:blank", "title": "Not Found", "status": 404, "error": "not_found",
                    "detail": "made-up nodes have no such thing" });
                answer(&mut stream, "404 Not Found", &problem)?;
            }
        }
    }
}

/// A page of pins; its cursor ends with the number of its first one.
fn page(size: &Size, target: &str) -> pinwire_admin_api::cluster::PinPage {
    let cursor = target.rsplit_once("cursor=").map_or("", |(_, cursor)| cursor);
    let digits = cursor.rsplit(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    let from: u64 = digits.parse().unwrap_or(0);
    example::pins(from, (from + 500).min(size.pins), size.pins, size.regions, now())
}

fn tell(number: usize, size: &Size, stream: &mut TcpStream) -> Option<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").ok()?;
    let began = Instant::now();
    for second in 0.. {
        let look = example::look(number, size.regions, 500 + second, now());
        let event = if second == 0 { "snapshot" } else { "change" };
        write!(stream, "event: {event}\ndata: {}\n\n", serde_json::to_string(&look).ok()?).ok()?;
        std::thread::park_timeout(
            (began + Duration::from_secs(second + 1)).saturating_duration_since(Instant::now()),
        );
    }
    None
}

fn answer(stream: &mut TcpStream, status: &str, body: &Value) -> Option<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let size = Size { nodes: 1, regions: 2, pins: 1_200 };
        let (mut cursor, mut seen) = (String::new(), 0);
        loop {
            let page = page(&size, &format!("/v1/pins?limit=500{cursor}"));
            seen += page.pins.len();
            let Some(next) = page.next else { break };
            cursor = format!("&cursor={}", next.replace(':', "%3A"));
        }
        assert_eq!(seen, 1_200);
    }
}
