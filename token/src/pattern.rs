//! Glob patterns over document names.

/// The documents a token is for: `*` stands for any run of characters, `?` for one, everything else for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentPatterns(Option<Box<[Box<str>]>>);

impl DocumentPatterns {
    /// Every document.
    pub fn all() -> Self {
        Self(None)
    }

    /// Documents that match at least one of `patterns`; none at all where there is no pattern.
    pub fn any_of<S: Into<Box<str>>>(patterns: impl IntoIterator<Item = S>) -> Self {
        Self(Some(patterns.into_iter().map(Into::into).collect()))
    }

    /// Whether `document` is among them.
    pub fn allow(&self, document: &str) -> bool {
        match &self.0 {
            None => true,
            Some(patterns) => patterns.iter().any(|p| glob_matches(p.as_bytes(), document.as_bytes())),
        }
    }
}

/// Whether `pattern` covers the whole of `text`. At most `pattern * text` steps and no recursion: after a mismatch
/// only the last `*` needs to take one byte more, whatever earlier ones took.
fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                None => return false,
                Some((after_star, taken)) => {
                    *taken += 1;
                    (p, t) = (*after_star, *taken);
                }
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allow(patterns: &[&str], document: &str) -> bool {
        DocumentPatterns::any_of(patterns.iter().copied()).allow(document)
    }

    #[test]
    fn a_star_covers_any_run_and_a_question_mark_one_character() {
        assert!(allow(&["notes-*"], "notes-"));
        assert!(allow(&["notes-*"], "notes-1-2"));
        assert!(!allow(&["notes-*"], "my-notes-1"));
        assert!(allow(&["*-draft"], "a-draft-draft"));
        assert!(allow(&["a*b*c"], "a-b-b-c"));
        assert!(allow(&["v?"], "v1"));
        assert!(!allow(&["v?"], "v"));
        assert!(!allow(&["v?"], "v12"));
    }

    #[test]
    fn no_pattern_allows_nothing_and_no_list_allows_everything() {
        assert!(!allow(&[], "a"));
        assert!(DocumentPatterns::all().allow("a"));
        assert!(allow(&["x", "a"], "a"));
    }

    #[test]
    fn other_glob_characters_stand_for_themselves() {
        assert!(!allow(&["[ab]"], "a"));
        assert!(!allow(&["{a,b}"], "a"));
    }

    #[test]
    fn matching_case_is_strict() {
        assert!(!allow(&["Notes"], "notes"));
    }

    #[test]
    fn many_stars_do_not_blow_up() {
        let (pattern, text) = ("*a".repeat(2000), "a".repeat(255));
        assert!(!glob_matches(format!("{pattern}b").as_bytes(), text.as_bytes()));
    }

    /// The definition, by recursion.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) if reference(rest, text) => true,
            (Some((b'*', _)), Some((_, tail))) => reference(pattern, tail),
            (Some((b'?', rest)), Some((_, tail))) => reference(rest, tail),
            (Some((p, rest)), Some((t, tail))) if p == t => reference(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab*?]{0,9}", text in "[ab]{0,9}") {
            prop_assert_eq!(
                glob_matches(pattern.as_bytes(), text.as_bytes()),
                reference(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
