//! The request target of a document connection: which document, which token.
//!
//! Clients build it by appending `/` and the document to a base URL, then their parameters, and base URLs hold more than
//! their users think: a discovery URL that already names the document, or a query string. So these all reach `doc`:
//! `/doc`, `/doc/`, `/doc/doc`, `/?token=JWT/doc`, `/doc?token=JWT/doc`, and each with `?key=value` behind it.

use std::borrow::Cow;

/// What a request target says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target<'a> {
    /// The document, percent-decoded, not yet checked as a name. `None` on `/`.
    pub document: Option<Cow<'a, str>>,
    /// The first non-empty `token`, else the first non-empty `access_token`.
    pub token: Option<Cow<'a, str>>,
    /// `?refuse=close`: the client wants a refusal as a close frame it can read.
    pub refuse_close: bool,
    /// Everything behind the first `?`, as received.
    pub query: &'a str,
}

impl<'a> Target<'a> {
    /// The value of the first parameter called `name`, percent-decoded.
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        params(self.query).find(|(key, _)| *key == name).map(|(_, value)| decode(value))
    }
}

/// Reads a request target in origin form, or in absolute form as some proxies send it. Never fails: what is not a
/// document's name is found when the name is checked.
pub fn parse_target(target: &str) -> Target<'_> {
    let (path, query) = split_query(without_authority(target));
    let document = document_of_path(path);
    let (base, _) = split_query(query);
    Target {
        token: token(query),
        refuse_close: params(query).any(|(key, value)| key == "refuse" && value == "close"),
        document: document.or_else(|| document_of_query(base)),
        query,
    }
}

fn without_authority(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            rest.find(['/', '?']).map_or("", |at| &rest[at..])
        }
        _ => target,
    }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

fn document_of_path(path: &str) -> Option<Cow<'_, str>> {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return None;
    }
    let document = decode(path);
    match path.split_once('/') {
        Some((base, room)) if decode(base) == decode(room) => Some(decode(room)),
        _ => Some(document),
    }
}

/// The document behind the query string of a base URL, `token=JWT/doc`.
fn document_of_query(base: &str) -> Option<Cow<'_, str>> {
    let (_, document) = base.trim_end_matches('/').rsplit_once('/')?;
    Some(decode(document))
}

fn token(query: &str) -> Option<Cow<'_, str>> {
    ["token", "access_token"].into_iter().find_map(|name| {
        // A JWT holds no slash: what follows one is a document behind a base URL's query string.
        params(query)
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.split_once('/').map_or(value, |(token, _)| token))
            .find(|token| !token.is_empty())
            .map(decode)
    })
}

/// The parameters of a query string; a second `?`, which starts those of a client with a query in its base URL,
/// separates like `&`. A key without `=` has an empty value.
fn params(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split(['&', '?'])
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Undoes percent-encoding. Left as it is: a `%` without two hex digits, and text that would not be UTF-8.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| hex_pair(bytes.get(at + 1), bytes.get(at + 2))).flatten();
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn hex_pair(high: Option<&u8>, low: Option<&u8>) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high?)? << 4 | digit(low?)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln-_";

    fn document(target: &str) -> Option<String> {
        parse_target(target).document.map(Cow::into_owned)
    }

    #[test]
    fn every_spelling_real_clients_produce_reaches_the_document() {
        for target in [
            "/doc".to_owned(),
            "/doc/".to_owned(),
            "//doc".to_owned(),
            "/doc/doc".to_owned(),
            "/doc/doc/".to_owned(),
            "/d%6fc/doc".to_owned(),
            format!("/doc?token={JWT}"),
            format!("/?token={JWT}/doc"),
            format!("?token={JWT}/doc"),
            format!("/?token={JWT}/doc/"),
            format!("/?a=1&token={JWT}/doc"),
            format!("/?token={JWT}&a=1/doc"),
            format!("/doc?token={JWT}/doc"),
            format!("/?a=1/doc?token={JWT}"),
            format!("/?token={JWT}/doc?b=2"),
            "ws://eu.example.net/doc".to_owned(),
        ] {
            assert_eq!(document(&target).as_deref(), Some("doc"), "{target}");
            let token = parse_target(&target).token;
            assert_eq!(token.as_deref(), target.contains("token").then_some(JWT), "{target}");
        }
    }

    #[test]
    fn a_root_has_no_document() {
        for target in
            ["", "/", "//", "/?", "/?token=abc", "ws://eu.example.net", "ws://eu.example.net?token=abc"]
        {
            assert_eq!(document(target), None, "{target}");
        }
    }

    #[test]
    fn two_different_segments_are_no_name() {
        assert_eq!(document("/team/doc").as_deref(), Some("team/doc"));
        assert_eq!(document("/doc/doc/doc").as_deref(), Some("doc/doc/doc"));
    }

    #[test]
    fn percent_encoding_is_undone_and_broken_encoding_left() {
        assert_eq!(document("/a%2Db").as_deref(), Some("a-b"));
        assert_eq!(document("/a%2").as_deref(), Some("a%2"));
        assert_eq!(document("/a%zz").as_deref(), Some("a%zz"));
        assert_eq!(document("/a%ff").as_deref(), Some("a%ff"));
        assert_eq!(document("/%c3%a9").as_deref(), Some("é"));
    }

    #[test]
    fn token_goes_before_access_token_and_empty_ones_do_not_count() {
        assert_eq!(parse_target("/d?access_token=b&token=a").token.as_deref(), Some("a"));
        assert_eq!(parse_target("/d?token=&access_token=b").token.as_deref(), Some("b"));
        assert_eq!(parse_target("/d?token").token, None);
        assert_eq!(parse_target("/d?token=a%2Eb").token.as_deref(), Some("a.b"));
    }

    #[test]
    fn refusal_by_close_is_asked_for_in_so_many_words() {
        assert!(parse_target("/d?token=a&refuse=close").refuse_close);
        assert!(parse_target("/?token=a/d?refuse=close").refuse_close);
        assert!(!parse_target("/d?refuse=503").refuse_close);
    }

    #[test]
    fn other_parameters_are_found_by_name() {
        let target = parse_target("/discovery?documentName=a%2Db&x");
        assert_eq!(target.param("documentName").as_deref(), Some("a-b"));
        assert_eq!(target.param("x").as_deref(), Some(""));
        assert_eq!(target.param("y"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(target in "[/?&=%:a-f0-9é.]{0,60}") {
            let read = parse_target(&target);
            prop_assert!(read.document.is_none_or(|document| !document.is_empty() && document.len() <= target.len()));
        }
    }
}
