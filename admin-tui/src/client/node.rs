//! One node's tasks: its stream, which comes back by itself, and questions, one after the other on a connection of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::backoff::Backoff;
use super::sse::{Message, Messages};
use super::transport::{Connection, Fault};
use super::trust::Trust;
use super::wire::{Ask, Look, Update, What};

/// A stream says something each second: after this long without a byte it is given up.
const SILENCE: Duration = Duration::from_secs(6);
/// For an answer to a question.
const ANSWER: Duration = Duration::from_secs(5);
/// For an answer to an action: moving a document waits for what is in its log.
const ACTION: Duration = Duration::from_secs(60);
/// Who was refused is tried again now and then: a token may be changed.
const REFUSED: Duration = Duration::from_secs(5);

/// Where the bearer token comes from. Files are read for each connection, so that a new token is taken over.
#[derive(Clone, Default)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// This one.
    Value(String),
    /// What is in a file.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::None => "no token",
            Self::Value(_) => "a token",
            Self::File(_) => "a token in a file",
        })
    }
}

impl Token {
    pub(crate) fn read(&self) -> Result<Option<String>, String> {
        match self {
            Self::None => Ok(None),
            Self::Value(value) => Ok(Some(value.trim().to_owned())),
            Self::File(path) => match std::fs::read_to_string(path) {
                Ok(text) if text.trim().is_empty() => {
                    Err(format!("{}: there is no token in it", path.display()))
                }
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(error) => Err(format!("{}: the token cannot be read: {error}", path.display())),
            },
        }
    }
}

/// A request that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Act {
    pub(crate) what: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<String>,
}

/// What a node's tasks share.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) address: Address,
    pub(crate) trust: Trust,
    pub(crate) token: Arc<Token>,
    pub(crate) updates: Sender<Update>,
    /// Documents at the top that the stream has.
    pub(crate) documents: usize,
    /// Actions take turns.
    pub(crate) turns: Arc<Semaphore>,
}

impl Way {
    async fn tell(&self, what: What) -> Result<(), Closed> {
        let update = Update { node: self.address.clone(), what };
        self.updates.send(update).await.map_err(|_| Closed)
    }

    async fn open(&self) -> Result<Connection, Fault> {
        Connection::open(&self.address, &self.trust, &self.token).await
    }

    /// Follows the stream for ever.
    pub(crate) async fn follow(self) {
        let mut backoff = Backoff::default();
        while let Ok(outcome) = self.follow_once(&mut backoff).await {
            let Fault { why, is_refusal, .. } = outcome;
            let wait = if is_refusal { REFUSED } else { backoff.wait(chance()) };
            if self.tell(What::Lost { why, is_refusal, retry_in: wait }).await.is_err() {
                return;
            }
            sleep(wait).await;
        }
    }

    async fn follow_once(&self, backoff: &mut Backoff) -> Result<Fault, Closed> {
        let path = format!("/v1/stream?sort=edits&documents={}", self.documents);
        let begin = async { self.open().await?.send(Method::GET, &path, None).await };
        let response = match timeout(ANSWER * 2, begin).await {
            Ok(Ok(response)) => response,
            Ok(Err(fault)) => return Ok(fault),
            Err(_) => return Ok(Fault::new("no answer in time")),
        };
        self.tell(What::Connected).await?;
        let (mut body, mut messages, mut whole) = (response.into_body(), Messages::default(), Vec::new());
        loop {
            let frame = match timeout(SILENCE, body.frame()).await {
                Err(_) => return Ok(Fault::new(format!("silent for {} s", SILENCE.as_secs()))),
                Ok(None) => return Ok(Fault::new("the node ended the stream")),
                Ok(Some(Err(_))) => return Ok(Fault::new("the connection broke")),
                Ok(Some(Ok(frame))) => frame,
            };
            let Some(bytes) = frame.data_ref() else { continue };
            if let Err(why) = messages.feed(bytes, &mut whole) {
                return Ok(Fault::new(why));
            }
            for message in whole.drain(..) {
                match read(&message) {
                    Ok(None) => {}
                    Ok(Some(look)) => {
                        backoff.reset();
                        self.tell(What::Look(Box::new(look))).await?;
                    }
                    Err(why) => return Ok(Fault { is_refusal: true, ..Fault::new(why) }),
                }
            }
        }
    }

    /// Asks what it is told to.
    pub(crate) async fn answer(self, mut asks: Receiver<Ask>) {
        let mut connection = None;
        while let Some(ask) = asks.recv().await {
            let what = match self.ask(&mut connection, &ask).await {
                Ok(what) => what,
                Err(fault) => What::Unanswered { ask, why: fault.why },
            };
            if self.tell(what).await.is_err() {
                return;
            }
        }
    }

    async fn ask(&self, kept: &mut Option<Connection>, ask: &Ask) -> Result<What, Fault> {
        let mut connection = match kept.take().filter(Connection::is_usable) {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let body = connection.ask(Method::GET, &ask.path(), None, ANSWER).await;
        // An answer that is an error leaves the connection as good as it was.
        if body.as_ref().map_or_else(|fault| fault.status.is_some(), |_| true) {
            *kept = Some(connection);
        }
        let answer = ask.read(&body?).map_err(|error| Fault::new(unreadable(&error)))?;
        Ok(What::Answered(Box::new(answer)))
    }

    /// Has something done.
    pub(crate) async fn act(self, act: Act) {
        let turn = self.turns.acquire().await;
        let done = async { self.open().await?.ask(act.method, &act.path, act.body, ACTION).await };
        let outcome =
            done.await.map(|body| String::from_utf8_lossy(&body).into_owned()).map_err(|fault| fault.why);
        drop(turn);
        let _ = self.tell(What::Acted { what: act.what, outcome }).await;
    }
}

/// Nobody wants updates any more.
pub(crate) struct Closed;

fn read(message: &Message) -> Result<Option<Look>, String> {
    if !matches!(message.event.as_str(), "snapshot" | "change") {
        return Ok(None);
    }
    serde_json::from_str(&message.data).map(Some).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("the answer is not as this console ({}) knows it: {error}", env!("CARGO_PKG_VERSION"))
}

/// Between 0 and 1.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_anew_and_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::File(path.clone());
        assert!(token.read().unwrap_err().contains("token"));
        std::fs::write(&path, "  one\n").unwrap();
        assert_eq!(token.read().unwrap().as_deref(), Some("one"));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(token.read().unwrap().as_deref(), Some("two"));
        assert_eq!(format!("{:?}", Token::Value("secret".into())), "a token");
    }

    #[test]
    fn other_events_of_a_stream_are_passed_over() {
        let message = Message { event: "heartbeat".into(), data: "?".into() };
        assert!(read(&message).unwrap().is_none());
        assert!(read(&Message { event: "change".into(), data: "{}".into() }).is_err());
    }
}
