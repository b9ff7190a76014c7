//! What a cluster is told to do while it runs, a line each on its stdin, and answered by a line of JSON each:
//!
//! | line | what happens |
//! | --- | --- |
//! | `restart SERVER` | the Redis of a region, or the `registry`, is killed and starts again with nothing; `keys` is what it had |
//! | `delay SERVER MS` | what it answers arrives so much later |
//! | `cut WAY` | nothing passes any more, and nobody is told: `REGION`, or one of `REGION/clients`, `REGION/links`, `REGION/registry` |
//! | `heal WAY` | it passes again |

use super::Cluster;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::io::BufRead;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Lines that were not looked at yet; whoever writes more waits.
const WAITING_MAX: usize = 16;

/// Lines of stdin as they come; none once that has ended.
pub(super) fn read() -> Result<Receiver<String>> {
    let (sender, lines) = sync_channel(WAITING_MAX);
    let read = move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("orders".to_owned()).spawn(read)?;
    Ok(lines)
}

impl Cluster {
    /// Does what a line says; the answer.
    pub(super) fn follow(&mut self, line: &str) -> Value {
        match self.obey(line) {
            Ok(mut done) => {
                done["done"] = json!(line);
                done
            }
            Err(error) => json!({ "failed": line, "error": format!("{error:#}") }),
        }
    }

    fn obey(&mut self, line: &str) -> Result<Value> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["restart", server] => {
                let master = self.stores.master(server)?;
                let keys = master.keys_of_first();
                master.kill_first()?;
                master.restart_first()?;
                Ok(json!({ "keys": keys }))
            }
            ["delay", server, millis] => {
                let millis = millis.parse().context("milliseconds")?;
                self.stores.lane(server)?.delay(Duration::from_millis(millis));
                Ok(json!({}))
            }
            [verb @ ("cut" | "heal"), way] => {
                let known = self.borders.iter().filter(|border| border.cut(way, verb == "cut")).count();
                ensure!(known > 0, "there is no way {way} that can be cut (`--lanes` makes them)");
                Ok(json!({}))
            }
            _ => bail!("what is {line:?}? `restart SERVER`, `delay SERVER MS`, `cut WAY`, `heal WAY`"),
        }
    }
}
