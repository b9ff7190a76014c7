//! The language of filters: `region=eu occ>80 !draining notes`.
//!
//! Terms stand beside each other, and all have to hold. A bare word is looked for in every text of a row. `field=word` holds
//! where the field contains the word, `field!=word` where it does not, `field~word` where it begins with it; `<`, `<=`, `>`, `>=`
//! compare numbers, which may end in `k`, `M`, `G`, `%`, `ms` or `s`. `field=~pattern` and `field!~pattern` ask for a regular
//! expression as operators know it from Prometheus, though anywhere in the text as with grep; without a field they ask every text of
//! a row. `-f word` holds where the word's letters stand in a text in their order. `!` before a term turns it round. Words with
//! spaces are put in quotation marks. Case does not matter.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use code_fuzzy_match::FuzzyMatcher;
use regex::{Regex, RegexBuilder};

use crate::list::{Rows, Value};

/// Bytes that a compiled pattern may take, and what it works with likewise.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The forms of a term, and which rows pass: for the help.
pub const TERMS: &[(&str, &str)] = &[
    ("notes", "in any text"),
    ("region=eu", "in a field; != not, ~ at its beginning"),
    ("occ>80", "by number; 1.5k, 20ms, 80%"),
    ("app=~^a.*z$", "regular expression; !~ not"),
    ("=~^eu", "the same in any text; !~ in none"),
    ("-f rdmp", "letters in this order in any text"),
    ("!draining", "what does not pass without the !"),
    ("\"two words\"", "with spaces"),
];

/// A filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    terms: Vec<Term>,
}

#[derive(Clone, Debug)]
struct Term {
    is_negative: bool,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Word(String),
    /// Any text has it.
    Pattern(Arc<Regex>),
    Fuzzy(String),
    Field {
        field: usize,
        test: Test,
    },
}

#[derive(Clone, Debug)]
enum Test {
    Contains(String),
    Begins(String),
    /// Compiled once, and shared by whoever has a copy of the filter.
    Matches(Arc<Regex>),
    Compare(Comparison, f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// What cannot be understood, and how it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slip(pub String);

impl fmt::Display for Slip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Slip {}

impl Filter {
    /// Reads a filter for rows with such fields.
    ///
    /// # Errors
    /// A field that there is none of, a number that is none, or a regular expression that is none.
    pub fn parse(text: &str, fields: &[&str]) -> Result<Self, Slip> {
        let mut terms = Vec::new();
        let mut words = words(text).into_iter().peekable();
        while let Some(word) = words.next() {
            let (is_negative, plain) = negated(&word);
            // Without a word behind it, it is a word itself.
            if plain == "-f"
                && let Some(letters) = words.next_if(|next| !next.is_empty())
            {
                terms.push(Term { is_negative, what: What::Fuzzy(letters) });
            } else {
                terms.push(term(&word, fields)?);
            }
        }
        Ok(Self { terms })
    }

    /// All rows pass.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// How well a row passes, if it does: the more the better where letters are looked for in their order, 0 otherwise.
    fn score(&self, rows: &dyn Rows, row: usize, fuzzy: &mut FuzzyMatcher) -> Option<usize> {
        self.terms.iter().try_fold(0, |sum, term| term.score(rows, row, fuzzy).map(|score| sum + score))
    }

    /// Rows differ in how well they pass.
    fn ranks(&self) -> bool {
        self.terms.iter().any(|term| !term.is_negative && matches!(term.what, What::Fuzzy(_)))
    }
}

impl Term {
    fn score(&self, rows: &dyn Rows, row: usize, fuzzy: &mut FuzzyMatcher) -> Option<usize> {
        let score = match &self.what {
            What::Word(word) => texts(rows, row, |text| contains(text, word).then_some(0)),
            What::Pattern(pattern) => texts(rows, row, |text| pattern.is_match(text).then_some(0)),
            What::Fuzzy(letters) => texts(rows, row, |text| {
                may_have(text, letters).then(|| fuzzy.fuzzy_match(text, letters)).flatten()
            }),
            What::Field { field, test } => test.holds(&rows.value(row, *field)).then_some(0),
        };
        if self.is_negative { score.is_none().then_some(0) } else { score }
    }
}

/// The most that any text of a row is worth.
fn texts(rows: &dyn Rows, row: usize, mut worth: impl FnMut(&str) -> Option<usize>) -> Option<usize> {
    let mut most = None;
    for field in 0..rows.fields().len() {
        if let Value::Text(text) | Value::State(_, text) = rows.value(row, field) {
            most = most.max(worth(&text));
            // Nothing is worth more where all is worth the same.
            if most == Some(0) {
                break;
            }
        }
    }
    most
}

impl Test {
    fn holds(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Contains(word), Value::Text(text) | Value::State(_, text)) => contains(text, word),
            (Self::Begins(word), Value::Text(text) | Value::State(_, text)) => {
                text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
            }
            (Self::Matches(pattern), Value::Text(text) | Value::State(_, text)) => pattern.is_match(text),
            (Self::Compare(comparison, than), Value::Number(number, _)) => comparison.holds(*number, *than),
            (Self::Contains(word), Value::Number(number, unit)) => {
                amount(word).is_some_and(|than| (number - than).abs() < 1e-9)
                    || contains(&unit.show(*number), word)
            }
            (Self::Matches(pattern), Value::Number(number, unit)) => pattern.is_match(&unit.show(*number)),
            _ => false,
        }
    }
}

