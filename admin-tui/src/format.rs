//! Numbers, times and bytes for people, in few characters.

use time::OffsetDateTime;

use crate::model::Millis;

/// A count or a rate: `0.4`, `12`, `3.4k`, `1.2M`.
#[must_use]
pub fn number(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T"])
}

/// Bytes: `512 B`, `1.4 MiB`.
#[must_use]
pub fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value, 0);
    while value.abs() >= step * 0.9995 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let is_whole = unit == 0 && (value.fract().abs() < 0.05 || value.abs() >= 100.0);
    let digits = usize::from(!(is_whole || value.abs() >= 99.95 || value == 0.0));
    format!("{value:.digits$}{}", units[unit])
}

/// Milliseconds: `0.4ms`, `12ms`, `1.5s`.
#[must_use]
pub fn milliseconds(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{:.1}s", value / 1000.0),
        value if value >= 10.0 => format!("{value:.0}ms"),
        value if value >= 0.1 || value == 0.0 => format!("{value:.1}ms"),
        value => format!("{:.0}µs", value * 1000.0),
    }
}

/// Seconds, however short.
#[must_use]
pub fn seconds(value: f64) -> String {
    milliseconds(value * 1000.0)
}

/// A share of 1: `85 %`.
#[must_use]
pub fn share(value: f64) -> String {
    format!("{:.0} %", value * 100.0)
}

/// How long ago: `4 s`, `12 min`, `3 h`, `5 d`.
#[must_use]
pub fn age(millis: Millis) -> String {
    match millis / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// The time of day, UTC: `14:03:09`.
#[must_use]
pub fn clock(at: Millis) -> String {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(at / 1000).unwrap_or(0));
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
}

/// The day and time, UTC: `2026-01-31T14:03:09Z`.
#[must_use]
pub fn date(at: Millis) -> String {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(at / 1000).unwrap_or(0));
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{}T{}Z", time.date(), clock(at))
}

/// What others wrote, without what would move a terminal's cursor, change its colours, or have letters read in another order.
#[must_use]
pub fn tame(text: &str) -> String {
    let turns = |letter| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|letter| if letter.is_control() || turns(letter) { '\u{fffd}' } else { letter })
        .collect()
}

/// A text in so many columns at most: its beginning and its end, with `…` for what is left out between them.
#[must_use]
pub fn middle(text: &str, columns: usize) -> String {
    use ratatui::text::Span;
    let wide = |text: &str| Span::raw(text).width();
    if wide(text) <= columns || columns < 3 {
        return text.to_owned();
    }
    let (head, tail) = ((columns - 1) / 3, columns - 1 - (columns - 1) / 3);
    let take = |letters: &mut dyn Iterator<Item = char>, columns: usize| -> Vec<char> {
        let mut taken = 0;
        letters
            .take_while(|letter| {
                taken += wide(letter.encode_utf8(&mut [0; 4]));
                taken <= columns
            })
            .collect()
    };
    let start: String = take(&mut text.chars(), head).into_iter().collect();
    let end: String = take(&mut text.chars().rev(), tail).into_iter().rev().collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> = [0.0, 0.42, 7.0, 999.0, 1234.0, 99_960.0, 1_500_000.0].map(number).into();
        assert_eq!(shown, ["0", "0.4", "7", "999", "1.2k", "100k", "1.5M"]);
        assert_eq!(bytes(1_468_006.4), "1.4 MiB");
        let shown: Vec<String> = [0.0, 0.042, 0.42, 12.3, 1500.0].map(milliseconds).into();
        assert_eq!(shown, ["0.0ms", "42µs", "0.4ms", "12ms", "1.5s"]);
        assert_eq!([5_000, 300_000, 7_300_000, 999_999_999].map(age), ["5 s", "5 min", "2 h", "11 d"]);
        assert_eq!(date(1_767_225_600_000), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn what_others_wrote_is_read_as_it_stands() {
        assert_eq!(tame("a\u{1b}[31mb\u{202e}gnp.exe"), "a\u{fffd}[31mb\u{fffd}gnp.exe");
        assert_eq!(tame("日本語 שלום"), "日本語 שלום");
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(middle("eu-central-1/node-0017", 12), "eu-…ode-0017");
        assert_eq!(middle("short", 12), "short");
        assert_eq!(middle("日本語の長い名前", 9), "日…い名前");
        for columns in 3..30 {
            let text = middle("eu-central-1/日本語-node-0017", columns);
            assert!(ratatui::text::Span::raw(text.as_str()).width() <= columns, "{columns} {text}");
        }
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(tame("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
