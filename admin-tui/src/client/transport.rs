//! A connection to a node, requests on it, and what went wrong in words that help.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pinwire_admin_api::problem::Problem;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::node::Token;
use super::trust::Trust;

/// For a connection with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(4);
/// Bytes of an answer at most.
const ANSWER_MAX: usize = 16 << 20;

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// In words, with what helps.
    pub(crate) why: String,
    /// The node refused who asks.
    pub(crate) is_refusal: bool,
    /// The status of the answer, if there was one.
    pub(crate) status: Option<u16>,
}

impl Fault {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_refusal: false, status: None }
    }
}

/// A connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    bearer: Option<String>,
}

impl Connection {
    /// Opens one.
    pub(crate) async fn open(address: &Address, trust: &Trust, token: &Token) -> Result<Self, Fault> {
        let bearer = token.read().map_err(|why| Fault { is_refusal: true, ..Fault::new(why) })?;
        let opened = timeout(CONNECT, connect(address, trust)).await;
        let sender =
            opened.map_err(|_| Fault::new(format!("no connection within {} s", CONNECT.as_secs())))??;
        Ok(Self { sender, authority: address.authority(), bearer })
    }

    /// Whether it can be used once more.
    pub(crate) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Asks and gives the answer's head, an error where it is one.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Response<Incoming>, Fault> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.authority);
        request = request.header(ACCEPT, "application/json, text/event-stream");
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|_| Fault {
            is_refusal: true,
            ..Fault::new("the token has characters that no token has")
        })?;
        self.sender.ready().await.map_err(|error| Fault::new(ended(&error)))?;
        let response = self.sender.send_request(request).await.map_err(|error| Fault::new(ended(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(refused(status, &body, self.bearer.is_some()))
    }

    /// Asks and gives the whole answer.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<String>,
        patience: Duration,
    ) -> Result<Bytes, Fault> {
        let whole = async {
            let response = self.send(method, path, body).await?;
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            body.map(http_body_util::Collected::to_bytes)
                .map_err(|error| Fault::new(format!("the answer broke off: {error}")))
        };
        let late = || Fault::new(format!("no answer within {} s", patience.as_secs()));
        timeout(patience, whole).await.map_err(|_| late())?
    }
}

async fn connect(address: &Address, trust: &Trust) -> Result<SendRequest<Full<Bytes>>, Fault> {
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            speak(stream.map_err(|error| Fault::new(not_connected(&error, true)))?).await
        }
        Address::Tcp { host, port, is_tls } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await;
            let stream = stream.map_err(|error| Fault::new(not_connected(&error, false)))?;
            let _ = stream.set_nodelay(true);
            if !is_tls {
                return speak(stream).await;
            }
            let name = ServerName::try_from(host.clone())
                .map_err(|_| Fault::new(format!("`{host}` is no name that a certificate can have")))?;
            let tls = TlsConnector::from(trust.0.clone()).connect(name, stream).await;
            speak(tls.map_err(|error| Fault {
                is_refusal: is_certificate(&error),
                ..Fault::new(not_trusted(&error))
            })?)
            .await
        }
    }
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| Fault::new(ended(&error)))?;
    // Ends with the sender, or with the connection; its error comes out of the request that it broke.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn not_connected(error: &std::io::Error, is_socket: bool) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused if is_socket => {
            "nobody listens at this socket: is the node running, and is this its admin.socket?".into()
        }
        ErrorKind::ConnectionRefused => {
            "nobody listens there: is the node running, and is this its admin.listen?".into()
        }
        ErrorKind::NotFound if is_socket => {
            "there is no such socket: is the node running, and is this its admin.socket?".into()
        }
        ErrorKind::PermissionDenied if is_socket => {
            "the socket is for the node's user and root: run the console as one of them".into()
        }
        _ => format!("no connection: {error}"),
    }
}

fn is_certificate(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)))
}

fn not_trusted(error: &std::io::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Wrong, Error};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(Wrong::UnknownIssuer)) => {
            "the node's certificate is signed by nobody that is trusted here: name its authority with --ca FILE".into()
        }
        Some(Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. })) => {
            "the node's certificate is for another name: use the name that is in it".into()
        }
        Some(Error::InvalidCertificate(wrong)) => format!("the node's certificate is not good: {wrong:?}"),
        Some(Error::AlertReceived(Alert::CertificateRequired | Alert::UnknownCA | Alert::BadCertificate)) => {
            "the node wants a certificate that its admin.client_ca signed: --cert FILE --key FILE".into()
        }
        Some(Error::InvalidMessage(_)) => "no TLS is spoken there: try http:// in place of https://".into(),
        _ => format!("TLS failed: {error}"),
    }
}

fn ended(error: &hyper::Error) -> String {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            let alert = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if alert.is_some() {
                return not_trusted(io);
            }
        }
        source = inner.source();
    }
    if error.is_parse() {
        "what answers there speaks no HTTP: is it TLS, https:// then?".into()
    } else {
        format!("the connection ended: {error}")
    }
}

fn refused(status: StatusCode, body: &[u8], has_token: bool) -> Fault {
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let told = problem.map_or_else(|| status.to_string(), |problem| problem.detail);
    let mend = match (status, has_token) {
        (StatusCode::UNAUTHORIZED, false) => {
            " (no token was sent: --token-file FILE, or PINWIRE_ADMIN_TOKEN, with what is in the node's admin.token_file)"
        }
        (StatusCode::UNAUTHORIZED, true) => {
            " (the token sent is another one than in the node's admin.token_file)"
        }
        (StatusCode::NOT_FOUND, _) if told.starts_with("404") => {
            " (is this the admin API, and not the port for clients?)"
        }
        _ => "",
    };
    let is_refusal = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    Fault { why: format!("{told}{mend}"), is_refusal, status: Some(status.as_u16()) }
}
