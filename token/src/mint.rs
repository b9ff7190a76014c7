//! Making tokens: for `dev`, for the command line, for tests.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use crate::keys::{Algorithm, KeyError, pem_label};

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: Algorithm,
    id: Option<Box<str>>,
    material: EncodingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    /// An empty secret.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::EmptySecret);
        }
        Ok(Self { algorithm: Algorithm::Hs256, id: None, material: EncodingKey::from_secret(secret) })
    }

    /// A private key in PEM; its kind (RSA, P-256, Ed25519) decides the algorithm.
    ///
    /// # Errors
    /// Anything but one private key of those kinds; EC and Ed25519 keys must be PKCS #8.
    pub fn from_private_pem(pem: &str) -> Result<Self, KeyError> {
        match pem_label(pem)? {
            "PRIVATE KEY" | "RSA PRIVATE KEY" => {}
            "EC PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => return Err(KeyError::NotPkcs8),
            "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(KeyError::PublicKey),
            "CERTIFICATE" => return Err(KeyError::Certificate),
            label => return Err(KeyError::PemLabel(label.to_owned())),
        }
        let bytes = pem.as_bytes();
        let (algorithm, material) = if let Ok(key) = EncodingKey::from_ec_pem(bytes) {
            (Algorithm::Es256, key)
        } else if let Ok(key) = EncodingKey::from_ed_pem(bytes) {
            (Algorithm::EdDsa, key)
        } else {
            (Algorithm::Rs256, EncodingKey::from_rsa_pem(bytes).map_err(|_| KeyError::NotAKey)?)
        };
        let key = Self { algorithm, id: None, material };
        // A curve or size that the algorithm does not have shows only when signing.
        key.sign(b"").map_err(|_| match algorithm {
            Algorithm::Es256 => KeyError::Curve("P-256"),
            Algorithm::EdDsa => KeyError::Curve("Ed25519"),
            _ => KeyError::NotAKey,
        })?;
        Ok(key)
    }

    /// Puts `kid` into the header of what it signs.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The algorithm it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<String, MintError> {
        jsonwebtoken::crypto::sign(message, &self.material, self.algorithm.backend())
            .map_err(|_| MintError::Signing)
    }
}

/// Why no token could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The claims are no JSON object.
    #[error("claims must be a JSON object, as in {{\"sub\": \"ann\"}}")]
    NotAnObject,
    /// The key refused to sign.
    #[error("the key cannot sign")]
    Signing,
}

/// Signs `claims` as they are: also ones that no node would accept.
///
/// # Errors
/// Claims that are no object, and a key that cannot sign.
pub fn mint(key: &SigningKey, claims: &Value) -> Result<String, MintError> {
    if !claims.is_object() {
        return Err(MintError::NotAnObject);
    }
    let mut header = json!({ "alg": key.algorithm.name(), "typ": "JWT" });
    if let Some(id) = &key.id {
        header["kid"] = json!(id);
    }
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&header), encode(claims));
    let signature = key.sign(message.as_bytes())?;
    Ok(format!("{message}.{signature}"))
}

/// Lays `patch` over `claims`: objects member by member, `null` removes (RFC 7396).
pub fn merge(claims: &mut Value, patch: Value) {
    match (claims, patch) {
        (Value::Object(claims), Value::Object(patch)) => {
            for (name, value) in patch {
                if value.is_null() {
                    claims.remove(&name);
                } else {
                    merge(claims.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (claims, Value::Object(patch)) => {
            *claims = json!({});
            merge(claims, Value::Object(patch));
        }
        (claims, patch) => *claims = patch,
    }
}
