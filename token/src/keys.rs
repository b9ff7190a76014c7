//! Keys, each for exactly one algorithm and perhaps one tenant.

use std::fmt;

use jsonwebtoken::DecodingKey;

/// Signature algorithms a token may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a shared secret.
    Hs256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The name in a token's header, `None` for `none` and whatever else is not taken here.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// The name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether checking a signature takes tens of microseconds instead of two.
    pub fn is_costly(self) -> bool {
        self != Self::Hs256
    }

    pub(crate) fn backend(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key that checks signatures of one algorithm.
#[derive(Debug, Clone)]
pub struct Key {
    algorithm: Algorithm,
    id: Option<Box<str>>,
    tenant: Option<Box<str>>,
    material: DecodingKey,
    fingerprint: Fingerprint,
}

impl Key {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    /// An empty secret, and a PEM: a public key taken for a secret would let everybody sign.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::EmptySecret);
        }
        if secret.windows(PEM_START.len()).any(|w| w == PEM_START.as_bytes()) {
            return Err(KeyError::PemAsSecret);
        }
        Ok(Self::new(Algorithm::Hs256, DecodingKey::from_secret(secret)))
    }

    /// A public key in PEM; its kind (RSA, P-256, Ed25519) decides the algorithm.
    ///
    /// # Errors
    /// Anything but one public key of those kinds, RSA of at least 2,048 bits.
    pub fn from_public_pem(pem: &str) -> Result<Self, KeyError> {
        match pem_label(pem)? {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
            "CERTIFICATE" => return Err(KeyError::Certificate),
            label if label.ends_with("PRIVATE KEY") => return Err(KeyError::PrivateKey),
            label => return Err(KeyError::PemLabel(label.to_owned())),
        }
        let bytes = pem.as_bytes();
        if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
            return Self::es256(key);
        }
        if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
            return Self::eddsa(key);
        }
        DecodingKey::from_rsa_pem(bytes).map_err(|_| KeyError::NotAKey).and_then(Self::rs256)
    }

    pub(crate) fn rs256(key: DecodingKey) -> Result<Self, KeyError> {
        let bits = match key.kind() {
            jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } => {
                8 * n.iter().skip_while(|b| **b == 0).count()
            }
            jsonwebtoken::DecodingKeyKind::SecretOrDer(der) => {
                let public = aws_lc_rs::rsa::PublicKey::from_der(der).map_err(|_| KeyError::NotAKey)?;
                8 * aws_lc_rs::signature::RsaPublicKeyComponents::<Vec<u8>>::from(&public).n.len()
            }
        };
        if !(2048..=8192).contains(&bits) {
            return Err(KeyError::RsaSize(bits));
        }
        Ok(Self::new(Algorithm::Rs256, key))
    }

    pub(crate) fn es256(key: DecodingKey) -> Result<Self, KeyError> {
        // An uncompressed P-256 point: 04, x, y of 32 bytes each.
        match key.try_get_as_bytes() {
            Ok([4, point @ ..]) if point.len() == 64 => Ok(Self::new(Algorithm::Es256, key)),
            _ => Err(KeyError::Curve("P-256")),
        }
    }

    pub(crate) fn eddsa(key: DecodingKey) -> Result<Self, KeyError> {
        match key.try_get_as_bytes() {
            Ok(point) if point.len() == 32 => Ok(Self::new(Algorithm::EdDsa, key)),
            _ => Err(KeyError::Curve("Ed25519")),
        }
    }

    fn new(algorithm: Algorithm, material: DecodingKey) -> Self {
        Self { algorithm, id: None, tenant: None, material, fingerprint: Fingerprint::default() }
            .fingerprinted()
    }

    fn fingerprinted(mut self) -> Self {
        use jsonwebtoken::DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let (first, second): (&[u8], &[u8]) = match self.material.kind() {
            SecretOrDer(bytes) => (bytes, &[]),
            RsaModulusExponent { n, e } => (n, e),
        };
        let texts = [Some(self.algorithm.name()), self.id(), self.tenant()];
        let parts = texts.map(|text| text.map(str::as_bytes)).into_iter().chain([Some(first), Some(second)]);
        for part in parts {
            // With its length, so that no two lists of parts look alike; what is absent is not what is empty.
            hash.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hash.update(part.unwrap_or_default());
        }
        let mut fingerprint = [0; 16];
        fingerprint.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
        self.fingerprint = Fingerprint(fingerprint);
        self
    }

    /// Tells the key from any other: by its algorithm, name, tenant and material. Says nothing about a secret to whoever does not
    /// know it anyway.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Names the key: tokens whose header has this `kid` are checked with it.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.id = Some(id.into());
        self.fingerprinted()
    }

    /// Binds the key to one tenant; without it the key speaks for all.
    #[must_use]
    pub fn for_tenant(mut self, tenant: impl Into<Box<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self.fingerprinted()
    }

    /// The one algorithm it is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its `kid`.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The tenant it is bound to.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    pub(crate) fn checks(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.material, self.algorithm.backend())
            .unwrap_or(false)
    }
}

