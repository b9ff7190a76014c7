//! Whether a text is JSON (RFC 8259), by a walk that builds nothing and does not recurse.
//!
//! One client's broken JSON makes `JSON.parse` throw in every other, so it is found here, before it is forwarded.

/// Deepest nesting a caller may allow: one bit a level of a `u128`.
pub const MAX_DEPTH: u32 = 128;

/// Who has to be able to read the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// `JSON.parse`.
    Script,
    /// `JSON.parse`, and `serde_json` as yrs calls it, which takes neither a lone surrogate escape (`"\ud800"`), nor a
    /// number beyond the range of a double, nor an integer from 2⁶³ to 2⁶⁴ - 1.
    ScriptAndSerde,
}

/// Whether `text` is one JSON value that nests at most `max_depth` arrays and objects.
pub fn is_valid(text: &str, max_depth: u32, reader: Reader) -> bool {
    let walk = Walk {
        bytes: text.as_bytes(),
        at: 0,
        depth: 0,
        objects: 0,
        max_depth: max_depth.min(MAX_DEPTH),
        strict: reader == Reader::ScriptAndSerde,
    };
    walk.run().is_some()
}

/// A walk over `bytes`. `None` from any of its steps means: not JSON.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    /// Bit 0 is the innermost open container: 1 for an object, 0 for an array.
    objects: u128,
    max_depth: u32,
    strict: bool,
}

impl Walk<'_> {
    fn run(mut self) -> Option<()> {
        loop {
            if self.value()? == Opened::Container {
                continue;
            }
            // A value is complete: close what closes behind it, then go on to the next value.
            loop {
                if self.depth == 0 {
                    return self.peek_token().is_none().then_some(());
                }
                match self.next_token()? {
                    b',' => {
                        self.key_if_in_object()?;
                        break;
                    }
                    b'}' if self.in_object() => self.close(),
                    b']' if !self.in_object() => self.close(),
                    _ => return None,
                }
            }
        }
    }

    /// Reads a value, or only its opening bracket where it has elements.
    fn value(&mut self) -> Option<Opened> {
        match self.next_token()? {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' => self.string(),
            b't' => self.literal(b"rue"),
            b'f' => self.literal(b"alse"),
            b'n' => self.literal(b"ull"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn open(&mut self, object: bool) -> Option<Opened> {
        if self.depth == self.max_depth {
            return None;
        }
        if self.peek_token()? == if object { b'}' } else { b']' } {
            self.at += 1;
            return Some(Opened::Nothing);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.key_if_in_object()?;
        Some(Opened::Container)
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn key_if_in_object(&mut self) -> Option<()> {
        if !self.in_object() {
            return Some(());
        }
        if self.next_token()? != b'"' {
            return None;
        }
        self.string()?;
        (self.next_token()? == b':').then_some(())
    }

    fn literal(&mut self, rest: &[u8]) -> Option<Opened> {
        self.bytes.get(self.at..)?.starts_with(rest).then_some(())?;
        self.at += rest.len();
        Some(Opened::Nothing)
    }

    /// Reads a string behind its opening quote.
    fn string(&mut self) -> Option<Opened> {
        loop {
            match self.next()? {
                b'"' => return Some(Opened::Nothing),
                b'\\' => self.escape()?,
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.hex4()? {
                0xdc00..=0xdfff if self.strict => None,
                0xd800..=0xdbff if self.strict => {
                    let low = self.next()? == b'\\' && self.next()? == b'u';
                    (low && (0xdc00..=0xdfff).contains(&self.hex4()?)).then_some(())
                }
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn hex4(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..4 {
            value = value << 4 | char::from(self.next()?).to_digit(16)?;
        }
        Some(value)
    }

    /// Reads a number behind its first byte.
    fn number(&mut self) -> Option<Opened> {
        let start = self.at - 1;
        let first = match self.bytes.get(start)? {
            b'-' => self.next()?,
            digit => *digit,
        };
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        let integer_end = self.at;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        if self.strict && self.at - start > SURELY_FITTING_BYTES {
            self.fits_serde(start, integer_end)?;
        }
        Some(Opened::Nothing)
    }

    fn fits_serde(&self, start: usize, integer_end: usize) -> Option<()> {
        let text = std::str::from_utf8(self.bytes.get(start..self.at)?).ok()?;
        if self.at == integer_end && text.parse::<u64>().is_ok_and(|value| i64::try_from(value).is_err()) {
            return None;
        }
        let value: f64 = text.parse().ok()?;
        value.is_finite().then_some(())
    }

    fn some_digits(&mut self) -> Option<()> {
        let start = self.at;
        self.digits();
        (self.at > start).then_some(())
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn peek_token(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn next_token(&mut self) -> Option<u8> {
        let byte = self.peek_token()?;
        self.at += 1;
        Some(byte)
    }
}

/// A number written in so few bytes is in range: `1e309` takes five.
const SURELY_FITTING_BYTES: usize = 4;

#[derive(PartialEq, Eq)]
enum Opened {
    /// A container with at least one element, of which nothing is read yet but the first key.
    Container,
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> bool {
        is_valid(text, 127, Reader::ScriptAndSerde)
    }

    #[test]
    fn values_of_every_kind_are_taken() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1.5e-3",
            "12E+2",
            "\"\"",
            "\"\\u00e9\\n\"",
            "[]",
            "{}",
            " [ 1 , 2 ] ",
            "{\"a\":[{\"b\":null},[]],\"c\":{}}",
            "\"\\ud83d\\ude00\"",
            "\"\u{7f}é\"",
        ] {
            assert!(both(text), "{text}");
        }
    }

    #[test]
    fn near_misses_are_refused() {
        for text in [
            "",
            " ",
            "nul",
            "nulll",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "[}",
            "{]",
            "[1}",
            "1 1",
            "undefined",
            "NaN",
            "'a'",
            "[",
            "{\"a\":[",
            "\u{feff}1",
            "1]",
            "{\"a\":1]",
        ] {
            assert!(!both(text), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_valid(&nested(128), 128, Reader::Script));
        assert!(!is_valid(&nested(129), 1000, Reader::Script));
        assert!(!is_valid(&nested(6), 5, Reader::Script));
        assert!(!is_valid(&nested(1_000_000), 128, Reader::Script));
    }

    #[test]
    fn what_only_scripts_read_is_refused_for_both() {
        for text in [
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "1e999",
            "-1e400",
            "18446744073709551615",
            "9223372036854775808",
        ] {
            assert!(is_valid(text, 128, Reader::Script), "{text}");
            assert!(!both(text), "{text}");
        }
        for text in [
            "1.5e300",
            "9223372036854775807",
            "-9223372036854775809",
            "18446744073709551616",
            "9223372036854775808.0",
        ] {
            assert!(both(text), "{text}");
        }
        assert!(!both(&"9".repeat(400)));
    }
}
