//! What coordinator and agents say to each other: JSON, each message behind its length in four bytes, big end first.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::results::Results;
use crate::run::{Seat, Second, Status};
use crate::scenario::Scenario;

/// Bytes of a message before the other side has shown that it knows the token.
pub(crate) const STRANGER_MAX: u32 = 4 << 10;
/// Bytes of a message after that: results with a hundred stages have some megabytes.
pub(crate) const MESSAGE_MAX: u32 = 64 << 20;
/// The other side is gone when it has been silent, or has not read, for so long. Both speak every second.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What is said of a side that is.
pub(crate) const SILENT: &str = "it is silent";

/// How a side introduces itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {
    /// The program and its version: both sides are of the same.
    pub(crate) program: String,
    /// Random, hexadecimal: what the proofs are made of.
    pub(crate) nonce: String,
}

/// From the coordinator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToAgent {
    Hello(Hello),
    Proof {
        mac: String,
    },
    Task(Box<Task>),
    Ping {
        number: u32,
    },
    /// Dial; times of the run count from this moment of the agent's clock, nanoseconds.
    Begin {
        at: u64,
    },
    /// The second half of the clients may dial.
    PassHalf,
    /// The load starts at this moment of the agent's clock, nanoseconds.
    Start {
        at: u64,
    },
    /// End the load.
    Stop,
}

/// A run to come.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Task {
    pub(crate) scenario: Scenario,
    /// Its share of the run.
    pub(crate) seat: Seat,
    /// Its place among the processes on its machine.
    pub(crate) on_host: Seat,
    /// Whether clients of `idle` wait half way.
    pub(crate) waits_at_half: bool,
}

/// From an agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromAgent {
    Hello(Hello),
    /// It does not do what was asked, and why.
    Refused {
        reason: String,
    },
    Welcome {
        mac: String,
        host: String,
        cores: u32,
    },
    /// What keeps its share from working, and what it arranged.
    Ready {
        obstacles: Vec<String>,
        arranged: Vec<String>,
    },
    Pong {
        number: u32,
        at: u64,
    },
    Status(Status),
    Second(Box<Second>),
    /// Half of its clients stand, and it waits.
    AtHalf {
        open: u64,
    },
    Joined,
    Done(Box<Results>),
    Failed {
        reason: String,
    },
}

/// A connection of either kind.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// To a process on this machine that was started for the run.
    Pair(UnixStream),
}

impl Stream {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Pair(stream) => Self::Pair(stream.try_clone()?),
        })
    }

    /// How long reads and writes wait.
    pub(crate) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(Some(SILENCE_MAX))
            }
            Self::Pair(stream) => {
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(Some(SILENCE_MAX))
            }
        }
    }

    pub(crate) fn shutdown(&self) {
        // Who is gone already needs no end.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Pair(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Pair(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Pair(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The way out, for several threads. There is no queue: whoever sends waits for the socket.
#[derive(Debug)]
pub(crate) struct Outlet(Mutex<Stream>);

impl Outlet {
    pub(crate) fn new(stream: Stream) -> Self {
        Self(Mutex::new(stream))
    }

    pub(crate) fn send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        write(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), message)
    }

    pub(crate) fn shutdown(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).shutdown();
    }
}

pub(crate) fn write<T: Serialize>(out: &mut impl Write, message: &T) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).ok().filter(|length| *length <= MESSAGE_MAX);
    let length = length.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a message is too long"))?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    out.write_all(&bytes)
}

/// The next message, of `max` bytes at most.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl Read, max: u32) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(in_words)?;
    let length = u32::from_be_bytes(length);
    if length > max {
        return Err(io::Error::new(ErrorKind::InvalidData, "it sent what is no message of pinwire-loadgen"));
    }
    // What is claimed is allocated as it comes.
    let mut bytes = Vec::new();
    let read = from.take(length.into()).read_to_end(&mut bytes).map_err(in_words)?;
    if read < length as usize {
        return Err(in_words(ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        io::Error::new(ErrorKind::InvalidData, format!("it sent what cannot be understood: {error}"))
    })
}

fn in_words(error: io::Error) -> io::Error {
    let words = match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "it is gone",
        ErrorKind::WouldBlock | ErrorKind::TimedOut => SILENT,
        _ => return error,
    };
    io::Error::new(error.kind(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        write(&mut bytes, &ToAgent::Start { at: 7 }).unwrap();
        write(&mut bytes, &ToAgent::Stop).unwrap();
        let mut from = bytes.as_slice();
        assert!(matches!(read(&mut from, 100).unwrap(), ToAgent::Start { at: 7 }));
        assert!(matches!(read(&mut from, 100).unwrap(), ToAgent::Stop));
        let end = read::<ToAgent>(&mut from, 100).unwrap_err();
        assert_eq!(end.to_string(), "it is gone");
    }

    #[test]
    fn a_scenario_goes_over_the_wire_whole() {
        for name in crate::scenario::presets::NAMES {
            let scenario = crate::scenario::presets::preset(name).unwrap();
            let task = Task { scenario, seat: Seat::ALONE, on_host: Seat::ALONE, waits_at_half: false };
            let mut bytes = Vec::new();
            write(&mut bytes, &ToAgent::Task(Box::new(task))).unwrap();
            let ToAgent::Task(back) = read(&mut bytes.as_slice(), MESSAGE_MAX).unwrap() else {
                panic!("{name}")
            };
            assert_eq!(back.scenario, crate::scenario::presets::preset(name).unwrap());
        }
    }

    #[test]
    fn what_is_too_long_cut_short_or_nonsense_is_an_error_and_no_allocation() {
        let claims = u32::MAX.to_be_bytes();
        assert!(read::<ToAgent>(&mut claims.as_slice(), STRANGER_MAX).is_err());
        let http = b"GET / HTTP/1.1\r\n\r\n";
        assert!(
            read::<ToAgent>(&mut http.as_slice(), MESSAGE_MAX)
                .unwrap_err()
                .to_string()
                .contains("no message")
        );
        let short = [0, 0, 0, 9, b'"', b's'];
        assert_eq!(read::<ToAgent>(&mut short.as_slice(), 100).unwrap_err().to_string(), "it is gone");
        let nonsense = [0, 0, 0, 2, b'{', b'}'];
        assert!(read::<ToAgent>(&mut nonsense.as_slice(), 100).is_err());
    }
}