impl Comparison {
    fn holds(self, number: f64, than: f64) -> bool {
        match self {
            Self::Less => number < than,
            Self::AtMost => number <= than,
            Self::More => number > than,
            Self::AtLeast => number >= than,
        }
    }
}

/// Whether a text may have these letters in their order: most texts have not, and this is told sooner than what it is worth.
fn may_have(text: &str, letters: &str) -> bool {
    let mut left = letters.bytes().peekable();
    !letters.is_ascii()
        || text.bytes().any(|byte| {
            left.next_if(|letter| letter.eq_ignore_ascii_case(&byte));
            left.peek().is_none()
        })
}

/// `word` is in lower case.
fn contains(text: &str, word: &str) -> bool {
    if word.is_empty() {
        return true;
    }
    if text.is_ascii() && word.is_ascii() {
        let (text, word) = (text.as_bytes(), word.as_bytes());
        return text.len() >= word.len()
            && text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    }
    text.to_lowercase().contains(word)
}

/// Words, with those in quotation marks whole.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut is_word) = (Vec::new(), String::new(), false, false);
    for letter in text.chars() {
        match letter {
            '"' => {
                is_quoted = !is_quoted;
                is_word = true;
            }
            letter if letter.is_whitespace() && !is_quoted => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            letter => {
                word.push(letter);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// Whether `!` turns a term round, and the term without it. `!=` and `!~` are operators.
fn negated(word: &str) -> (bool, &str) {
    match word.strip_prefix('!') {
        Some(rest) if !rest.starts_with('~') => (true, rest),
        _ => (false, word),
    }
}

fn term(word: &str, fields: &[&str]) -> Result<Term, Slip> {
    let (mut is_negative, word) = negated(word);
    let Some(at) = word.find(['=', '!', '<', '>', '~']) else {
        return Ok(Term { is_negative, what: What::Word(word.to_lowercase()) });
    };
    let (name, rest) = word.split_at(at);
    let operators = ["=~", "!~", "!=", "<=", ">=", "=", "<", ">", "~"];
    let Some(operator) = operators.iter().find(|operator| rest.starts_with(**operator)) else {
        return Ok(Term { is_negative, what: What::Word(word.to_lowercase()) });
    };
    is_negative ^= operator.starts_with('!');
    let value = &rest[operator.len()..];
    if name.is_empty() && operator.ends_with('~') && operator.len() == 2 {
        return Ok(Term { is_negative, what: What::Pattern(pattern(value)?) });
    }
    let field = find(name, fields)?;
    let plain = value.to_lowercase();
    let number = |comparison| {
        let than = amount(&plain).ok_or_else(|| {
            Slip(format!("`{plain}` is no number; write {name}{operator}80, or 1.5k, 20ms"))
        })?;
        Ok(Test::Compare(comparison, than))
    };
    let test = match *operator {
        "=~" | "!~" => Test::Matches(pattern(value)?),
        "=" | "!=" => Test::Contains(plain),
        "~" => Test::Begins(plain),
        "<" => number(Comparison::Less)?,
        "<=" => number(Comparison::AtMost)?,
        ">" => number(Comparison::More)?,
        _ => number(Comparison::AtLeast)?,
    };
    Ok(Term { is_negative, what: What::Field { field, test } })
}

/// A regular expression, in which case does not matter unless it says so: `(?-i)`.
fn pattern(text: &str) -> Result<Arc<Regex>, Slip> {
    let built = RegexBuilder::new(text)
        .case_insensitive(true)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build();
    built.map(Arc::new).map_err(|error| {
        // The place, in one line: what `regex` itself says has several.
        let parsed = regex_syntax::ParserBuilder::new().case_insensitive(true).build().parse(text);
        let (what, place) = match &parsed {
            Err(regex_syntax::Error::Parse(error)) => {
                (error.kind().to_string(), Some(error.span().start.offset))
            }
            Err(regex_syntax::Error::Translate(error)) => {
                (error.kind().to_string(), Some(error.span().start.offset))
            }
            _ if matches!(error, regex::Error::CompiledTooBig(_)) => ("it is too large".into(), None),
            _ => ("it cannot be used".into(), None),
        };
        let before = place.and_then(|offset| text.get(..offset)).map(|before| before.chars().count() + 1);
        let place = before.map_or_else(String::new, |number| format!(" at letter {number}"));
        Slip(format!("`{text}` is no regular expression: {what}{place}"))
    })
}

/// The number of a field, by its name or the beginning of one.
///
/// # Errors
/// There is none.
pub fn find(name: &str, fields: &[&str]) -> Result<usize, Slip> {
    let name = name.to_lowercase();
    let exact = fields.iter().position(|field| *field == name);
    let begins = || fields.iter().position(|field| field.starts_with(&name)).filter(|_| !name.is_empty());
    exact.or_else(begins).ok_or_else(|| {
        let near = fields.iter().min_by_key(|field| strsim::damerau_levenshtein(field, &name));
        let near = near.filter(|field| strsim::damerau_levenshtein(field, &name) <= 2);
        let hint = near.map_or_else(String::new, |near| format!(" did you mean {near}?"));
        Slip(format!("there is no field `{name}`;{hint} there are {}", fields.join(", ")))
    })
}

/// A number with a unit. Times are in seconds or milliseconds as fields have them: `ms` is the number itself, and `s` a thousand of them.
fn amount(text: &str) -> Option<f64> {
    let (number, factor) = match text {
        text if text.ends_with("ms") => (&text[..text.len() - 2], 1.0),
        text if text.ends_with('k') => (&text[..text.len() - 1], 1e3),
        text if text.ends_with('m') => (&text[..text.len() - 1], 1e6),
        text if text.ends_with('g') => (&text[..text.len() - 1], 1e9),
        text if text.ends_with('s') => (&text[..text.len() - 1], 1e3),
        text if text.ends_with('%') => (&text[..text.len() - 1], 1.0),
        text => (text, 1.0),
    };
    number.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number * factor)
}

/// Which rows, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By this field.
    pub field: usize,
    /// The most first.
    pub is_descending: bool,
}

/// The rows that pass, in order. Where none is asked for, those that pass best come first.
#[must_use]
pub fn arrange(rows: &dyn Rows, filter: &Filter, sort: Option<Sort>) -> Vec<u32> {
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let mut fuzzy = FuzzyMatcher::new();
    let scored = (0..count)
        .filter_map(|row| filter.score(rows, row as usize, &mut fuzzy).map(|score| (Reverse(score), row)));
    let Some(sort) = sort else {
        let mut scored: Vec<(Reverse<usize>, u32)> = scored.collect();
        if filter.ranks() {
            scored.sort_by_key(|(score, _)| *score);
        }
        return scored.into_iter().map(|(_, row)| row).collect();
    };
    let passing = scored.map(|(_, row)| row);
    let mut keyed: Vec<(Key, u32)> =
        passing.map(|row| (key(&rows.value(row as usize, sort.field)), row)).collect();
    // Rows of equal keys stay in the order in which they are; what is missing is last either way.
    keyed.sort_by(|(a, _), (b, _)| match (a, b) {
        (Key::Missing, Key::Missing) => std::cmp::Ordering::Equal,
        (Key::Missing, _) => std::cmp::Ordering::Greater,
        (_, Key::Missing) => std::cmp::Ordering::Less,
        _ if sort.is_descending => b.compare(a),
        _ => a.compare(b),
    });
    keyed.into_iter().map(|(_, row)| row).collect()
}

#[derive(Debug)]
enum Key {
    Number(f64),
    Text(String),
    Missing,
}

impl Key {
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), _) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        }
    }
}

