//! The language of filters: `region=eu occ>80 !draining notes`.
//!
//! Terms stand beside each other, and all have to hold. A bare word is looked for in every text of a row. `field=word` holds
//! where the field contains the word, `field!=word` where it does not, `field~word` where it begins with it; `<`, `<=`, `>`, `>=`
//! compare numbers, which may end in `k`, `M`, `G`, `%`, `ms` or `s`. `!` before a term turns it round. Words with spaces are put in
//! quotation marks. Case does not matter.

use std::fmt;

use crate::list::{Rows, Value};

/// A filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    is_negative: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Word(String),
    Field { field: usize, test: Test },
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Contains(String),
    Begins(String),
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
    /// A field that there is none of, or a number that is none.
    pub fn parse(text: &str, fields: &[&str]) -> Result<Self, Slip> {
        let terms = words(text).into_iter().map(|word| term(&word, fields));
        Ok(Self { terms: terms.collect::<Result<_, _>>()? })
    }

    /// All rows pass.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a row passes.
    #[must_use]
    pub fn passes(&self, rows: &dyn Rows, row: usize) -> bool {
        self.terms.iter().all(|term| term.holds(rows, row) != term.is_negative)
    }
}

impl Term {
    fn holds(&self, rows: &dyn Rows, row: usize) -> bool {
        match &self.what {
            What::Word(word) => (0..rows.fields().len()).any(|field| match rows.value(row, field) {
                Value::Text(text) | Value::State(_, text) => contains(&text, word),
                _ => false,
            }),
            What::Field { field, test } => match (test, rows.value(row, *field)) {
                (Test::Contains(word), Value::Text(text) | Value::State(_, text)) => contains(&text, word),
                (Test::Begins(word), Value::Text(text) | Value::State(_, text)) => {
                    text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
                }
                (Test::Compare(comparison, than), Value::Number(number, _)) => {
                    comparison.holds(number, *than)
                }
                (Test::Contains(word), Value::Number(number, unit)) => {
                    amount(word).is_some_and(|than| (number - than).abs() < 1e-9)
                        || contains(&unit.show(number), word)
                }
                _ => false,
            },
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

fn term(word: &str, fields: &[&str]) -> Result<Term, Slip> {
    let (mut is_negative, word) = match word.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let Some(at) = word.find(['=', '!', '<', '>', '~']) else {
        return Ok(Term { is_negative, what: What::Word(word.to_lowercase()) });
    };
    let (name, rest) = word.split_at(at);
    let operators = ["!=", "<=", ">=", "=", "<", ">", "~"];
    let Some(operator) = operators.iter().find(|operator| rest.starts_with(**operator)) else {
        return Ok(Term { is_negative, what: What::Word(word.to_lowercase()) });
    };
    let value = rest[operator.len()..].to_lowercase();
    let field = find(name, fields)?;
    let number = |comparison| {
        let than = amount(&value).ok_or_else(|| {
            Slip(format!("`{value}` is no number; write {name}{operator}80, or 1.5k, 20ms"))
        })?;
        Ok(Test::Compare(comparison, than))
    };
    let test = match *operator {
        "=" => Test::Contains(value),
        "!=" => {
            is_negative = !is_negative;
            Test::Contains(value)
        }
        "~" => Test::Begins(value),
        "<" => number(Comparison::Less)?,
        "<=" => number(Comparison::AtMost)?,
        ">" => number(Comparison::More)?,
        _ => number(Comparison::AtLeast)?,
    };
    Ok(Term { is_negative, what: What::Field { field, test } })
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

/// The rows that pass, in order.
#[must_use]
pub fn arrange(rows: &dyn Rows, filter: &Filter, sort: Option<Sort>) -> Vec<u32> {
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let passing = (0..count).filter(|row| filter.is_empty() || filter.passes(rows, *row as usize));
    let Some(sort) = sort else { return passing.collect() };
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
        ] {
            if let Ok(filter) = Filter::parse(text, &names) {
                let _ = arrange(&Three, &filter, None);
            }
        }
    }
}
