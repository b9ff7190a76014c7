//! Values of keys: how they are read from TOML, from variables and flags, and how they are shown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::cluster::without_password;
use super::draft::{Draft, RegionKeys};
use super::keys::Field;

/// What is wrong with a value, and its mend.
type Wrong = String;

impl Field {
    /// Takes a value from a file, whose directory relative paths begin at.
    pub(super) fn set(&self, draft: &mut Draft, value: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        match (self, value) {
            (Self::Switch(get), DeValue::Boolean(on)) => *get(draft) = *on,
            (Self::Count(get, range), DeValue::Integer(_)) => *get(draft) = within(integer(value)?, range)?,
            (Self::Entries(get, range), DeValue::Integer(_)) => *get(draft) = within(integer(value)?, range)?,
            (Self::Bytes(get, range), DeValue::Integer(_)) => {
                *get(draft) = within_sizes(integer(value)?, range)?;
            }
            (Self::Texts(get), DeValue::Array(_)) => *get(draft) = texts(value)?,
            (Self::Files(get), DeValue::Array(_)) => {
                *get(draft) = texts(value)?.iter().map(|path| join(base, path)).collect();
            }
            (Self::Addresses(get), DeValue::Table(table)) => {
                *get(draft) = table.iter().map(|entry| address(entry, base)).collect::<Result<_, _>>()?;
            }
            (Self::Regions(get), DeValue::Array(array)) => {
                *get(draft) = array.iter().map(|item| region(item.get_ref())).collect::<Result<_, _>>()?;
            }
            (
                Self::Bytes(..)
                | Self::Time(..)
                | Self::Text(_)
                | Self::File(_)
                | Self::Choice(..)
                | Self::Address(_),
                DeValue::String(text),
            ) => {
                return self.set_text(draft, text, base);
            }
            _ => return Err(format!("{} was expected, not {}", self.expected(), kind(value))),
        }
        Ok(())
    }

    /// Takes a value from a variable or a flag. Lists are separated by commas.
    pub(super) fn set_text(&self, draft: &mut Draft, text: &str, base: &Path) -> Result<(), Wrong> {
        let list = || -> Vec<String> {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let wrong = || format!("{} was expected, not `{text}`", self.expected());
        match self {
            Self::Switch(get) => *get(draft) = text.parse().map_err(|_| wrong())?,
            Self::Count(get, range) => {
                *get(draft) = within(parse_integer(text, 10).ok_or_else(wrong)?, range)?;
            }
            Self::Entries(get, range) => {
                *get(draft) = within(parse_integer(text, 10).ok_or_else(wrong)?, range)?;
            }
            Self::Bytes(get, range) => {
                *get(draft) = within_sizes(parse_bytes(text).ok_or_else(wrong)?, range)?;
            }
            Self::Time(get, range) => {
                let time = parse_time(text).ok_or_else(wrong)?;
                if !range.contains(&time) {
                    return Err(out_of(range, show_time));
                }
                *get(draft) = time;
            }
            Self::Text(get) => text.clone_into(get(draft)),
            Self::Address(get) => *get(draft) = with_files(base, text),
            Self::Addresses(get) => *get(draft) = addresses_of(text, base)?,
            Self::Regions(get) => *get(draft) = regions_of(text)?,
            Self::File(get) => *get(draft) = join(base, text),
            Self::Texts(get) => *get(draft) = list(),
            Self::Files(get) => *get(draft) = list().iter().map(|path| join(base, path)).collect(),
            Self::Choice(get, choices) => {
                if !choices.contains(&text) {
                    return Err(wrong());
                }
                text.clone_into(get(draft));
            }
        }
        Ok(())
    }

    /// Takes the value over from another draft.
    pub(super) fn copy(&self, from: &Draft, to: &mut Draft) {
        let from = &mut from.clone();
        match self {
            Self::Switch(get) => *get(to) = *get(from),
            Self::Count(get, _) => *get(to) = *get(from),
            Self::Entries(get, _) | Self::Bytes(get, _) => *get(to) = *get(from),
            Self::Time(get, _) => *get(to) = *get(from),
            Self::Text(get) | Self::File(get) | Self::Choice(get, _) | Self::Address(get) => {
                get(from).clone_into(get(to));
            }
            Self::Addresses(get) => get(from).clone_into(get(to)),
            Self::Regions(get) => get(from).clone_into(get(to)),
            Self::Texts(get) | Self::Files(get) => get(from).clone_into(get(to)),
        }
    }

    /// Whether two drafts have another value, be it one that is not shown.
    pub(super) fn differs(&self, one: &Draft, other: &Draft) -> bool {
        let (one_too, other_too) = (&mut one.clone(), &mut other.clone());
        match self {
            Self::Address(get) => get(one_too) != get(other_too),
            Self::Addresses(get) => get(one_too) != get(other_too),
            _ => self.show(one) != self.show(other),
        }
    }

    /// The value as TOML, without passwords.
    pub(super) fn show(&self, draft: &Draft) -> String {
        // The accessors lend mutably; a copy is cheap here.
        let draft = &mut draft.clone();
        match self {
            Self::Switch(get) => get(draft).to_string(),
            Self::Count(get, _) => get(draft).to_string(),
            Self::Entries(get, _) => get(draft).to_string(),
            Self::Bytes(get, _) => match *get(draft) {
                0 => "0".to_owned(),
                bytes => quoted(&show_bytes(&bytes)),
            },
            Self::Time(get, _) => quoted(&show_time(get(draft))),
            Self::Text(get) | Self::File(get) | Self::Choice(get, _) => quoted(get(draft)),
            Self::Address(get) => quoted(&without_password(get(draft))),
            Self::Addresses(get) => {
                let all: Vec<String> = get(draft)
                    .iter()
                    .map(|(name, url)| format!("{} = {}", quoted(name), quoted(&without_password(url))))
                    .collect();
                if all.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", all.join(", ")) }
            }
            Self::Regions(get) => {
                format!("[{}]", get(draft).iter().map(show_region).collect::<Vec<_>>().join(", "))
            }
            Self::Texts(get) | Self::Files(get) => {
                let items: Vec<String> = get(draft).iter().map(|item| quoted(item)).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }

    /// What the key takes, in words.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Switch(_) => "true or false".to_owned(),
            Self::Count(..) | Self::Entries(..) => "a whole number".to_owned(),
            Self::Bytes(..) => "a number of bytes, as in 65536 or \"64KiB\",".to_owned(),
            Self::Time(..) => "a length of time, as in \"250ms\", \"10s\" or \"5m\",".to_owned(),
            Self::Text(_) => "a text".to_owned(),
            Self::File(_) => "a path".to_owned(),
            Self::Texts(_) => "a list of texts".to_owned(),
            Self::Files(_) => "a list of paths".to_owned(),
            Self::Address(_) => "an address, as in \"redis://HOST:6379\",".to_owned(),
            Self::Addresses(_) => {
                "a table of addresses, as in { \"aws-eu-west-1\" = \"redis://HOST:6379\" },".to_owned()
            }
            Self::Regions(_) => "a table [[regions]] for each region".to_owned(),
            Self::Choice(_, choices) => format!("one of {}", choices.join(", ")),
        }
    }
}

fn address(
    (name, url): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>),
    base: &Path,
) -> Result<(String, String), Wrong> {
    match url.get_ref() {
        DeValue::String(url) => Ok((name.get_ref().to_string(), with_files(base, url))),
        other => Err(format!("{}: an address was expected, not {}", name.get_ref(), kind(other))),
    }
}

