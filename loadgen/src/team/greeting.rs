//! Before anything else: both sides are of the same version, and both show that they know the token without sending it.
//!
//! A proof is an HMAC-SHA256 with the token as its key over the side's role and both nonces; it is compared in constant
//! time. Nothing is encrypted: see `docs/loadgen.md`.

use std::io::{self, ErrorKind, Read, Write};

use aws_lc_rs::hmac::{self, HMAC_SHA256};

use crate::environment::program;
use crate::team::wire::{FromAgent, Hello, STRANGER_MAX, ToAgent, read, write};

/// What an agent says of itself once both are known to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// The same for all processes of a machine.
    pub(crate) host: String,
    /// Cores it may use.
    pub(crate) cores: u32,
}

/// The coordinator's side.
///
/// # Errors
/// Says what is wrong with the agent, or with us.
pub(crate) fn greet(stream: &mut (impl Read + Write), token: &str) -> io::Result<Welcome> {
    let own = hello();
    let nonce = own.nonce.clone();
    write(stream, &ToAgent::Hello(own))?;
    let other = match read(stream, STRANGER_MAX)? {
        FromAgent::Hello(other) => other,
        FromAgent::Refused { reason } => return Err(wrong(reason)),
        _ => return Err(wrong("it did not say hello")),
    };
    if other.program != program() {
        return Err(wrong(format!(
            "it is {}, this is {}: use the same build on all hosts",
            other.program,
            program()
        )));
    }
    let mac = hex(proof(token, "coordinator", &nonce, &other.nonce).as_ref());
    write(stream, &ToAgent::Proof { mac })?;
    match read(stream, STRANGER_MAX)? {
        FromAgent::Welcome { mac, host, cores } => {
            if !is_proven(token, "agent", &nonce, &other.nonce, &mac) {
                return Err(wrong("it does not know the token: whoever listens there is not your agent"));
            }
            Ok(Welcome { host, cores })
        }
        FromAgent::Refused { reason } => Err(wrong(reason)),
        _ => Err(wrong("it did not answer the proof")),
    }
}

/// The agent's side. `admit` says whether there is a place for the coordinator, or why not.
///
/// # Errors
/// The other side was refused, and told why.
pub(crate) fn receive<Place>(
    stream: &mut (impl Read + Write),
    token: &str,
    welcome: &Welcome,
    admit: impl FnOnce() -> Result<Place, String>,
) -> io::Result<Place> {
    let ToAgent::Hello(other) = read(stream, STRANGER_MAX)? else {
        return Err(wrong("it did not say hello"));
    };
    let own = hello();
    let nonce = own.nonce.clone();
    // It learns our version in any case, and so which one it needs.
    write(stream, &FromAgent::Hello(own))?;
    if other.program != program() {
        return Err(wrong(format!("it is {}, this is {}", other.program, program())));
    }
    let ToAgent::Proof { mac } = read(stream, STRANGER_MAX)? else { return Err(wrong("it gave no proof")) };
    if !is_proven(token, "coordinator", &other.nonce, &nonce, &mac) {
        let reason = "wrong token: give the agent's with --agent-token or PINWIRE_AGENT_TOKEN".to_owned();
        write(stream, &FromAgent::Refused { reason })?;
        return Err(wrong("it does not know the token"));
    }
    let place = match admit() {
        Ok(place) => place,
        Err(reason) => {
            write(stream, &FromAgent::Refused { reason: reason.clone() })?;
            return Err(wrong(reason));
        }
    };
    let mac = hex(proof(token, "agent", &other.nonce, &nonce).as_ref());
    let Welcome { host, cores } = welcome.clone();
    write(stream, &FromAgent::Welcome { mac, host, cores })?;
    Ok(place)
}

fn wrong(reason: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, reason.into())
}

fn hello() -> Hello {
    let mut random = [0; 16];
    // It does not fail on Linux once the system is up; without it there is no proof, and the greeting fails.
    let nonce = aws_lc_rs::rand::fill(&mut random).map(|()| hex(&random)).unwrap_or_default();
    Hello { program: program(), nonce }
}

fn message(role: &str, coordinator: &str, agent: &str) -> String {
    format!("pinwire-loadgen {role} {coordinator} {agent}")
}

fn proof(token: &str, role: &str, coordinator: &str, agent: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(HMAC_SHA256, token.as_bytes()), message(role, coordinator, agent).as_bytes())
}

fn is_proven(token: &str, role: &str, coordinator: &str, agent: &str, mac: &str) -> bool {
    let Some(mac) = unhex(mac).filter(|_| !coordinator.is_empty() && !agent.is_empty()) else { return false };
    let key = hmac::Key::new(HMAC_SHA256, token.as_bytes());
    hmac::verify(&key, message(role, coordinator, agent).as_bytes(), &mac).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn meet(ours: &str, theirs: &str, admit: Result<(), String>) -> (io::Result<Welcome>, io::Result<()>) {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let theirs = theirs.to_owned();
        let agent = std::thread::spawn(move || {
            let welcome = Welcome { host: "h".into(), cores: 3 };
            receive(&mut other, &theirs, &welcome, || admit)
        });
        let greeted = greet(&mut one, ours);
        drop(one);
        (greeted, agent.join().unwrap())
    }

    #[test]
    fn who_knows_the_token_is_welcome_and_who_does_not_is_told() {
        let (greeted, received) = meet("a token", "a token", Ok(()));
        assert_eq!(greeted.unwrap(), Welcome { host: "h".into(), cores: 3 });
        assert!(received.is_ok());
        let (greeted, received) = meet("a token", "another", Ok(()));
        assert!(greeted.unwrap_err().to_string().contains("--agent-token") && received.is_err());
        assert!(meet("", "another", Ok(())).1.is_err());
        let (greeted, _) = meet("t", "t", Err("busy with another run".into()));
        assert!(greeted.unwrap_err().to_string().contains("busy"));
    }

    #[test]
    fn another_version_and_one_that_only_repeats_our_proof_are_refused() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let agent = std::thread::spawn(move || {
            let ToAgent::Hello(_) = read(&mut other, STRANGER_MAX).unwrap() else { panic!("no hello") };
            let hello = Hello { program: "pinwire-loadgen 0.0.1".into(), nonce: "00".into() };
            write(&mut other, &FromAgent::Hello(hello)).unwrap();
        });
        let error = greet(&mut one, "t").unwrap_err().to_string();
        assert!(error.contains("0.0.1") && error.contains("same build"), "{error}");
        agent.join().unwrap();
        // The roles are part of what is signed.
        let mac = hex(proof("t", "coordinator", "1", "2").as_ref());
        assert!(is_proven("t", "coordinator", "1", "2", &mac) && !is_proven("t", "agent", "1", "2", &mac));
        assert!(
            !is_proven("t", "coordinator", "1", "2", "xyz") && !is_proven("t", "coordinator", "", "2", &mac)
        );
    }
}
