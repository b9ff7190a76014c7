//! Where clients went in the last minute: of each region a bar of those that were served, carried to another region, redirected and
//! turned away; and below it the same of each node.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{Hits, heading, put, table};
use crate::app::App;
use crate::format;
use crate::list::List;
use crate::model::{Flown, Millis, State, flown};
use crate::theme::{Graphics, Theme};

/// Columns of a name to the left.
const NAME: u16 = 16;

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    let (regions, all) = flown(&app.model);
    let rows = u16::try_from(regions.len()).unwrap_or(u16::MAX).saturating_mul(2).saturating_add(3);
    let [top, bottom] =
        Layout::vertical([Constraint::Length(rows.min(area.height / 2)), Constraint::Fill(1)]).areas(area);
    let span = match all.over {
        0 => "so far".to_owned(),
        1..59_500 => format!("in {} s", all.over / 1000),
        _ => "in the last minute".to_owned(),
    };
    let text = format!(
        "{span}: {} dialled, {} served, {} sent on, {} turned away",
        format::number(all.dialled as f64),
        format::number(all.served as f64),
        format::number(all.redirected as f64),
        format::number(all.refused as f64)
    );
    let picture = heading(app, &text, top, buffer);
    legend(app.options.theme, picture, buffer);
    let picture = Rect { y: picture.y + 1, height: picture.height.saturating_sub(1), ..picture };
    if regions.is_empty() && picture.height > 0 {
        let text = "No node that is reached tells what became of its clients.";
        put(picture, 0, Line::styled(text, app.options.theme.dim()), buffer);
    }
    for (at, (name, flown)) in regions.iter().enumerate() {
        let row = u16::try_from(at * 2).unwrap_or(u16::MAX);
        if row + 1 < picture.height {
            let line = Rect { y: picture.y + row, height: 2, ..picture };
            region(app, name, flown, line, buffer);
        }
    }
    table::rows(app, List::Flow, bottom, buffer, now)
}

/// A bar, and below it the same in words with what is carried and why somebody was turned away.
fn region(app: &App, name: &str, flown: &Flown, area: Rect, buffer: &mut Buffer) {
    let theme = app.options.theme;
    table::cell(buffer, area.x, area.y, NAME - 1, &format::tame(name), Style::new(), false);
    let line = Rect { x: area.x + NAME, width: area.width.saturating_sub(NAME), height: 1, ..area };
    match flown.shares() {
        Some(shares) => bar(theme, &shares, line, buffer),
        None => put(line, 0, Line::styled("nobody dialled", theme.dim()), buffer),
    }
    if flown.dialled + flown.carried_out + flown.carried_in == 0 {
        return;
    }
    let rate = |count: u64| format::number(flown.rate(count));
    let mut text = format!(
        "{}/s dialled: {} served, {} sent on, {} turned away",
        rate(flown.dialled),
        rate(flown.served),
        rate(flown.redirected),
        rate(flown.refused)
    );
    if flown.carried_out + flown.carried_in > 0 {
        text.push_str(&format!("; {} carried out, {} in", flown.carried_out, flown.carried_in));
    }
    let mut spans = vec![Span::styled(text, theme.dim())];
    if flown.refused > 0 {
        let why = format!("  {} {}", theme.glyph(State::Doubtful), flown.why(3));
        spans.push(Span::styled(why, theme.state(State::Doubtful)));
    }
    put(Rect { y: area.y + 1, ..line }, 0, Line::from(spans), buffer);
}

/// The four parts, with their letters and signs.
const PARTS: [(&str, char, [char; 2]); 4] = [
    ("served", 'S', ['█', '#']),
    ("carried", 'C', ['▓', '=']),
    ("redirected", 'R', ['▒', '-']),
    ("refused", 'X', ['░', '.']),
];

fn look(theme: Theme, part: usize) -> (char, Style) {
    let (_, _, signs) = PARTS[part % PARTS.len()];
    let state = [State::Good, State::Unknown, State::Leaving, State::Bad][part % PARTS.len()];
    (signs[usize::from(theme.graphics == Graphics::Ascii)], theme.state(state))
}

fn legend(theme: Theme, area: Rect, buffer: &mut Buffer) {
    let spans = PARTS.iter().enumerate().flat_map(|(part, (name, letter, _))| {
        let (sign, style) = look(theme, part);
        [Span::styled(format!("{sign}{letter}{sign}"), style), Span::raw(format!(" {name}  "))]
    });
    put(area, 0, Line::from(spans.collect::<Vec<_>>()), buffer);
}

/// One line in which each part that there is has a cell at least, and its letter where there is room.
pub(super) fn bar(theme: Theme, shares: &[f64; 4], area: Rect, buffer: &mut Buffer) {
    let mut x = area.x;
    for (part, width) in widths(shares, area.width).into_iter().enumerate() {
        let (sign, style) = look(theme, part);
        buffer.set_string(x, area.y, sign.to_string().repeat(usize::from(width)), style);
        if width >= 3 {
            buffer.set_string(x + width / 2, area.y, PARTS[part].1.to_string(), style);
        }
        x += width;
    }
}

/// Columns of each part: all of them together, and of what there is one at least.
fn widths(shares: &[f64; 4], width: u16) -> [u16; 4] {
    let least = shares.map(|share| u16::from(share > 0.0));
    let left = width.saturating_sub(least.iter().sum());
    let mut widths = [0; 4];
    let (mut done, mut given) = (0.0, 0);
    for (part, share) in shares.iter().enumerate() {
        done += share;
        let until = (done.clamp(0.0, 1.0) * f64::from(left)).round() as u16;
        widths[part] = (least[part] + until.saturating_sub(given)).min(width);
        given = until;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_the_line_and_what_is_rare_is_seen() {
        for width in 4..200 {
            for shares in
                [[1.0, 0.0, 0.0, 0.0], [0.25; 4], [0.997, 0.001, 0.001, 0.001], [0.0, 0.0, 0.3, 0.7]]
            {
                let widths = widths(&shares, width);
                assert_eq!(widths.iter().sum::<u16>(), width, "{shares:?}");
                assert!(widths.iter().zip(shares).all(|(width, share)| (*width > 0) == (share > 0.0)));
            }
        }
    }
}