/// A URL whose `ca=FILE` and the like are, as all paths in a file, relative to the file.
fn with_files(base: &Path, url: &str) -> String {
    let Some((address, query)) = url.split_once('?') else { return url.to_owned() };
    let part = |part: &str| match part.split_once('=') {
        Some((name, file)) if name == "ca" || name.ends_with("_file") => {
            format!("{name}={}", join(base, file))
        }
        _ => part.to_owned(),
    };
    format!("{address}?{}", query.split('&').map(part).collect::<Vec<_>>().join("&"))
}

fn region(value: &DeValue<'_>) -> Result<RegionKeys, Wrong> {
    let DeValue::Table(table) = value else {
        return Err(format!("a table [[regions]] for each region was expected; it holds {}", kind(value)));
    };
    let mut region = RegionKeys { status: "live".to_owned(), ..RegionKeys::default() };
    for (name, value) in table {
        let DeValue::String(text) = value.get_ref() else {
            return Err(format!("{}: a text was expected, not {}", name.get_ref(), kind(value.get_ref())));
        };
        set_of_region(&mut region, name.get_ref(), text)?;
    }
    Ok(region)
}

fn set_of_region(region: &mut RegionKeys, name: &str, text: &str) -> Result<(), Wrong> {
    let field = match name {
        "name" => &mut region.name,
        "url" => &mut region.url,
        "status" => &mut region.status,
        "area" => &mut region.area,
        _ => return Err(format!("a region has name, url, status and area, and no {name}")),
    };
    text.clone_into(field);
    Ok(())
}

/// `NAME=VALUE`, and so on.
fn pairs(text: &str, between: char) -> impl Iterator<Item = Result<(&str, &str), Wrong>> {
    let whole = text.split(between).map(str::trim).filter(|pair| !pair.is_empty());
    whole.map(|pair| {
        let (name, value) = pair.split_once('=').ok_or("has a part without `=`; write NAME=VALUE")?;
        Ok((name.trim(), value.trim()))
    })
}

