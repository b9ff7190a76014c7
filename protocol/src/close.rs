//! The one table of close codes: names, meanings, reasons, and whether a client should come back.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Bytes of a close reason at most: a control frame's 125, less the code (RFC 6455 5.5).
pub const MAX_REASON: usize = 123;
/// What a redirect's reason starts with.
pub const REDIRECT_PREFIX: &str = "REDIRECT:";

/// What a client does after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comeback {
    /// It stays away: the same attempt would end the same way.
    No,
    /// It comes back with another token or another right.
    WithNewToken,
    /// It comes back after a pause, longer each time.
    AfterBackoff,
    /// It comes back at the address in the reason.
    Elsewhere,
}

impl Comeback {
    fn text(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::WithNewToken => "with a new token",
            Self::AfterBackoff => "after a pause",
            Self::Elsewhere => "at the address in the reason",
        }
    }
}

macro_rules! close_codes {
    ($($variant:ident = $code:literal, $name:literal, $comeback:ident, $meaning:literal;)*) => {
        /// A close code that a node sends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum CloseCode {
            $(#[doc = $meaning] $variant = $code,)*
        }

        impl CloseCode {
            /// Every code, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The short name of the reference page.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// When it is sent.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What the client should do next.
            pub fn comeback(self) -> Comeback {
                match self { $(Self::$variant => Comeback::$comeback,)* }
            }
        }
    };
}

close_codes! {
    Normal = 1000, "normal", No, "The session is over, as agreed.";
    GoingAway = 1001, "going away", AfterBackoff, "The node drains and is about to stop.";
    ProtocolError = 1002, "protocol error", No, "Frames that break RFC 6455.";
    UnsupportedData = 1003, "unsupported data", No, "A text frame on a document.";
    InvalidData = 1007, "invalid data", No,
        "Text that is not UTF-8, compressed data that does not inflate, or an update that is not well-formed.";
    Policy = 1008, "policy violation", No,
        "More was sent before authentication than is buffered, or a message of more fragments than allowed.";
    MessageTooBig = 1009, "message too big", No, "A message or frame above the limit.";
    InternalError = 1011, "internal error", AfterBackoff, "The node could not do its part.";
    ServiceRestart = 1012, "service restart", AfterBackoff, "The node drains; others serve the region.";
    TryAgainLater = 1013, "try again later", AfterBackoff, "Refused while the node has no room: `retry_ms=<N>`.";
    MissingToken = 4001, "missing token", WithNewToken, "No token in the handshake or the first frame.";
    InvalidToken = 4002, "invalid token", WithNewToken,
        "Expired, malformed, or wrong in signature, key, algorithm, audience or scope.";
    Forbidden = 4003, "forbidden", WithNewToken,
        "Tenant, app, region, Origin or document not allowed by the token.";
    ConnectionLimit = 4004, "connection limit", AfterBackoff, "`Connection limit exceeded: <LIMIT>`";
    DocumentLimit = 4005, "document limit", AfterBackoff,
        "`Document limit exceeded: <LIMIT> (active: <COUNT>)`";
    RateLimit = 4006, "rate limit", AfterBackoff,
        "`Rate limit exceeded: <LIMIT> ops/min`; the only limit that can end a running session.";
    InvalidName = 4007, "invalid name", No, "The document's name is missing or not allowed.";
    DocumentUsers = 4008, "users per document", AfterBackoff, "`Document user limit exceeded: <LIMIT>`";
    WrongRegion = 4009, "wrong region", Elsewhere,
        "Another region serves the document: `REDIRECT:wss://us-east-1.example.net/my-document`.";
    SlowReader = 4010, "slow reader", AfterBackoff, "The client took no byte for too long.";
    Idle = 4011, "idle", AfterBackoff, "No answer to pings.";
}

impl CloseCode {
    /// The number on the wire.
    pub fn code(self) -> u16 {
        self as u16
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.code()
    }
}

/// Whether an endpoint may put `code` into a close frame: the registered ones that are not reserved for local
/// use, and the ranges of libraries and applications (RFC 6455 7.4; 1012 to 1014 from the IANA registry).
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A close code with a reason that fits a close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: CloseCode,
    reason: Cow<'static, str>,
}

