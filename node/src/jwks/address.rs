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
    let (Some(authority), Some(scheme)) = (uri.authority(), uri.scheme_str()) else {
        return Err("is no whole URL; write https://auth.example.com/.well-known/jwks.json".to_owned());
    };
    if authority.as_str().contains('@') {
        return Err("has a user in it; sets of public keys need no password".to_owned());
    }
    match scheme {
        "https" => Ok(uri),
        "http" if allow_http || is_this_host(authority.host()) => Ok(uri),
        "http" => {
            Err("is without TLS: whoever is on the way could put keys of their own in; write https://, or \
                             tokens.jwks_allow_http = true"
                .to_owned())
        }
        other => Err(format!("begins with {other}; only https:// is fetched")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_browsers_would_go_but_not_out_of_tls() {
        let from: Uri = "https://a.example:8443/one/two?x=1".parse().unwrap();
        let to = |location: &str| follow(&from, location, false).map(|uri| uri.to_string());
        assert_eq!(to("https://b.example/k#top").unwrap(), "https://b.example/k");
        assert_eq!(to("//b.example/k").unwrap(), "https://b.example/k");
        assert_eq!(to("/k?y=2").unwrap(), "https://a.example:8443/k?y=2");
        assert_eq!(to("k?at=12:30").unwrap(), "https://a.example:8443/one/k?at=12:30");
        assert!(to("http://b.example/").unwrap_err().contains("without TLS"));
        assert!(to("http://127.0.0.1/").unwrap_err().contains("out of TLS"));
        assert!(to("file:///etc/passwd").is_err());
        assert!(to("https://me@b.example/").unwrap_err().contains("has a user in it"));
        let open = follow(&from, "http://b.example/", true).unwrap_err();
        assert!(open.contains("out of TLS"), "{open}");
    }

    #[test]
    fn what_is_shown_of_a_url_has_no_query() {
        assert_eq!(shown(&"https://a.example/keys?secret=1".parse().unwrap()), "https://a.example/keys");
    }
}
