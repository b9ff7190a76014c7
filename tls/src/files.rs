//! What PEM files hold, and what is wrong with them in words that lead on.

use std::fmt::Display;
use std::net::IpAddr;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Shorter RSA keys are refused by clients, and by the library.
const RSA_BITS_MIN: usize = 2048;

/// A chain of certificates, and what the first says of itself.
pub(crate) struct Chain {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) names: Vec<String>,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// Reads a chain; `file` is its name, for the mend.
pub(crate) fn read_chain(bytes: &[u8], file: &dyn Display) -> Result<Chain, String> {
    let certificates = read_certificates(bytes, file)?;
    let Some(first) = certificates.first() else {
        let has_key = has_section(bytes, "PRIVATE KEY");
        return Err(match has_key {
            true => "holds a private key and no certificate: are certificates and keys swapped?".to_owned(),
            false => "holds no certificate; a PEM file with BEGIN CERTIFICATE is wanted".to_owned(),
        });
    };
    let (_, parsed) = X509Certificate::from_der(first)
        .map_err(|error| format!("holds a certificate that cannot be read: {error}"))?;
    if let Ok(PublicKey::RSA(key)) = parsed.public_key().parsed()
        && key.key_size() < RSA_BITS_MIN
    {
        let bits = key.key_size();
        return Err(format!(
            "holds a certificate for an RSA key of {bits} bits, which clients refuse; make one of {RSA_BITS_MIN}, or of P-256"
        ));
    }
    let validity = parsed.validity();
    Ok(Chain {
        names: names(&parsed),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        certificates,
    })
}

/// All certificates of a file, perhaps none.
pub(crate) fn read_certificates(
    bytes: &[u8],
    file: &dyn Display,
) -> Result<Vec<CertificateDer<'static>>, String> {
    check_form(bytes, "certificate", &format!("openssl x509 -inform der -in {file} -out {file}.pem"))?;
    CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|error| in_words(&error))
}

/// What a certificate is for (RFC 9525: what stands in its subject alone does not count).
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match *bytes {
            [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d]).to_string()),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

/// Reads a private key; `file` is its name, for the mend.
pub(crate) fn read_key(bytes: &[u8], file: &dyn Display) -> Result<PrivateKeyDer<'static>, String> {
    check_form(bytes, "private key", &format!("openssl pkey -inform der -in {file} -out {file}.pem"))?;
    // PKCS#8, and what OpenSSL wrote before.
    if has_section(bytes, "ENCRYPTED PRIVATE KEY") || contains(bytes, "Proc-Type: 4,ENCRYPTED") {
        return Err(format!(
            "holds a key that is encrypted, and nobody is there to type its password; decrypt it: openssl pkey -in {file} \
             -out {file}.plain"
        ));
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if has_section(bytes, "CERTIFICATE") => {
            Err("holds a certificate and no private key: are certificates and keys swapped?".to_owned())
        }
        Err(pem::Error::NoItemsFound) => {
            Err("holds no private key; a PEM file with BEGIN PRIVATE KEY is wanted".to_owned())
        }
        Err(error) => Err(in_words(&error)),
    }
}

/// What can be wrong with any file of this kind.
fn check_form(bytes: &[u8], wanted: &str, from_der: &str) -> Result<(), String> {
    if is_der(bytes) {
        return Err(format!("is DER, and PEM is wanted: {from_der}"));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(format!("is empty; a {wanted} in PEM is wanted"));
    }
    Ok(())
}

/// Whether all of it is one SEQUENCE, as certificates and keys are in DER (X.690 8.1.3).
fn is_der(bytes: &[u8]) -> bool {
    match *bytes {
        [0x30, 0x82, high, low, ref rest @ ..] => usize::from(u16::from_be_bytes([high, low])) == rest.len(),
        [0x30, 0x81, len, ref rest @ ..] => usize::from(len) == rest.len(),
        [0x30, len, ref rest @ ..] => usize::from(len) == rest.len(),
        _ => false,
    }
}

fn has_section(bytes: &[u8], kind: &str) -> bool {
    contains(bytes, &format!("{kind}-----"))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let end = String::from_utf8_lossy(end_marker);
            format!("is cut off: its line with END {end} is missing; copy the whole file again")
        }
        pem::Error::Base64Decode(_) => {
            "is damaged: what stands between BEGIN and END is no base64".to_owned()
        }
        other => format!("is no good PEM file: {other}"),
    }
}
