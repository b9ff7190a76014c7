//! Who is at the other end of a link.
//!
//! ```text
//!  dialer                                             listener
//!    │ hello: version, name, nonce                        │
//!    ├───────────────────────────────────────────────────►│
//!    │                      hello: version, name, nonce   │
//!    │◄───────────────────────────────────────────────────┤
//!    │ proof                                              │
//!    ├───────────────────────────────────────────────────►│ checked, else cut
//!    │                                            proof   │
//!    │◄───────────────────────────────────────────────────┤
//!    checked, else cut
//! ```
//!
//! A hello is `pinwire-peer`, a byte of version (the listener's is the lower of both), a byte of length and that much of name, and
//! a nonce of 32 bytes. A proof is HMAC-SHA-256, under the secret that all nodes share, of a label, the prover's role, the version, both
//! names with their lengths, and both nonces, the dialer's first. So a proof of another connection, of the other role, or for another
//! node is none. A node that is answered in its own name, or in another than the registry says, ends the link: its own
//! proofs would else do for whoever sends them back.
//!
//! Proofs say who the ends are, not that nobody is between them: where others can read or change what passes, links need TLS.

use aws_lc_rs::hmac;
use std::fmt;

/// The highest version of messages that is spoken here.
pub const VERSION: u8 = 4;
/// The lowest that is understood.
const VERSION_MIN: u8 = 1;
/// Bytes of a secret at least.
pub const SECRET_MIN: usize = 32;
const MAGIC: &[u8; 12] = b"pinwire-peer";
const NONCE_LEN: usize = 32;
const PROOF_LEN: usize = 32;
const NAME_MAX: usize = 255;

/// What all nodes of a system share.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// `None` if it is shorter than [`SECRET_MIN`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= SECRET_MIN).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has the sockets.
    Dialer,
    /// It has the documents.
    Listener,
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// Why a link does not come to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The other end is no node.
    #[error("the other end does not speak this protocol")]
    Magic,
    /// No version in common.
    #[error("the other end speaks version {0}, this node from {VERSION_MIN} to {VERSION}")]
    Version(u8),
    /// A name is not text, or empty.
    #[error("the other end has no proper name")]
    Name,
    /// It is this node.
    #[error("the other end goes by this node's own name, {0}")]
    Oneself(String),
    /// It is another node than was dialled.
    #[error("the other end is {found}, not {expected}")]
    Stranger {
        /// Whom the registry names at the address.
        expected: String,
        /// Who answered.
        found: String,
    },
    /// The secrets differ, or somebody pretends.
    #[error("the other end, {0}, does not prove that it has the secret of this system")]
    Proof(String),
}

/// What bytes of the other end lead to.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// To be sent.
    pub send: Vec<u8>,
    /// The other end has proved itself: its name, the version to speak, and what came behind.
    pub established: Option<(String, u8, Vec<u8>)>,
}

/// One end's part in the beginning of a link.
#[derive(Debug)]
pub struct Handshake {
    secret: Secret,
    role: Role,
    me: String,
    nonce: [u8; NONCE_LEN],
    /// Whom a dialer expects.
    expected: Option<String>,
    peer: Option<Hello>,
    input: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Hello {
    version: u8,
    name: String,
    nonce: [u8; NONCE_LEN],
}

impl Handshake {
    /// A dialer that expects a node of this name, and its first bytes. `nonce` is random and never used twice.
    #[must_use]
    pub fn dial(secret: Secret, me: &str, expected: &str, nonce: [u8; NONCE_LEN]) -> (Self, Vec<u8>) {
        let dialer = Self::new(secret, Role::Dialer, me, Some(expected.to_owned()), nonce);
        let hello = hello(VERSION, me, &nonce);
        (dialer, hello)
    }

    /// A listener, which says nothing before it is spoken to.
    #[must_use]
    pub fn listen(secret: Secret, me: &str, nonce: [u8; NONCE_LEN]) -> Self {
        Self::new(secret, Role::Listener, me, None, nonce)
    }

    fn new(secret: Secret, role: Role, me: &str, expected: Option<String>, nonce: [u8; NONCE_LEN]) -> Self {
        Self { secret, role, me: me.to_owned(), nonce, expected, peer: None, input: Vec::new() }
    }

    /// Bytes came.
    ///
    /// # Errors
    /// The other end is not let in.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Step, HandshakeError> {
        self.input.extend_from_slice(bytes);
        let mut step = Step { send: Vec::new(), established: None };
        if self.peer.is_none() {
            let Some((hello, len)) = read_hello(&self.input)? else { return Ok(step) };
            self.input.drain(..len);
            self.meet(hello, &mut step)?;
        }
        let Some(peer) = self.peer.clone().filter(|_| self.input.len() >= PROOF_LEN) else { return Ok(step) };
        let rest = self.input.split_off(PROOF_LEN);
        if hmac::verify(&self.secret.0, &self.claim(self.role.other(), &peer), &self.input).is_err() {
            return Err(HandshakeError::Proof(peer.name));
        }
        if self.role == Role::Listener {
            step.send.extend_from_slice(&self.prove(&peer));
        }
        step.established = Some((peer.name, peer.version, rest));
        Ok(step)
    }

