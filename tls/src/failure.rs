//! Why peers' bytes are refused, in a few words that a metric can have as a label.

use rustls::{AlertDescription, Error, PeerIncompatible};

/// The library panicked.
pub(crate) const INTERNAL: &str = "internal";

/// Every reason for which bytes are refused.
pub const REFUSALS: [&str; 9] = [
    "not_tls",
    "no_common_version",
    "no_common_cipher",
    "no_common_protocol",
    "incompatible",
    "certificate_refused",
    "alert",
    "protocol_error",
    INTERNAL,
];

/// The content types of records (RFC 8446 5.1).
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=24;

/// The reason of an error about these bytes.
pub(crate) fn word_for(error: &Error, wire: &[u8]) -> &'static str {
    let is_record = wire.first().is_none_or(|first| CONTENT_TYPES.contains(first));
    if matches!(error, Error::InvalidMessage(_)) && !is_record { "not_tls" } else { of(error) }
}

/// The reason of an error.
pub(crate) fn of(error: &Error) -> &'static str {
    match error {
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "no_common_version",
        Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoEcPointFormatsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
        ) => "no_common_cipher",
        Error::NoApplicationProtocol => "no_common_protocol",
        Error::PeerIncompatible(_) => "incompatible",
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate,
        ) => "certificate_refused",
        Error::AlertReceived(_) => "alert",
        _ => "protocol_error",
    }
}
