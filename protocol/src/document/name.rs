//! Document names.

/// Longest document name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Which characters an installation allows beyond ASCII letters, digits, `-` and `_`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameRules {
    /// Allow `.` and `:` as well.
    pub allow_dot_colon: bool,
}

/// Whether `name` may name a document: 1 to 255 bytes of the allowed characters.
pub fn is_valid_name(name: &str, rules: &NameRules) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| is_allowed(byte, *rules))
}

fn is_allowed(byte: u8, rules: NameRules) -> bool {
    match byte {
        b'-' | b'_' => true,
        b'.' | b':' => rules.allow_dot_colon,
        _ => byte.is_ascii_alphanumeric(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_digits_dash_and_underscore_are_allowed() {
        assert!(is_valid_name("My-doc_42", &NameRules::default()));
        for name in ["", "a b", "a/b", "ä", "a\0b", "a%62", "a.b", "a:b"] {
            assert!(!is_valid_name(name, &NameRules::default()), "{name:?}");
        }
    }

    #[test]
    fn dot_and_colon_are_a_choice() {
        let rules = NameRules { allow_dot_colon: true };
        assert!(is_valid_name("team.a:doc", &rules));
        assert!(!is_valid_name("team/a", &rules));
    }

    #[test]
    fn length_is_at_most_255() {
        assert!(is_valid_name(&"a".repeat(255), &NameRules::default()));
        assert!(!is_valid_name(&"a".repeat(256), &NameRules::default()));
    }
}