fn key(value: &Value<'_>) -> Key {
    match value {
        Value::None => Key::Missing,
        Value::Number(number, _) => Key::Number(*number),
        Value::Text(text) => Key::Text(text.to_lowercase()),
        Value::State(state, word) => Key::Text(format!("{}{word}", *state as u8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::{Field, Unit};
    use crate::model::State;

    struct Three;

    const FIELDS: &[Field] = &[
        Field::text("name", "NAME", 10, ""),
        Field::number("occupancy", "OCC", 5, ""),
        Field::text("state", "STATE", 8, ""),
        Field::number("lag", "LAG", 5, ""),
    ];

    impl Rows for Three {
        fn fields(&self) -> &'static [Field] {
            FIELDS
        }

        fn len(&self) -> usize {
            3
        }

        fn value(&self, row: usize, field: usize) -> Value<'_> {
            match field {
                0 => Value::Text(["Eu-1", "us-1 two words", "ÄP-1"][row].into()),
                1 => [Value::Number(85.0, Unit::Percent), Value::Number(20.0, Unit::Percent), Value::None]
                    [row]
                    .clone(),
                2 => Value::State(State::Good, ["healthy", "draining", "healthy"][row].into()),
                _ => Value::Number([1.0, 1500.0, 30.0][row], Unit::Millis),
            }
        }
    }

    fn rows(filter: &str, sort: Option<(usize, bool)>) -> Vec<u32> {
        let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        let filter = Filter::parse(filter, &names).unwrap();
        arrange(&Three, &filter, sort.map(|(field, is_descending)| Sort { field, is_descending }))
    }

    #[test]
    fn terms_all_have_to_hold() {
        assert_eq!(rows("", None), [0, 1, 2]);
        assert_eq!(rows("eu", None), [0]);
        assert_eq!(rows("name=eu occ>80", None), [0]);
        assert_eq!(rows("name=us occ>80", None), [0; 0]);
        assert_eq!(rows("!draining", None), [0, 2]);
        assert_eq!(rows("state!=draining", None), [0, 2]);
        assert_eq!(rows("occ<=20%", None), [1]);
        assert_eq!(rows("lag>=1.5s", None), [1]);
        assert_eq!(rows("lag<31ms lag>2", None), [2]);
        assert_eq!(rows("\"two words\"", None), [1]);
        assert_eq!(rows("name~u", None), [1]);
        assert_eq!(rows("äp", None), [2]);
    }

    #[test]
    fn regular_expressions_are_looked_for_in_a_field_or_in_every_text() {
        assert_eq!(rows("name=~^(eu|us)-1", None), [0, 1]);
        assert_eq!(rows("name!~^(eu|us)-1", None), [2]);
        assert_eq!(rows("!name=~^eu", None), [1, 2]);
        assert_eq!(rows("=~^health", None), [0, 2]);
        assert_eq!(rows("!~^health", None), [1]);
        assert_eq!(rows("!=~^health", None), [1]);
        assert_eq!(rows("name=~\"two w.rds$\" occ<50", None), [1]);
        assert_eq!(rows("name=~^äp", None), [2]);
        assert_eq!(rows("name=~(?-i)^eu", None), [0; 0]);
        assert_eq!(rows("occ=~^8", None), [0]);
        // As ever.
        assert_eq!(rows("name~eu", None), [0]);
        assert_eq!(rows("name=e.", None), [0; 0]);
    }

    #[test]
    fn letters_in_their_order_are_enough_for_a_fuzzy_word_and_the_best_come_first() {
        assert_eq!(rows("-f ut", None), [1]);
        assert_eq!(rows("-f h1", None), [0; 0]);
        assert_eq!(rows("-f \"t w\"", None), [1]);
        assert_eq!(rows("!-f ut", None), [0, 2]);
        assert_eq!(rows("-f ut occ>50", None), [0; 0]);
        assert_eq!(rows("-f s1", None), [1]);
        assert_eq!(rows("-f ea", None), [0, 2]);
        assert_eq!(rows("-f 1", None).len(), 3);
        assert_eq!(rows("-f i", Some((0, true))), [1]);
        assert_eq!(rows("-f", None), [0; 0], "without a word behind it, it is a word");
    }

    #[test]
    fn what_fits_better_comes_first_unless_an_order_is_asked_for() {
        struct Names;
        impl Rows for Names {
            fn fields(&self) -> &'static [Field] {
                FIELDS
            }
            fn len(&self) -> usize {
                3
            }
            fn value(&self, row: usize, field: usize) -> Value<'_> {
                match field {
                    0 => Value::text(["r-o-a-d", "broad", "roadmap"][row]),
                    _ => Value::None,
                }
            }
        }
        let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        let filter = Filter::parse("-f road", &names).unwrap();
        assert_eq!(arrange(&Names, &filter, None)[0], 2);
        assert_eq!(arrange(&Names, &filter, Some(Sort { field: 0, is_descending: false })), [1, 0, 2]);
    }

    #[test]
    fn a_pattern_that_is_none_is_told_with_its_place_and_one_too_large_is_refused() {
        let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        let slip = |text: &str| Filter::parse(text, &names).unwrap_err().0;
        assert_eq!(slip("name=~äb(c"), "`äb(c` is no regular expression: unclosed group at letter 3");
        assert!(
            slip("=~*").contains("repetition operator missing expression at letter 1"),
            "{}",
            slip("=~*")
        );
        assert!(slip("name!~\\p{Nosuch}").contains("at letter 1"), "{}", slip("name!~\\p{Nosuch}"));
        assert!(slip("=~(\\w{500}){500}").contains("too large"));
        assert!(slip("nosuch=~x").contains("no field"));
    }

    #[test]
    fn rows_are_sorted_with_what_is_missing_last() {
        assert_eq!(rows("", Some((1, true))), [0, 1, 2]);
        assert_eq!(rows("", Some((1, false))), [1, 0, 2]);
        assert_eq!(rows("", Some((0, true))), [2, 1, 0]);
    }

    #[test]
    fn slips_are_told_with_what_there_is() {
        let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        let slip = |text: &str| Filter::parse(text, &names).unwrap_err().0;
        assert!(slip("nmae=x").contains("did you mean name?"));
        assert!(slip("zzzzzz=x").contains("there are name, occupancy"));
        assert!(slip("occ>many").contains("no number"));
        assert!(slip("=x").contains("no field"));
    }

    #[test]
    fn no_text_makes_it_panic() {
        let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        for text in [
            "!",
            "!!",
            "=",
            "a!",
            "\"",
            "\"a",
            "occ>",
            "ä~ö",
            "name~ÄÄÄÄ",
            "occ>1e999",
            "<>",
            "name=",
            "% k",
            "lag>ms",
            "=~",
            "!~",
            "name=~",
            "name!~[",
            "=~(?x",
            "=~\\",
            "-f",
            "!-f",
            "-f \"\"",
            "-f -f -f",
            "-f 💥",
        ] {
            if let Ok(filter) = Filter::parse(text, &names) {
                let _ = arrange(&Three, &filter, None);
            }
        }
    }
}
