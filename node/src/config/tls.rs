//! The table `tls`, and certificates and keys in files, with what is doubtful about them.

use std::path::Path;
use std::sync::Arc;

use pinwire_tls::{Certificate, CertificateError};
use time::OffsetDateTime;

use super::draft::TlsKeys;
use super::resolve::{addresses, is_open_to_all};
use super::sources::{Written, read_file};
use super::{Certificates, Tls};

/// Days before its end from which on a certificate is told as one to renew.
const RENEW_DAYS: i64 = 14;
const DAY: i64 = 86_400;

pub(super) fn tls(written: &mut Written) -> Option<Tls> {
    let TlsKeys { listen, certificates: chains, keys, handshakes_per_turn } = written.draft.tls.clone();
    let listen = addresses(written, "tls.listen", &listen);
    if listen.is_empty() {
        if !chains.is_empty() {
            written.doubtful("tls.certificates", "is of no use without tls.listen");
        }
        return None;
    }
    let names = ["tls.certificates", "tls.keys"];
    if chains.is_empty() && !written.is_wrong(&names) {
        written.wrong("tls.certificates", "has to name a file for tls.listen");
    }
    let url = written.draft.public_url.clone();
    let host = url.split_once("://").map(|(_, authority)| host_of(authority));
    let certificates = certificates(written, names, &chains, &keys, host)?;
    Some(Tls { listen, certificates: Arc::new(certificates), handshakes_per_turn })
}

/// Certificates and their keys, by the names of the keys that name their files; `None` if these do not go together. `host` is
/// where clients are sent, if that is known.
pub(super) fn certificates(
    written: &mut Written,
    names: [&'static str; 2],
    chains: &[String],
    keys: &[String],
    host: Option<&str>,
) -> Option<Certificates> {
    let [of_chains, of_keys] = names;
    if written.is_wrong(&names) {
        return None;
    }
    if chains.len() != keys.len() {
        let what = format!("names {} files, {of_chains} {}: each has one", keys.len(), chains.len());
        written.wrong(of_keys, what);
        return None;
    }
    let mut certificates = Certificates::default();
    for (chain, key) in chains.iter().zip(keys) {
        add(written, names, &mut certificates, chain, key);
    }
    for doubt in doubts(&certificates, host, OffsetDateTime::now_utc().unix_timestamp()) {
        written.doubtful(of_chains, doubt.what);
    }
    Some(certificates)
}

fn add(
    written: &mut Written,
    [of_chains, of_keys]: [&'static str; 2],
    certificates: &mut Certificates,
    chain: &str,
    key: &str,
) {
    let of_chain = read_file(Path::new(chain)).err().map(|what| (of_chains, chain, what));
    let of_key = read_file(Path::new(key)).err().map(|what| (of_keys, key, what));
    if of_chain.is_some() || of_key.is_some() {
        for (name, file, what) in of_chain.into_iter().chain(of_key) {
            written.wrong(name, format!("{file} {what}"));
        }
        return;
    }
    match certificates.add(Path::new(chain), Path::new(key)) {
        Ok(()) => {}
        Err(CertificateError::Chain(file, what)) => {
            written.wrong(of_chains, format!("{file} {what}"));
        }
        Err(CertificateError::Key(file, what)) => written.wrong(of_keys, format!("{file} {what}")),
    }
    if is_open_to_all(Path::new(key)) {
        let what = format!("{key} can be read by every user of this host; chmod 600 {key}");
        written.doubtful(of_keys, what);
    }
}

/// Something about certificates that a node can start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// Clients refuse the certificate now.
    pub(crate) is_refused: bool,
    /// What it is, and the mend.
    pub(crate) what: String,
}

/// What is doubtful about certificates, `host` being where clients are sent.
pub(crate) fn doubts(certificates: &Certificates, host: Option<&str>, now: i64) -> Vec<Doubt> {
    let mut doubts: Vec<Doubt> =
        certificates.iter().filter_map(|certificate| of_one(certificate, now)).collect();
    if let Some(host) = host.filter(|_| !certificates.is_empty())
        && !certificates.iter().any(|certificate| certificate.is_for(host))
    {
        let names: Vec<&str> =
            certificates.iter().flat_map(|certificate| &certificate.names).map(String::as_str).collect();
        let what = format!(
            "none is for {host}, where public_url sends clients, who refuse it; named are {}",
            names.join(", ")
        );
        doubts.push(Doubt { is_refused: true, what });
    }
    doubts
}

fn of_one(certificate: &Certificate, now: i64) -> Option<Doubt> {
    let Certificate { file, not_before, not_after, names, .. } = certificate;
    let (is_refused, what) = if names.is_empty() {
        (true, format!("{file} names no host (subjectAltName): clients refuse it; have it issued with one"))
    } else if now > *not_after {
        (true, format!("{file} expired on {}: clients refuse it; renew it", date(*not_after)))
    } else if now < *not_before {
        let from = date(*not_before);
        (
            true,
            format!(
                "{file} is good from {from} on: clients refuse it until then; is this host's clock right?"
            ),
        )
    } else if not_after - now < RENEW_DAYS * DAY {
        let (left, end) = ((not_after - now) / DAY, date(*not_after));
        (false, format!("{file} expires on {end}, {left} days from now; renew it"))
    } else {
        return None;
    };
    Some(Doubt { is_refused, what })
}

/// A day as it is written, UTC.
pub(crate) fn date(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix)
        .map_or_else(|_| "a day beyond all".to_owned(), |at| at.date().to_string())
}

