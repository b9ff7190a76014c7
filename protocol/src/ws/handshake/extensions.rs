//! Negotiation of permessage-deflate (RFC 7692 5 and 7.1).

use super::super::WindowBits;

const NAME: &str = "permessage-deflate";
/// What our client offers: no context takeover on either side, no window sizes.
pub(super) const OFFER: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";

/// What was agreed beyond "no context takeover on both sides", which always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DeflateParams {
    /// The server's LZ77 window, where the client bounded it.
    pub server_window: Option<WindowBits>,
}

impl DeflateParams {
    /// The window to compress with as a server.
    pub fn window(self) -> WindowBits {
        self.server_window.unwrap_or(WindowBits::MAX)
    }

    /// The value of `Sec-WebSocket-Extensions` that accepts an offer. A server may bind both sides to no
    /// context takeover whether or not the client asked (RFC 7692 7.1.1).
    pub(super) fn append_accept(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"permessage-deflate; server_no_context_takeover; client_no_context_takeover");
        if let Some(bits) = self.server_window {
            out.extend_from_slice(b"; server_max_window_bits=");
            out.extend_from_slice(bits.get().to_string().as_bytes());
        }
    }
}

/// The first offer we can accept among the values of `Sec-WebSocket-Extensions`, in the client's order of
/// preference. Other extensions, and offers with parameters that are unknown, repeated or invalid, are passed
/// over (RFC 7692 7.1).
pub fn negotiate_deflate(extensions: &[&str]) -> Option<DeflateParams> {
    extensions
        .iter()
        .flat_map(|value| split_unquoted(value, b','))
        .find_map(|offer| Params::parse(offer)?.accept())
}

/// What a server accepted of [`OFFER`]. `None`: it used what was not offered.
pub(super) fn check_accepted(extensions: &[&str]) -> Option<DeflateParams> {
    let mut accepted = extensions.iter().flat_map(|value| split_unquoted(value, b','));
    let params = Params::parse(accepted.next()?)?;
    // A parameter that was not offered must not be used by the server, except to bound itself (RFC 7692
    // 7.1.2).
    let only_offered = params.client_max_window_bits.is_none() && accepted.next().is_none();
    // It was demanded, and our inflater keeps no context.
    (only_offered && params.server_no_context_takeover).then_some(DeflateParams::default())
}

/// The parameters of one permessage-deflate offer or acceptance.
#[derive(Default)]
struct Params {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    /// 8 to 15.
    server_max_window_bits: Option<u8>,
    /// 8 to 15; 15 where the client gave no value.
    client_max_window_bits: Option<u8>,
}

impl Params {
    /// `None` for another extension, and for parameters that are unknown, repeated or invalid.
    fn parse(extension: &str) -> Option<Self> {
        let mut parts = split_unquoted(extension, b';').map(str::trim_ascii);
        if !parts.next()?.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut params = Self::default();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_ascii_end(), Some(unquote(value.trim_ascii_start())?)),
                None => (part, None),
            };
            params.set(name, value)?;
        }
        Some(params)
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Option<()> {
        let repeated = match (name, value) {
            ("server_no_context_takeover", None) => {
                std::mem::replace(&mut self.server_no_context_takeover, true)
            }
            ("client_no_context_takeover", None) => {
                std::mem::replace(&mut self.client_no_context_takeover, true)
            }
            ("server_max_window_bits", Some(bits)) => {
                self.server_max_window_bits.replace(window_bits(bits)?).is_some()
            }
            ("client_max_window_bits", bits) => {
                let bits = bits.map_or(Some(WindowBits::MAX.get()), window_bits)?;
                self.client_max_window_bits.replace(bits).is_some()
            }
            _ => return None,
        };
        (!repeated).then_some(())
    }

    /// The client's window bound needs no answer: our inflater takes any. A bound on ours is kept or the
    /// offer declined.
    fn accept(&self) -> Option<DeflateParams> {
        let server_window = match self.server_max_window_bits {
            Some(bits) => Some(WindowBits::new(bits)?),
            None => None,
        };
        Some(DeflateParams { server_window })
    }
}

/// RFC 7692 7.1.2: 8 to 15, decimal, without leading zeroes.
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

/// A token as it is; a quoted one without its quotes (RFC 6455 9.1: the value must be a token after
/// unquoting).
fn unquote(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// Splits at `separator` where it does not stand in a quoted string (RFC 9110 5.6.4).
fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.bytes().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => return byte == separator && !quoted,
            }
            false
        });
        // The separators are ASCII, so these are character boundaries.
        let (item, tail) = match end {
            Some(end) => (&text[..end], Some(&text[end + 1..])),
            None => (text, None),
        };
        rest = tail;
        Some(item)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(offer: &str) -> Option<String> {
        let mut out = Vec::new();
        negotiate_deflate(&[offer])?.append_accept(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_offer_is_answered_with_no_context_takeover_on_both_sides() {
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=8",
            "permessage-deflate; client_no_context_takeover ;server_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits = \"10\"",
        ] {
            assert_eq!(accepted(offer).as_deref(), Some(both), "{offer}");
        }
    }

    #[test]
    fn a_window_bound_for_the_server_is_repeated_and_kept() {
        // RFC 7692 7.1.2.1.
        for bits in 9..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            assert_eq!(negotiate_deflate(&[&offer]).unwrap().window().get(), bits);
            assert!(accepted(&offer).unwrap().ends_with(&format!("; server_max_window_bits={bits}")));
        }
    }

    #[test]
    fn the_first_acceptable_offer_wins() {
        let offers = [
            "permessage-deflate; server_max_window_bits=8",
            "foo, permessage-deflate; server_max_window_bits=10, permessage-deflate",
        ];
        assert_eq!(negotiate_deflate(&offers).unwrap().window().get(), 10);
    }

    #[test]
    fn invalid_unknown_and_repeated_parameters_decline_an_offer() {
        // RFC 7692 7.1.
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate; unknown",
            "permessage-deflate; ",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            "permessage-deflate; x=\"a, permessage-deflate\"",
        ] {
            assert_eq!(negotiate_deflate(&[offer]), None, "{offer}");
        }
    }

    #[test]
    fn our_own_offer_and_acceptance_fit_each_other() {
        let params = negotiate_deflate(&[OFFER]).unwrap();
        let mut value = Vec::new();
        params.append_accept(&mut value);
        assert!(check_accepted(&[std::str::from_utf8(&value).unwrap()]).is_some());
    }

    #[test]
    fn a_server_may_accept_only_what_was_offered() {
        let good = "permessage-deflate; server_no_context_takeover";
        assert!(check_accepted(&[good]).is_some());
        assert!(
            check_accepted(&["permessage-deflate; server_no_context_takeover; server_max_window_bits=9"])
                .is_some()
        );
        for bad in [
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=9",
            "foo",
            "permessage-deflate; server_no_context_takeover, foo",
        ] {
            assert_eq!(check_accepted(&[bad]), None, "{bad}");
        }
        assert_eq!(check_accepted(&[good, good]), None);
    }
}