impl Close {
    /// `code` with a fixed reason, cut at a character to [`MAX_REASON`] bytes.
    pub fn new(code: CloseCode, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(&reason[..reason.floor_char_boundary(MAX_REASON)]) }
    }

    /// `code` with a reason made up at run time, cut at a character to [`MAX_REASON`] bytes.
    pub fn with_reason(code: CloseCode, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        Self { code, reason: Cow::Owned(reason) }
    }

    /// At most [`MAX_REASON`] bytes.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The app has `limit` connections.
    pub fn connection_limit(limit: u64) -> Self {
        Self::built(CloseCode::ConnectionLimit, format!("Connection limit exceeded: {limit}"))
    }

    /// The app may have `limit` documents and `active` are open.
    pub fn document_limit(limit: u64, active: u64) -> Self {
        Self::built(CloseCode::DocumentLimit, format!("Document limit exceeded: {limit} (active: {active})"))
    }

    /// The app may do `limit` operations a minute.
    pub fn rate_limit(limit: u64) -> Self {
        Self::built(CloseCode::RateLimit, format!("Rate limit exceeded: {limit} ops/min"))
    }

    /// The document has `limit` users.
    pub fn document_users(limit: u64) -> Self {
        Self::built(CloseCode::DocumentUsers, format!("Document user limit exceeded: {limit}"))
    }

    /// Refused by shedding; the client is asked to wait `retry_ms` milliseconds, which the caller has
    /// jittered.
    pub fn try_again(retry_ms: u64) -> Self {
        Self::built(CloseCode::TryAgainLater, format!("retry_ms={retry_ms}"))
    }

    /// The document is served at `url` (`wss://host/document`). If that does not fit, the reason names the
    /// host alone and the client keeps its document name; if even that does not fit, it is empty and the
    /// client asks discovery.
    pub fn redirect(url: &str) -> Self {
        let room = MAX_REASON - REDIRECT_PREFIX.len();
        let target = [url, origin(url)].into_iter().find(|target| target.len() <= room);
        let reason = target.map(|target| format!("{REDIRECT_PREFIX}{target}")).unwrap_or_default();
        Self::built(CloseCode::WrongRegion, reason)
    }

    /// Numbers and constant text: below the bound by construction.
    fn built(code: CloseCode, reason: String) -> Self {
        debug_assert!(reason.len() <= MAX_REASON);
        Self { code, reason: Cow::Owned(reason) }
    }
}

impl From<CloseCode> for Close {
    /// The code's name as its reason.
    fn from(code: CloseCode) -> Self {
        Self::new(code, code.name())
    }
}

/// `scheme://authority` of a URL.
fn origin(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |at| authority + at);
    &url[..end]
}

/// The reference page of close codes.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Close codes\n\n\
         Generated from the table in `protocol/src/close.rs`; a test fails if the two differ.\n\n\
         | code | name | when, or the reason's text | should the client come back? |\n\
         | --- | --- | --- | --- |\n",
    );
    for code in CloseCode::ALL {
        let (name, meaning, comeback) = (code.name(), code.meaning(), code.comeback().text());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {} | {name} | {meaning} | {comeback} |", code.code());
    }
    let _ = write!(
        page,
        "\nA reason is at most {MAX_REASON} bytes of UTF-8 (RFC 6455 5.5). Where a redirect's URL does not fit, the reason is \
         `{REDIRECT_PREFIX}wss://us-east-1.example.net` and the client keeps its document name.\n"
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_may_be_sent_and_the_table_is_in_order() {
        assert!(CloseCode::ALL.iter().all(|code| may_be_sent(code.code())));
        assert!(CloseCode::ALL.is_sorted_by(|a, b| a.code() < b.code()));
    }

    #[test]
    fn reserved_codes_must_not_be_sent() {
        // RFC 6455 7.4.1 and 7.4.2.
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
            assert!(!may_be_sent(code), "{code}");
        }
        for code in [1000, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
    }

    #[test]
    fn codes_that_stop_stock_clients_are_not_for_refusals() {
        // y-websocket stops on 4400 to 4499, Hocuspocus on 1009, 4401 and 4403.
        let returning = CloseCode::ALL.iter().filter(|code| code.comeback() != Comeback::No);
        assert!(returning.map(|code| code.code()).all(|code| code != 1009 && !(4400..4500).contains(&code)));
    }

    #[test]
    fn reasons_carry_their_numbers() {
        assert_eq!(Close::connection_limit(100).reason(), "Connection limit exceeded: 100");
        assert_eq!(Close::document_limit(5, 6).reason(), "Document limit exceeded: 5 (active: 6)");
        assert_eq!(Close::rate_limit(10_000).reason(), "Rate limit exceeded: 10000 ops/min");
        assert_eq!(Close::document_users(50).reason(), "Document user limit exceeded: 50");
        assert_eq!(Close::try_again(1500).reason(), "retry_ms=1500");
        let longest = Close::document_limit(u64::MAX, u64::MAX);
        assert!(longest.reason().len() <= MAX_REASON);
    }

    #[test]
    fn a_redirect_that_does_not_fit_names_the_host_alone() {
        let host = "wss://us-east-1.example.net";
        let fits = format!("{host}/{}", "a".repeat(MAX_REASON - REDIRECT_PREFIX.len() - host.len() - 1));
        assert_eq!(Close::redirect(&fits).reason().len(), MAX_REASON);
        assert_eq!(Close::redirect(&fits).reason(), format!("REDIRECT:{fits}"));
        assert_eq!(Close::redirect(&format!("{fits}a")).reason(), "REDIRECT:wss://us-east-1.example.net");
        let endless = format!("wss://{}.net/doc", "h".repeat(200));
        assert_eq!(Close::redirect(&endless).reason(), "");
    }

    #[test]
    fn a_long_fixed_reason_is_cut() {
        const LONG: &str = "x23456789 x23456789 x23456789 x23456789 x23456789 x23456789 x23456789 x23456789 x23456789 \
                            x23456789 x23456789 x23456789 é23";
        assert!(Close::new(CloseCode::Normal, LONG).reason().len() <= MAX_REASON);
    }

    #[test]
    fn the_page_has_a_row_for_every_code() {
        let page = markdown();
        for code in CloseCode::ALL {
            assert!(page.contains(&format!("| {} | {} |", code.code(), code.name())));
        }
    }
}