    fn meet(&mut self, mut found: Hello, step: &mut Step) -> Result<(), HandshakeError> {
        found.version = match self.role {
            Role::Listener => found.version.min(VERSION),
            Role::Dialer => found.version,
        };
        if !(VERSION_MIN..=VERSION).contains(&found.version) {
            return Err(HandshakeError::Version(found.version));
        }
        if found.name == self.me {
            return Err(HandshakeError::Oneself(found.name));
        }
        if let Some(expected) = self.expected.as_ref().filter(|expected| **expected != found.name) {
            return Err(HandshakeError::Stranger { expected: expected.clone(), found: found.name });
        }
        match self.role {
            Role::Dialer => step.send.extend_from_slice(&self.prove(&found)),
            Role::Listener => step.send = hello(found.version, &self.me, &self.nonce),
        }
        self.peer = Some(found);
        Ok(())
    }

    fn prove(&self, peer: &Hello) -> Vec<u8> {
        hmac::sign(&self.secret.0, &self.claim(self.role, peer)).as_ref().to_vec()
    }

    /// What the end of this role proves.
    fn claim(&self, prover: Role, peer: &Hello) -> Vec<u8> {
        let (me, other) = ((&*self.me, &self.nonce), (&*peer.name, &peer.nonce));
        let (dialer, listener) = if self.role == Role::Dialer { (me, other) } else { (other, me) };
        let mut claim = b"pinwire peer link".to_vec();
        claim.push(match prover {
            Role::Dialer => b'D',
            Role::Listener => b'L',
        });
        claim.push(peer.version);
        for (name, _) in [dialer, listener] {
            claim.push(name.len() as u8);
            claim.extend_from_slice(name.as_bytes());
        }
        claim.extend_from_slice(dialer.1);
        claim.extend_from_slice(listener.1);
        claim
    }
}

fn hello(version: u8, name: &str, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    let name = &name.as_bytes()[..name.floor_char_boundary(NAME_MAX)];
    let mut hello = MAGIC.to_vec();
    hello.extend_from_slice(&[version, name.len() as u8]);
    hello.extend_from_slice(name);
    hello.extend_from_slice(nonce);
    hello
}