/// The name or address in `host:port`.
pub(crate) fn host_of(authority: &str) -> &str {
    let authority = authority.trim_end_matches('/');
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    authority.split(':').next().unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// A certificate that is good for so many days around [`NOW`].
    fn certificates(names: &[&str], days: std::ops::Range<i64>) -> Certificates {
        let directory = tempfile::tempdir().unwrap();
        let (chain, key) = (directory.path().join("crt"), directory.path().join("key"));
        let at = |days: i64| OffsetDateTime::from_unix_timestamp(NOW + days * DAY).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (at(days.start), at(days.end));
        let pair = KeyPair::generate().unwrap();
        fs::write(&chain, params.self_signed(&pair).unwrap().pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        let mut certificates = Certificates::default();
        certificates.add(&chain, &key).unwrap();
        certificates
    }

    fn told(certificates: &Certificates, host: Option<&str>) -> Vec<(bool, String)> {
        doubts(certificates, host, NOW).into_iter().map(|doubt| (doubt.is_refused, doubt.what)).collect()
    }

    #[test]
    fn a_certificate_that_clients_refuse_or_will_soon_is_told() {
        let name = ["eu.example.net"];
        let cases = [
            (certificates(&name, -90..-3), true, "expired on 2027-01-12: clients refuse it; renew it"),
            (certificates(&name, 2..90), true, "is good from 2027-01-17 on"),
            (certificates(&name, -80..5), false, "expires on 2027-01-20, 5 days from now; renew it"),
            (certificates(&[], -1..90), true, "names no host"),
        ];
        for (certificates, is_refused, words) in cases {
            let told = told(&certificates, None);
            assert_eq!(told.len(), 1, "{words}: {told:?}");
            assert!(told[0].0 == is_refused && told[0].1.contains(words), "{words}: {told:?}");
        }
    }

    #[test]
    fn one_of_the_certificates_has_to_be_for_where_clients_are_sent() {
        let certificates = certificates(&["eu.example.net", "*.eu.example.org", "127.0.0.1"], -1..90);
        for host in [None, Some("eu.example.net"), Some("a.eu.example.org"), Some("127.0.0.1")] {
            assert_eq!(told(&certificates, host), [], "{host:?}");
        }
        let (is_refused, what) = told(&certificates, Some("us.example.net")).remove(0);
        assert!(is_refused);
        assert_eq!(
            what,
            "none is for us.example.net, where public_url sends clients, who refuse it; named are eu.example.net, \
             *.eu.example.org, 127.0.0.1"
        );
        assert_eq!(told(&Certificates::default(), Some("us.example.net")), []);
    }

    #[test]
    fn the_host_of_an_authority_is_without_its_port() {
        for (authority, host) in
            [("a.example", "a.example"), ("a.example:8443/", "a.example"), ("[::1]:443", "::1")]
        {
            assert_eq!(host_of(authority), host);
        }
    }
}
