//! Which URLs keys may be fetched from: TLS, or this host.

use std::net::IpAddr;

use axum::http::Uri;

/// A URL that keys may be fetched from.
///
/// # Errors
/// What is wrong with it, and its mend.
pub fn check_url(text: &str, allow_http: bool) -> Result<Uri, String> {
    if text.contains('#') {
        return Err("has a fragment (#), which no server sees; leave it out".to_owned());
    }
    let uri: Uri = text.parse().map_err(|error| format!("is no URL: {error}"))?;
    let Some(authority) = uri.authority() else {
        return Err("is no whole URL; write https://auth.example.com/.well-known/jwks.json".to_owned());
    };
    if authority.as_str().contains('@') {
        return Err("has a user in it; sets of public keys need no password".to_owned());
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if allow_http || is_this_host(authority.host()) => Ok(uri),
        Some("http") => {
            Err("is without TLS: whoever is on the way could put keys of their own in; write https://, or \
                             tokens.jwks_allow_http = true"
                .to_owned())
        }
        other => Err(format!("begins with {}; only https:// is fetched", other.unwrap_or("no scheme"))),
    }
}

fn is_this_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Where a redirect leads, seen from `from`. TLS is not left, and what may not be fetched is not fetched by a detour.
///
/// # Errors
/// Why it is not followed.
pub(super) fn follow(from: &Uri, location: &str, allow_http: bool) -> Result<Uri, String> {
    let scheme = from.scheme_str().unwrap_or_default();
    let authority = from.authority().map(ToString::to_string).unwrap_or_default();
    let has_scheme = location.split_once(':').is_some_and(|(scheme, _)| !scheme.contains(['/', '?']));
    let target = if has_scheme {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let directory = from.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    // A fragment stays with the client (RFC 9110 10.2.2).
    let target = target.split('#').next().unwrap_or_default();
    let uri = check_url(target, allow_http)
        .map_err(|what| format!("it redirects to {target:.200}, which {what}"))?;
    if scheme == "https" && uri.scheme_str() != Some("https") {
        return Err(format!("it redirects to {target:.200}, out of TLS"));
    }
    Ok(uri)
}

/// The URL without what may be a secret.
#[must_use]
pub fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}{}", url.scheme_str().unwrap_or_default(), url.path())
}
