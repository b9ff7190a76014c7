//! An identity provider that does what it is told: good keys, and everything that can go wrong with them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinwire_token::SigningKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::rig::PATIENCE;

/// A key of a provider.
pub struct ProviderKey {
    kid: String,
    pair: rcgen::KeyPair,
}

impl ProviderKey {
    pub fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: rcgen::KeyPair::generate().unwrap() }
    }

    /// The public half.
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key_raw();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "x": part(&point[1..33]), "y": part(&point[33..]) })
    }

    /// A token that is good for an hour.
    pub fn token(&self) -> String {
        self.token_with(&json!({}))
    }

    pub fn token_with(&self, patch: &Value) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let mut claims = json!({
            "sub": "ann", "aud": "pinwire", "scope": "pinwire", "tenantid": "t", "appId": "a", "exp": now + 3_600,
            "limits": { "maxConnections": 100_000, "maxDocuments": 100_000, "maxUsersPerDoc": 100_000 },
        });
        claims.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        let key =
            SigningKey::from_private_pem(&self.pair.serialize_pem()).unwrap().with_id(self.kid.as_str());
        pinwire_token::mint(&key, &claims).unwrap()
    }
}

pub fn jwks(keys: &[&ProviderKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

/// What a provider does with a request.
#[derive(Clone)]
pub enum Behaviour {
    /// 200 with this body, and a tag that follows from it.
    Body(String),
    /// These bytes, and then the end.
    Raw(String),
    /// These bytes, and then nothing: neither more nor an end.
    Hang(String),
    /// A head, and a body without an end.
    Endless,
    /// 200 with this body, once the provider is told to go on.
    Held(String),
}

pub struct Provider {
    pub address: SocketAddr,
    scheme: &'static str,
    behaviour: Arc<Mutex<Behaviour>>,
    gate: Arc<Gate>,
    heads: Receiver<String>,
}

/// Whether it is open.
type Gate = (Mutex<bool>, Condvar);

impl Provider {
    pub fn start(behaviour: Behaviour) -> Self {
        Self::start_with(behaviour, None)
    }

    pub fn start_with(behaviour: Behaviour, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let behaviour = Arc::new(Mutex::new(behaviour));
        let (told, heads) = channel();
        let gate = Arc::new(Gate::default());
        let (shared, shared_gate) = (Arc::clone(&behaviour), Arc::clone(&gate));
        std::thread::spawn(move || {
            // Ends with the test's process.
            for socket in listener.incoming().map_while(Result::ok) {
                let (behaviour, gate) = (Arc::clone(&shared), Arc::clone(&shared_gate));
                let (told, tls) = (told.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => answer(socket, &behaviour, &gate, &told),
                    Some(tls) => {
                        let session = ServerConnection::new(tls).unwrap();
                        answer(StreamOwned::new(session, socket), &behaviour, &gate, &told);
                    }
                });
            }
        });
        Self { address, scheme, behaviour, gate, heads }
    }

    pub fn url(&self) -> String {
        format!("{}://localhost:{}/keys", self.scheme, self.address.port())
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// What is held goes on.
    pub fn go_on(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }

    /// Waits for a request, and gives its head.
    pub fn asked(&self) -> String {
        self.heads.recv_timeout(PATIENCE).expect("a request")
    }

    /// Requests since the last call.
    pub fn count(&self) -> usize {
        self.heads.try_iter().count()
    }
}

fn answer(mut stream: impl Read + Write, behaviour: &Mutex<Behaviour>, gate: &Gate, told: &Sender<String>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let behaviour = behaviour.lock().unwrap().clone();
    let _ = told.send(head.clone());
    // The peer may have gone: its test sees what it wants to.
    let _ = match behaviour {
        Behaviour::Body(body) => {
            let tag = format!(
                "\"{:x}\"",
                body.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte))
            );
            let is_known = head.to_ascii_lowercase().contains(&format!("if-none-match: {tag}"));
            let head = format!("ETag: {tag}\r\nCache-Control: max-age=3600\r\nConnection: close");
            if is_known {
                write!(stream, "HTTP/1.1 304 Not Modified\r\n{head}\r\n\r\n")
            } else {
                let len = body.len();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\n{head}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}"
                )
            }
        }
        Behaviour::Raw(bytes) => stream.write_all(bytes.as_bytes()),
        Behaviour::Hang(bytes) => {
            let written = stream.write_all(bytes.as_bytes()).and_then(|()| stream.flush());
            // Until the other side has had enough.
            let _ = stream.read(&mut byte);
            written
        }
        Behaviour::Endless => {
            let head = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            let spaces = [b' '; 16 << 10];
            head.and_then(|()| {
                std::iter::repeat_with(|| stream.write_all(&spaces)).find(Result::is_err).unwrap_or(Ok(()))
            })
        }
        Behaviour::Held(body) => {
            let (is_open, opened) = gate;
            let guard = is_open.lock().unwrap();
            let waited = opened.wait_timeout_while(guard, PATIENCE, |is_open| !*is_open);
            drop(waited.unwrap());
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}")
        }
    };
    let _ = stream.flush();
}

/// An answer of HTTP with this status line's rest, headers and body.
pub fn http(status: &str, headers: &str, body: &str) -> Behaviour {
    Behaviour::Raw(format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n{body}"))
}

/// Certificates for `localhost` by an authority of their own, the second one expired; and the authority in PEM.
pub fn certified() -> (String, Arc<ServerConfig>, Arc<ServerConfig>) {
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let config = |is_expired: bool| {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        if is_expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap())
    };
    (authority.pem(), config(false), config(true))
}
