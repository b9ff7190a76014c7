//! Text of others in XML and HTML: what has a meaning there is escaped, what may not be there at all is replaced.

use std::borrow::Cow;

use quick_xml::escape::escape;

/// For elements and attributes of HTML.
pub(crate) fn html(text: &str) -> String {
    escape(plain(text)).into_owned()
}

/// Without characters that XML 1.0 knows no way to write (section 2.2).
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_char) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_char(c) { c } else { char::REPLACEMENT_CHARACTER }).collect())
}

fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