/// 128 bits of a hash over all that a key is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 16]);

const PEM_START: &str = "-----BEGIN ";

/// The label of the only PEM block in `text`.
pub(crate) fn pem_label(text: &str) -> Result<&str, KeyError> {
    let mut blocks = text.split(PEM_START).skip(1);
    let (Some(block), None) = (blocks.next(), blocks.next()) else {
        return Err(KeyError::NotOnePem(text.matches(PEM_START).count()));
    };
    block.split_once("-----").map(|(label, _)| label).ok_or(KeyError::NotAKey)
}

/// All keys of a node.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    may_grow: bool,
}

impl KeySet {
    /// No keys: refuses every token.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key.
    pub fn add(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// There may be keys that are not here yet: a token that none of these has signed is one of an unknown key.
    pub fn expect_more(&mut self) {
        self.may_grow = true;
    }

    pub(crate) fn may_grow(&self) -> bool {
        self.may_grow
    }

    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Keys that may speak for `tenant`.
    pub(crate) fn of_tenant<'a, 't>(
        &'a self,
        tenant: &'t str,
    ) -> impl Iterator<Item = &'a Key> + Clone + use<'a, 't> {
        self.keys.iter().filter(move |key| key.tenant().is_none_or(|t| t == tenant))
    }
}

impl FromIterator<Key> for KeySet {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self { keys: keys.into_iter().collect(), may_grow: false }
    }
}

impl Extend<Key> for KeySet {
    fn extend<I: IntoIterator<Item = Key>>(&mut self, keys: I) {
        self.keys.extend(keys);
    }
}

/// Why a key cannot be used, and what to do about it. Whoever reads the key from somewhere adds the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No bytes.
    #[error("the secret is empty; make one with `openssl rand -base64 32`")]
    EmptySecret,
    /// A PEM given as a shared secret.
    #[error(
        "the secret is a PEM file; give a public key as a PEM key instead, it must never be used as a secret"
    )]
    PemAsSecret,
    /// A private key where a public one belongs.
    #[error("this is a private key; a node needs the public one: `openssl pkey -in FILE -pubout`")]
    PrivateKey,
    /// A public key where a private one belongs.
    #[error("this is a public key; signing needs the private one")]
    PublicKey,
    /// A certificate where a key belongs.
    #[error("this is a certificate; take its public key: `openssl x509 -in FILE -pubkey -noout`")]
    Certificate,
    /// A private key that is not PKCS #8.
    #[error("this private key is not PKCS #8; convert it: `openssl pkcs8 -topk8 -nodes -in FILE`")]
    NotPkcs8,
    /// Some other PEM.
    #[error("PEM block `{0}` is not a key; expected `PUBLIC KEY`")]
    PemLabel(String),
    /// Not exactly one PEM block.
    #[error("expected one PEM block that begins with `-----BEGIN`, found {0}; give one file per key")]
    NotOnePem(usize),
    /// A PEM whose content cannot be read.
    #[error("not a readable RSA, P-256 or Ed25519 key; was the file cut off?")]
    NotAKey,
    /// A curve that no accepted algorithm uses.
    #[error("the key is not on the curve {0}; accepted are RSA (RS256), P-256 (ES256) and Ed25519 (EdDSA)")]
    Curve(&'static str),
    /// An RSA key that is too small or too large.
    #[error("an RSA key of {0} bits; between 2,048 and 8,192 are accepted")]
    RsaSize(usize),
    /// Not a JWKS.
    #[error("not a JWKS: {0}; expected {{\"keys\": [...]}}")]
    Jwks(String),
    /// A JWKS without a single usable key.
    #[error("no usable key in the JWKS: {0}")]
    NothingUsable(String),
}
