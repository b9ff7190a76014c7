//! The way from a data thread to the HTTP thread.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use pinwire_engine::Carried;
use tokio::sync::mpsc;

/// A connection whose first request is no WebSocket upgrade.
#[derive(Debug)]
pub struct HandOver {
    /// The socket; nobody else may read or write it any more.
    pub fd: OwnedFd,
    /// What was read from it already, from the first byte of a request on; the request need not be complete.
    pub read: Vec<u8>,
    /// The other end.
    pub peer: SocketAddr,
    /// What its bytes go through, where it speaks TLS.
    pub carried: Option<Carried>,
}

impl HandOver {
    /// A last answer as the socket is to send it, and its end.
    #[must_use]
    pub fn sealed(&mut self, answer: Vec<u8>) -> Vec<u8> {
        let Some((mut transform, mut unread)) = self.carried.take().map(Carried::into_parts) else {
            return answer;
        };
        let mut wire = Vec::new();
        if transform.outbound(&[IoSlice::new(&answer)], &mut unread, &mut wire).is_ok() {
            transform.finish(&mut unread, &mut wire);
        }
        wire
    }
}

/// Hands connections to the HTTP thread. Cheap to clone; each data thread has its own.
#[derive(Debug, Clone)]
pub struct HttpDoor {
    sender: mpsc::Sender<HandOver>,
}

impl HttpDoor {
    pub(crate) fn new(sender: mpsc::Sender<HandOver>) -> Self {
        Self { sender }
    }

    /// Hands a connection over; never blocks.
    ///
    /// # Errors
    /// The connection itself, where too many wait or the thread has stopped: the caller writes [`busy_answer`] and
    /// closes it.
    pub fn try_hand_over(&self, hand_over: HandOver) -> Result<(), HandOver> {
        self.sender.try_send(hand_over).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back) => back,
        })
    }
}

/// A whole HTTP answer for a connection that cannot be served now.
pub fn busy_answer(retry_after_secs: u64) -> Vec<u8> {
    let body = r#"{"error":"busy","message":"too many requests at once"}"#;
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {retry_after_secs}\r\nconnection: close\r\n\
         content-type: application/json\r\naccess-control-allow-origin: *\r\n\
         access-control-expose-headers: Retry-After\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
