//! Where traces go.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Uri};

/// Where traces go, and how many.
#[derive(Clone)]
pub struct Traces {
    /// The collector's address for traces (OTLP over HTTP, protobuf).
    pub endpoint: Uri,
    /// One in so many happenings is traced.
    pub one_in: u32,
    /// How long a collector may take to answer.
    pub timeout: Duration,
    /// Sent with each request. Values are secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&HeaderName> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Traces")
            .field("endpoint", &self.endpoint)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

/// Where spans go below the base address of a collector (OTLP 1.9, "OTLP/HTTP Request").
const PATH: &str = "/v1/traces";

impl Traces {
    /// Reads the address of a collector: its base, or with the path for traces.
    ///
    /// # Errors
    /// What is wrong with it, and the mend.
    pub(crate) fn parse_endpoint(text: &str) -> Result<Uri, String> {
        let wrong = || format!("`{text}` is no address of a collector; write http://127.0.0.1:4318");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("has a user or a password in it, which logs would show; name them in traces.headers_file, as in \
                        `Authorization: Basic ...`"
                .to_owned());
        }
        if !is_http || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(wrong());
        }
        let base = text.trim_end_matches('/');
        let whole = if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") };
        whole.parse().map_err(|_| wrong())
    }

    /// Reads headers, one `Name: value` a line.
    ///
    /// # Errors
    /// The line that is none. It may hold a secret and is not repeated.
    pub(crate) fn parse_headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(at, line)| {
                let wrong = || format!("line {} is no header; write Name: value", at + 1);
                let (name, value) = line.split_once(':').ok_or_else(wrong)?;
                let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
                let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
                value.set_sensitive(true);
                Ok((name, value))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collectors_address_is_its_base_or_the_whole() {
        for text in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"] {
            assert_eq!(Traces::parse_endpoint(text).unwrap(), "http://127.0.0.1:4318/v1/traces");
        }
        assert_eq!(
            Traces::parse_endpoint("https://otel.example/x").unwrap(),
            "https://otel.example/x/v1/traces"
        );
        let told = Traces::parse_endpoint("http://user:pw123@127.0.0.1:4318").unwrap_err();
        assert!(told.contains("traces.headers_file") && !told.contains("pw123"), "{told}");
        for text in ["127.0.0.1:4318", "grpc://a", "http://", "http://a/?b", ""] {
            assert!(
                Traces::parse_endpoint(text).unwrap_err().contains("write http://127.0.0.1:4318"),
                "{text}"
            );
        }
    }

    #[test]
    fn headers_are_lines_and_a_line_that_is_none_is_not_repeated() {
        let headers = Traces::parse_headers("Authorization: Bearer abc\n\nx-scope:  a:b \n").unwrap();
        let read: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(read, [("authorization", "Bearer abc"), ("x-scope", "a:b")]);
        let told = Traces::parse_headers("a: b\nsecret").unwrap_err();
        assert_eq!(told, "line 2 is no header; write Name: value");
    }
}
