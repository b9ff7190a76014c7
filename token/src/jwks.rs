//! JSON Web Key Sets (RFC 7517): what can be used is taken, what cannot is named with the reason.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use crate::keys::{Algorithm, Key, KeyError};

/// The outcome of reading a JWKS.
#[derive(Debug)]
pub struct Jwks {
    /// At least one key.
    pub keys: Vec<Key>,
    /// What was left out.
    pub skipped: Vec<SkippedKey>,
}

/// A member of a JWKS that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedKey {
    /// Position in `keys`, from 0.
    pub index: usize,
    /// Its `kid`.
    pub id: Option<String>,
    /// The reason, and what would help where something can.
    pub why: String,
}

impl fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys[{}]", self.index)?;
        if let Some(id) = &self.id {
            write!(f, " (kid {id:?})")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl Jwks {
    /// Reads a JWKS.
    ///
    /// # Errors
    /// Text that is no JWKS, and one without any usable key: an empty set would refuse everybody.
    pub fn parse(json: &[u8]) -> Result<Self, KeyError> {
        Self::read(json, read_key)
    }

    /// Reads a JWKS that is published: a secret in it is none, and is left out.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_public(json: &[u8]) -> Result<Self, KeyError> {
        Self::read(json, |member| match read_key(member) {
            Ok(key) if key.algorithm() == Algorithm::Hs256 => {
                Err("a secret that is published is none; publish a public key".to_owned())
            }
            read => read,
        })
    }

    fn read(json: &[u8], read_key: impl Fn(&Value) -> Result<Key, String>) -> Result<Self, KeyError> {
        let document: Value = serde_json::from_slice(json).map_err(|e| KeyError::Jwks(e.to_string()))?;
        let members = document.get("keys").and_then(Value::as_array);
        let members = members.ok_or_else(|| KeyError::Jwks("no array `keys`".to_owned()))?;
        let mut jwks = Self { keys: Vec::new(), skipped: Vec::new() };
        for (index, member) in members.iter().enumerate() {
            let id = member.get("kid").and_then(Value::as_str);
            match read_key(member) {
                Ok(key) => jwks.keys.push(match id {
                    Some(id) => key.with_id(id),
                    None => key,
                }),
                Err(why) => jwks.skipped.push(SkippedKey { index, id: id.map(str::to_owned), why }),
            }
        }
        if jwks.keys.is_empty() {
            let reasons: Vec<String> = jwks.skipped.iter().map(ToString::to_string).collect();
            let reasons = if reasons.is_empty() { "it is empty".to_owned() } else { reasons.join("; ") };
            return Err(KeyError::NothingUsable(reasons));
        }
        Ok(jwks)
    }
}

fn read_key(member: &Value) -> Result<Key, String> {
    let member = member.as_object().ok_or("not an object")?;
    check_use(member)?;
    match text(member, "kty")? {
        "RSA" => rsa(member),
        "EC" => elliptic(member),
        "OKP" => edwards(member),
        "oct" => secret(member),
        other => Err(format!("key type {other:?} is not supported")),
    }
}

/// RFC 7517 4.2 and 4.3.
fn check_use(member: &Map<String, Value>) -> Result<(), String> {
    match member.get("use").and_then(Value::as_str) {
        None | Some("sig") => {}
        Some(other) => return Err(format!("it is for {other:?}, not for signatures")),
    }
    let operations = member.get("key_ops").and_then(Value::as_array);
    if operations.is_some_and(|list| !list.iter().any(|op| op == "verify")) {
        return Err("its key_ops do not include \"verify\"".to_owned());
    }
    if member.contains_key("d") {
        return Err("it is a private key; publish the public half".to_owned());
    }
    Ok(())
}

fn rsa(member: &Map<String, Value>) -> Result<Key, String> {
    expect_algorithm(member, &["RS256"])?;
    let (n, e) = (bytes(member, "n")?, bytes(member, "e")?);
    Key::rs256(DecodingKey::from_rsa_raw_components(&n, &e)).map_err(|e| e.to_string())
}

fn elliptic(member: &Map<String, Value>) -> Result<Key, String> {
    expect_algorithm(member, &["ES256"])?;
    expect_curve(member, "P-256")?;
    let (x, y) = (bytes(member, "x")?, bytes(member, "y")?);
    if x.len() != 32 || y.len() != 32 {
        return Err("x and y must have 32 bytes each".to_owned());
    }
    let point = [&[4u8][..], &x, &y].concat();
    Key::es256(DecodingKey::from_ec_der(&point)).map_err(|e| e.to_string())
}

fn edwards(member: &Map<String, Value>) -> Result<Key, String> {
    expect_algorithm(member, &["EdDSA", "Ed25519"])?;
    expect_curve(member, "Ed25519")?;
    Key::eddsa(DecodingKey::from_ed_der(&bytes(member, "x")?)).map_err(|e| e.to_string())
}

/// A secret must say that it is one for HS256: nothing else in it tells.
fn secret(member: &Map<String, Value>) -> Result<Key, String> {
    if member.get("alg").is_none() {
        return Err("a secret without \"alg\"; say \"HS256\"".to_owned());
    }
    expect_algorithm(member, &["HS256"])?;
    Key::from_secret(&bytes(member, "k")?).map_err(|e| e.to_string())
}

fn expect_algorithm(member: &Map<String, Value>, accepted: &[&str]) -> Result<(), String> {
    match member.get("alg") {
        None => Ok(()),
        Some(Value::String(alg)) if accepted.contains(&alg.as_str()) => Ok(()),
        Some(other) => {
            Err(format!("algorithm {other} is not supported for this type of key, {} is", accepted[0]))
        }
    }
}

fn expect_curve(member: &Map<String, Value>, curve: &str) -> Result<(), String> {
    match text(member, "crv")? {
        found if found == curve => Ok(()),
        other => Err(format!("curve {other:?} is not supported, {curve} is")),
    }
}

fn bytes(member: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(text(member, name)?).map_err(|_| format!("member {name:?} is not base64url"))
}

fn text<'a>(member: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    member.get(name).and_then(Value::as_str).ok_or_else(|| format!("member {name:?} is missing"))
}