/// Addresses in a variable: `CODE=URL;CODE=URL`.
fn addresses_of(text: &str, base: &Path) -> Result<BTreeMap<String, String>, Wrong> {
    let one =
        |pair: Result<(&str, &str), Wrong>| pair.map(|(name, url)| (name.to_owned(), with_files(base, url)));
    pairs(text, ';').map(one).collect()
}

/// Regions in a variable: `name=…,url=…;name=…`.
fn regions_of(text: &str) -> Result<Vec<RegionKeys>, Wrong> {
    let one = |text: &str| {
        let mut region = RegionKeys { status: "live".to_owned(), ..RegionKeys::default() };
        for pair in pairs(text, ',') {
            let (name, value) = pair?;
            set_of_region(&mut region, name, value)?;
        }
        Ok(region)
    };
    text.split(';').filter(|text| !text.trim().is_empty()).map(one).collect()
}

fn show_region(region: &RegionKeys) -> String {
    let RegionKeys { name, url, status, area, place: _ } = region;
    let mut fields = vec![
        format!("name = {}", quoted(name)),
        format!("url = {}", quoted(url)),
        format!("status = {}", quoted(status)),
    ];
    if !area.is_empty() {
        fields.push(format!("area = {}", quoted(area)));
    }
    format!("{{ {} }}", fields.join(", "))
}

fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{text}\""),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn integer(value: &DeValue<'_>) -> Result<i128, Wrong> {
    let number = value.as_integer();
    number
        .and_then(|number| parse_integer(number.as_str(), number.radix()))
        .ok_or_else(|| "is no whole number".to_owned())
}

fn parse_integer(text: &str, radix: u32) -> Option<i128> {
    i128::from_str_radix(&text.trim().replace('_', ""), radix).ok()
}

fn texts(value: &DeValue<'_>) -> Result<Vec<String>, Wrong> {
    let items = value.as_array().into_iter().flatten();
    items
        .map(|item| match item.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            other => Err(format!("a list of texts was expected; it holds {}", kind(other))),
        })
        .collect()
}

fn within<N>(number: i128, range: &RangeInclusive<N>) -> Result<N, Wrong>
where
    N: TryFrom<i128> + PartialOrd + Display,
{
    let fits = N::try_from(number).ok().filter(|number| range.contains(number));
    fits.ok_or_else(|| out_of(range, ToString::to_string))
}

fn within_sizes(number: i128, range: &RangeInclusive<usize>) -> Result<usize, Wrong> {
    let fits = usize::try_from(number).ok().filter(|number| range.contains(number));
    fits.ok_or_else(|| out_of(range, show_bytes))
}

fn out_of<N>(range: &RangeInclusive<N>, show: impl Fn(&N) -> String) -> Wrong {
    format!("has to lie between {} and {}", show(range.start()), show(range.end()))
}

/// A path in a file is relative to the file.
fn join(base: &Path, path: &str) -> String {
    if path.is_empty() { String::new() } else { base.join(path).to_string_lossy().into_owned() }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

const SIZES: [(&str, i128); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

fn parse_bytes(text: &str) -> Option<i128> {
    let text = text.trim();
    for (unit, bytes) in SIZES {
        if let Some(number) = text.strip_suffix(unit) {
            return parse_integer(number, 10)?.checked_mul(bytes);
        }
    }
    parse_integer(text.strip_suffix('B').unwrap_or(text), 10)
}

fn show_bytes(bytes: &usize) -> String {
    let fitting = SIZES.iter().find(|(_, size)| *bytes != 0 && (*bytes as i128) % size == 0);
    match fitting {
        Some((unit, size)) => format!("{}{unit}", *bytes as i128 / size),
        None => format!("{bytes}B"),
    }
}

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

fn parse_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '_')?;
    let (number, unit) = text.split_at(split);
    let (_, millis) = TIMES.iter().find(|(name, _)| *name == unit.trim())?;
    let number = u64::try_from(parse_integer(number, 10)?).ok()?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

fn show_time(time: &Duration) -> String {
    let millis = time.as_millis();
    let fitting =
        TIMES.iter().rev().find(|(_, unit)| millis != 0 && millis.is_multiple_of(u128::from(*unit)));
    let (unit, length) = fitting.copied().unwrap_or(("s", 1_000));
    format!("{}{unit}", millis / u128::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_shown() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            let time = Duration::from_millis(millis);
            assert_eq!((parse_time(text), show_time(&time).as_str()), (Some(time), text));
        }
        for wrong in ["", "10", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999999d"] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_as_they_are_shown() {
        for (text, bytes) in
            [("1B", 1), ("1KiB", 1024), ("1025B", 1025), ("16MiB", 16 << 20), ("3GiB", 3 << 30)]
        {
            assert_eq!((parse_bytes(text), show_bytes(&bytes).as_str()), (Some(bytes as i128), text));
        }
        assert_eq!(parse_bytes("65_536"), Some(65_536));
        for wrong in ["", "KiB", "1.5MiB", "10MB", "many"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }
}
