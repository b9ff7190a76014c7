//! Many idle clients of one node, in documents of some members: how they come, idle and leave.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pinwire_loadgen::scenario::Dialect;

use crate::fleet::{Dial, Fleet};
use crate::tokens::Mint;

/// Loopback addresses that the clients come from.
pub const SOURCES: usize = 1_000;
/// Addresses with the same third byte.
const SOURCES_PER_BYTE: usize = 250;
/// Clients between dialling and sync at any moment.
const DIALLING: usize = 128;
/// How often presence is renewed, as y-websocket does.
const RENEWAL: Duration = Duration::from_secs(15);
/// Longest time without progress.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Debug)]
pub struct Crowd {
    fleet: Fleet,
    mint: Mint,
    dialect: Dialect,
    members: usize,
    presence: usize,
    /// How often it left: its documents are others each time.
    generation: usize,
    /// Renewals of presence since `since`.
    renewed: u64,
    since: Instant,
}

impl Crowd {
    /// Nobody yet; documents will have `members` members, each with `presence` bytes of awareness state, or none.
    #[must_use]
    pub fn new(fleet: Fleet, mint: Mint, members: usize, presence: usize) -> Self {
        let dialect = Dialect::YWebsocket;
        Self { fleet, mint, dialect, members, presence, generation: 0, renewed: 0, since: Instant::now() }
    }

    /// Clients that dial from now on speak this.
    pub fn speak(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// The clients.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The clients, to have them edit. Client `n` is in document number `n / members`.
    pub fn fleet_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
    }

    /// Members of a document.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members
    }

    /// Dials until there are `count` clients, all in sync.
    ///
    /// # Errors
    /// A client is refused or disconnected, or makes no progress.
    pub async fn grow(&mut self, count: usize) -> Result<()> {
        let mut dialled = self.fleet.counts().synced;
        self.since = Instant::now();
        let mut progress = Instant::now();
        loop {
            let synced = self.fleet.counts().synced;
            if synced == count {
                self.since = Instant::now();
                self.renewed = 0;
                return Ok(());
            }
            while dialled < count && dialled - synced < DIALLING {
                self.dial(dialled)?;
                dialled += 1;
                progress = Instant::now();
            }
            ensure!(progress.elapsed() < PATIENCE, "{} clients do not get in sync", dialled - synced);
            self.fleet.turn(Instant::now() + Duration::from_millis(100), &mut ()).await?;
        }
    }

    /// Lets time go by: clients answer, and renew their presence in turn.
    ///
    /// # Errors
    /// A client is disconnected, or sent what it should not be sent.
    pub async fn idle(&mut self, time: Duration) -> Result<()> {
        let connections = self.fleet.counts().synced - self.fleet.counts().closed;
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.presence > 0 && connections > 0 {
                let rounds = self.since.elapsed().as_secs_f64() / RENEWAL.as_secs_f64();
                let due = (rounds * connections as f64) as u64;
                while self.renewed < due {
                    self.fleet.announce((self.renewed % connections as u64) as usize)?;
                    self.renewed += 1;
                }
            }
            self.fleet.turn(end.min(Instant::now() + Duration::from_millis(50)), &mut ()).await?;
        }
        Ok(())
    }

    /// All close, and are forgotten when they are gone.
    ///
    /// # Errors
    /// A connection does not end.
    pub async fn leave(&mut self) -> Result<()> {
        self.fleet.close_all()?;
        let connections = self.fleet.counts().synced;
        let mut progress = (0, Instant::now());
        while self.fleet.counts().closed < connections {
            let closed = self.fleet.counts().closed;
            if closed > progress.0 {
                progress = (closed, Instant::now());
            }
            ensure!(progress.1.elapsed() < PATIENCE, "{} connections do not end", connections - closed);
            self.fleet.turn(Instant::now() + Duration::from_secs(1), &mut ()).await?;
        }
        self.generation += 1;
        self.fleet.forget()
    }

    fn dial(&mut self, number: usize) -> Result<()> {
        let document = format!("document-{}-{:05}", self.generation, number / self.members);
        let token = self.mint.token()?;
        let source = source(number)?;
        let presence = (self.presence > 0).then(|| presence(number, self.presence));
        self.fleet.dial(Dial {
            source,
            path: "",
            document: &document,
            token: Some(&token),
            dialect: self.dialect,
            presence,
        })?;
        Ok(())
    }
}

/// The address that client `number` comes from.
///
/// # Errors
/// None, for as many sources as there are.
pub(crate) fn source(number: usize) -> Result<Ipv4Addr> {
    let source = number % SOURCES;
    let (third, fourth) = (1 + source / SOURCES_PER_BYTE, 1 + source % SOURCES_PER_BYTE);
    Ok(Ipv4Addr::new(127, 0, u8::try_from(third)?, u8::try_from(fourth)?))
}

/// A state of `bytes` bytes of JSON, as editors have it: a name, a colour, padding where a cursor would stand.
fn presence(number: usize, bytes: usize) -> Box<str> {
    let head = format!(r##"{{"user":{{"name":"Member {number:05}","color":"#30bced"}},"at":""##);
    let padding = bytes.saturating_sub(head.len() + 2);
    format!("{head}{}\"}}", "x".repeat(padding)).into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_is_json_of_the_size_that_was_asked_for() {
        for bytes in [60, 200] {
            let state = presence(17, bytes);
            assert_eq!(state.len(), bytes);
            assert!(serde_json::from_str::<serde_json::Value>(&state).is_ok());
        }
    }
}
