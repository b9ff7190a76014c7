//! Keys made afresh for each run, and tokens put together by hand.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pinwire_token::SigningKey;
use serde_json::{Value, json};

/// The time at which the tests look at tokens.
pub(crate) const NOW: u64 = 1_740_466_400;

/// Claims of a good token.
pub(crate) fn good_claims() -> Value {
    json!({
        "iss": "https://auth.example.com", "sub": "ann", "aud": "pinwire", "scope": "pinwire offline_access",
        "tenantid": "tenant-a", "appId": "app-1", "exp": NOW + 3600, "iat": NOW, "jti": "1",
    })
}

/// A key pair, as PEM files and as raw public bytes.
pub(crate) struct Pair {
    pub(crate) private_pem: String,
    pub(crate) public_pem: String,
    /// SubjectPublicKeyInfo.
    pub(crate) public_der: Vec<u8>,
    /// The bare key: PKCS #1, a point, or 32 bytes.
    pub(crate) public_raw: Vec<u8>,
}

impl Pair {
    pub(crate) fn rsa(size: KeySize) -> Self {
        let pair = signature::RsaKeyPair::generate(size).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self::new(private.as_ref(), public.as_ref(), pair.public_key().as_ref())
    }

    pub(crate) fn p256() -> Self {
        Self::elliptic(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub(crate) fn p384() -> Self {
        Self::elliptic(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn elliptic(curve: &'static signature::EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(curve).unwrap();
        let private = pair.to_pkcs8v1().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self::new(private.as_ref(), public.as_ref(), pair.public_key().as_ref())
    }

    pub(crate) fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let private = pair.to_pkcs8v1().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self::new(private.as_ref(), public.as_ref(), pair.public_key().as_ref())
    }

    fn new(private: &[u8], public: &[u8], raw: &[u8]) -> Self {
        Self {
            private_pem: pem("PRIVATE KEY", private),
            public_pem: pem("PUBLIC KEY", public),
            public_der: public.to_vec(),
            public_raw: raw.to_vec(),
        }
    }

    pub(crate) fn signing(&self) -> SigningKey {
        SigningKey::from_private_pem(&self.private_pem).unwrap()
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `header.claims.signature` with an HMAC by `secret`, whatever the header claims.
pub(crate) fn forge(header: &str, claims: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", b64(tag.as_ref()))
}