/// A hello and its length; `None` until more bytes come.
fn read_hello(input: &[u8]) -> Result<Option<(Hello, usize)>, HandshakeError> {
    let known = input.len().min(MAGIC.len());
    if input[..known] != MAGIC[..known] {
        return Err(HandshakeError::Magic);
    }
    let Some(&[version, name_len]) = input.get(MAGIC.len()..MAGIC.len() + 2) else { return Ok(None) };
    let name_at = MAGIC.len() + 2;
    let nonce_at = name_at + usize::from(name_len);
    let end = nonce_at + NONCE_LEN;
    let (Some(name), Some(nonce)) = (input.get(name_at..nonce_at), input.get(nonce_at..end)) else {
        return Ok(None);
    };
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).ok_or(HandshakeError::Name)?;
    let nonce = nonce.try_into().map_err(|_| HandshakeError::Magic)?;
    Ok(Some((Hello { version, name: name.to_owned(), nonce }, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(fill: u8) -> Secret {
        Secret::new(&[fill; SECRET_MIN]).expect("long enough")
    }

    fn dialer(fill: u8, nonce: u8) -> (Handshake, Vec<u8>) {
        Handshake::dial(secret(fill), "a/1", "b/1", [nonce; NONCE_LEN])
    }

    fn listener(fill: u8, nonce: u8) -> Handshake {
        Handshake::listen(secret(fill), "b/1", [nonce; NONCE_LEN])
    }

    #[test]
    fn two_nodes_of_one_secret_meet_whatever_the_cuts() {
        for cut in [1, 3, 50, 1000] {
            let ((mut a, mut to_b), mut b) = (dialer(1, 7), listener(1, 8));
            let (mut of_a, mut of_b, mut to_a) = (None, None, Vec::new());
            for _ in 0..4 {
                for bytes in std::mem::take(&mut to_b).chunks(cut) {
                    let step = b.feed(bytes).expect("a node");
                    to_a.extend(step.send);
                    of_b = of_b.or(step.established);
                }
                if of_b.is_some() {
                    // What comes at once behind the proof is the first of the messages.
                    to_a.extend_from_slice(b"later");
                }
                for bytes in std::mem::take(&mut to_a).chunks(cut) {
                    if let Some((_, _, behind)) = &mut of_a {
                        Vec::extend_from_slice(behind, bytes);
                        continue;
                    }
                    let step = a.feed(bytes).expect("a node");
                    to_b.extend(step.send);
                    of_a = of_a.or(step.established);
                }
                if of_a.is_some() {
                    break;
                }
            }
            assert_eq!(of_b.map(|found| (found.0, found.1)), Some(("a/1".to_owned(), VERSION)));
            assert_eq!(of_a, Some(("b/1".to_owned(), VERSION, b"later".to_vec())), "cut after {cut}");
        }
    }

    /// A dialer with this secret and nonce up to its proof, answered by a listener's hello.
    fn recorded(fill: u8, nonce: u8, hello_of_b: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut a, first) = dialer(fill, nonce);
        (first, a.feed(hello_of_b).expect("a hello").send)
    }

    #[test]
    fn a_listener_lets_nobody_in_without_a_proof_for_this_link() {
        let hello_of = |nonce| {
            let (_, first) = dialer(1, 7);
            listener(1, nonce).feed(&first).expect("a hello").send
        };
        let denied = Err(HandshakeError::Proof("a/1".to_owned()));
        let try_proof = |first: &[u8], proof: &[u8]| {
            let mut b = listener(1, 8);
            b.feed(first).expect("a hello");
            b.feed(proof).map(|step| step.established.is_some())
        };
        let (first, right) = recorded(1, 7, &hello_of(8));
        assert_eq!(try_proof(&first, &right), Ok(true));
        let table = [
            ("a wrong secret", recorded(2, 7, &hello_of(8))),
            ("a proof of an earlier link", recorded(1, 7, &hello_of(9))),
            ("a proof for another nonce of the dialer", (first.clone(), recorded(1, 6, &hello_of(8)).1)),
            ("no proof", (first.clone(), vec![0; PROOF_LEN])),
        ];
        for (what, (first, proof)) in table {
            assert_eq!(try_proof(&first, &proof), denied.clone(), "{what}");
        }
        // The listener's own proof, of the same link, is one of the wrong role.
        let mut b = listener(1, 8);
        b.feed(&first).expect("a hello");
        let of_b = b.feed(&right).expect("a proof").send;
        assert_eq!(try_proof(&first, &of_b), denied, "the wrong role");
    }

    #[test]
    fn a_dialer_believes_no_listener_without_a_proof_of_its_role() {
        for (what, fill, is_reflected) in [("a wrong secret", 2, false), ("its own proof back", 1, true)] {
            let (mut a, first) = dialer(1, 7);
            let mut b = listener(1, 8);
            let of_a = a.feed(&b.feed(&first).expect("a hello").send).expect("a hello").send;
            let of_b = b.feed(&of_a).expect("a proof").send;
            let (_, wrong) = recorded(fill, 7, &listener(1, 8).feed(&first).expect("a hello").send);
            let proof = if is_reflected { of_a } else { wrong };
            assert_eq!(a.feed(&proof).err(), Some(HandshakeError::Proof("b/1".to_owned())), "{what}");
            let (mut a, _) = dialer(1, 7);
            a.feed(&listener(1, 8).feed(&first).expect("a hello").send).expect("a hello");
            assert!(a.feed(&of_b).expect("the right one").established.is_some());
        }
    }

    #[test]
    fn a_node_does_not_speak_with_its_own_echo_nor_with_a_stranger() {
        let (mut a, first) = dialer(1, 7);
        assert_eq!(a.feed(&first).err(), Some(HandshakeError::Oneself("a/1".to_owned())));
        let (mut a, _) = dialer(1, 7);
        let stranger = HandshakeError::Stranger { expected: "b/1".to_owned(), found: "c/1".to_owned() };
        assert_eq!(a.feed(&hello(1, "c/1", &[0; NONCE_LEN])).err(), Some(stranger));
        let mut b = listener(1, 8);
        assert_eq!(
            b.feed(&hello(1, "b/1", &[0; NONCE_LEN])).err(),
            Some(HandshakeError::Oneself("b/1".to_owned()))
        );
    }

    #[test]
    fn other_protocols_and_versions_are_told_apart_early() {
        assert_eq!(listener(1, 8).feed(b"GET / HTTP/1.1").err(), Some(HandshakeError::Magic));
        assert_eq!(listener(1, 8).feed(&hello(0, "a/1", &[0; 32])).err(), Some(HandshakeError::Version(0)));
        let newer = listener(1, 8).feed(&hello(9, "a/1", &[0; 32])).expect("a newer node");
        assert_eq!(newer.send[MAGIC.len()], VERSION, "the lower version is spoken");
        let (mut a, _) = dialer(1, 7);
        assert_eq!(a.feed(&hello(9, "b/1", &[0; 32])).err(), Some(HandshakeError::Version(9)));
    }
}
