//! Servers asked one by one: for tools that look at them rather than use them. Nothing is tried again here, and nothing is looked
//! for: each answer is that of the server that was named.

use crate::dial::{Connection, Dialer};
use crate::endpoint::{Endpoint, EndpointError, Host};
use redis::{Cmd, PushInfo, Value};
use std::time::Duration;

/// Connects to servers of an endpoint as its user.
pub struct Prober {
    servers: Dialer,
    sentinels: Dialer,
    patience: Duration,
}

/// A connection to one server.
pub struct Probe {
    connection: Connection,
    patience: Duration,
}

impl Prober {
    /// For an endpoint; no connection and no answer is waited for longer than `patience`.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(endpoint: &Endpoint, patience: Duration) -> Result<Self, EndpointError> {
        let servers = Dialer::new(endpoint, patience)?;
        let sentinels = servers.for_sentinels(endpoint)?;
        Ok(Self { servers, sentinels, patience })
    }

    /// Connects to a server that has data.
    ///
    /// # Errors
    /// Why it is not reached, or does not let the user in.
    pub async fn server(&self, host: &Host) -> Result<Probe, String> {
        self.probe(&self.servers, host).await
    }

    /// Connects to a sentinel.
    ///
    /// # Errors
    /// Why it is not reached, or does not let the user in.
    pub async fn sentinel(&self, host: &Host) -> Result<Probe, String> {
        self.probe(&self.sentinels, host).await
    }

    async fn probe(&self, dialer: &Dialer, host: &Host) -> Result<Probe, String> {
        let connection = dialer.dial(host, |_: PushInfo| Ok::<(), ()>(())).await?;
        Ok(Probe { connection, patience: self.patience })
    }
}

impl Probe {
    /// Sends a command.
    ///
    /// # Errors
    /// What the server says against it, or that it did not answer.
    pub async fn ask(&self, command: &Cmd) -> Result<Value, String> {
        let mut pipe = self.connection.pipe.clone();
        match tokio::time::timeout(self.patience, command.query_async(&mut pipe)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.patience)),
        }
    }

    /// Sends a command that is answered with a text.
    ///
    /// # Errors
    /// As [`Self::ask`]; or another answer than a text.
    pub async fn text(&self, command: &Cmd) -> Result<String, String> {
        redis::from_redis_value(self.ask(command).await?).map_err(|error| error.to_string())
    }
}
