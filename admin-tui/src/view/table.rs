//! A list as a table: only what is on the screen is worked out, and columns go as the screen gets narrow.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::node::wrapped;
use super::{Hits, heading, heat, put};
use crate::app::App;
use crate::format;
use crate::list::{Field, List, Unit, Value};
use crate::model::{Link, Millis, State, words};
use crate::theme::Theme;

/// Columns of a bar in a column of percentages.
const BAR: u16 = 8;

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    let Some(list) = app.list() else { return Hits::default() };
    let Some(text) = app.text(now).map(|text| format::tame(&text)) else {
        return rows(app, list, area, buffer, now);
    };
    let fields = list.fields();
    let room = columns(fields, area.width, GROWTH).into_iter().find(|(field, _)| fields[*field].grows);
    if Span::raw(&text).width() <= room.map_or(0, |(_, width)| usize::from(width)) {
        return rows(app, list, area, buffer, now);
    }
    let whole = wrapped(&text, area.width);
    let height = u16::try_from(whole.len() + 1).unwrap_or(u16::MAX).min(area.height / 2);
    let [top, bottom] = Layout::vertical([Constraint::Fill(1), Constraint::Length(height)]).areas(area);
    let hits = rows(app, list, top, buffer, now);
    let bottom = heading(app, "what is selected, in full", bottom, buffer);
    for (row, line) in (0..bottom.height).zip(whole) {
        put(bottom, row, Line::raw(line), buffer);
    }
    hits
}

/// Columns that a field in the middle may have beside its own.
const GROWTH: u16 = 48;
/// A picture of a row narrower than this says nothing.
const STRIP_MIN: u16 = 10;

/// The columns that there is room for, with their widths.
fn columns(fields: &'static [Field], width: u16, growth: u16) -> Vec<(usize, u16)> {
    let mut ranks: Vec<usize> =
        (0..fields.len()).filter(|field| fields[*field].rank != Field::HIDDEN).collect();
    ranks.sort_by_key(|field| (fields[*field].rank, *field));
    // Two: whether it is selected, and whether it is marked.
    let (mut used, mut chosen) = (2, Vec::new());
    for field in ranks {
        let needed = fields[field].width + 1;
        if used + needed > width && !chosen.is_empty() {
            break;
        }
        used += needed;
        chosen.push(field);
    }
    chosen.sort_unstable();
    let mut left = width.saturating_sub(used);
    let mut widths: Vec<(usize, u16)> = chosen.iter().map(|field| (*field, fields[*field].width)).collect();
    // Percentages have a bar where there is room, and the rest goes to what grows; never more than reads well.
    for (field, width) in &mut widths {
        if fields[*field].name == "occupancy" && left > 30 {
            *width += BAR + 1;
            left -= BAR + 1;
        }
    }
    let is_last = |field: usize| chosen.last() == Some(&field);
    if let Some((field, width)) = widths.iter_mut().find(|(field, _)| fields[*field].grows) {
        *width += if is_last(*field) { left } else { left.min(growth) };
    }
    widths
}

pub(super) fn rows(app: &App, list: List, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    let theme = app.options.theme;
    let rows = list.rows(&app.model, &app.screen.scope, now);
    let fields = list.fields();
    let columns = match list.strip() {
        // What the fields leave is the picture's, and of a wide screen a third at least.
        Some(_) => {
            let least = if area.width >= 120 { area.width / 3 } else { STRIP_MIN };
            columns(fields, area.width.saturating_sub(least + 1), 10)
        }
        None => columns(fields, area.width, GROWTH),
    };
    let used: u16 = columns.iter().map(|(_, width)| width + 1).sum::<u16>() + 2;
    let strip = list.strip().map(|title| (title, area.width.saturating_sub(used)));
    let strip = strip.filter(|(_, width)| *width >= STRIP_MIN);
    let pane = app.pane();
    let mut x = area.x + 2;
    for (field, width) in &columns {
        let is_sorted = pane.sort.is_some_and(|sort| sort.field == *field);
        let style = if is_sorted { theme.accent().add_modifier(Modifier::UNDERLINED) } else { theme.dim() };
        cell(buffer, x, area.y, *width, fields[*field].title, style, fields[*field].is_number);
        x += width + 1;
    }
    let strip = strip.map(|(title, width)| (title, area.right().saturating_sub(width), width));
    if let Some((title, x, width)) = strip {
        cell(buffer, x, area.y, width, title, theme.dim(), false);
    }
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let height = usize::from(body.height);
    let order = app.rows();
    if order.is_empty() {
        let text = nothing(app, list, rows.len());
        ratatui::widgets::Widget::render(
            ratatui::widgets::Paragraph::new(text)
                .style(theme.dim())
                .wrap(ratatui::widgets::Wrap { trim: true }),
            body,
            buffer,
        );
        return Hits { list: body, ..Hits::default() };
    }
    let marks = app.marks();
    let offset = scroll(pane.offset, pane.cursor, height, order.len());
    for (line, row) in order.iter().enumerate().skip(offset).take(height) {
        let y = body.y + u16::try_from(line - offset).unwrap_or(0);
        let row = *row as usize;
        let is_selected = line == pane.cursor;
        let base = if rows.is_stale(row) { theme.dim() } else { Style::new() };
        if is_selected {
            buffer.set_string(body.x, y, ">", theme.accent());
        }
        if marks.is_some_and(|marks| marks.has(rows.key(row))) {
            buffer.set_string(body.x + 1, y, "*", theme.accent());
        }
        let mut x = body.x + 2;
        for (field, width) in &columns {
            value(
                theme,
                buffer,
                (x, y, *width),
                &rows.value(row, *field),
                fields[*field],
                base,
                rows.is_stale(row),
            );
            x += width + 1;
        }
        if is_selected {
            // Not over the picture: it would say something else.
            let width = strip.map_or(body.right(), |(_, x, _)| x).saturating_sub(body.x + 1);
            buffer.set_style(Rect { x: body.x + 1, y, width, height: 1 }, theme.selected());
        }
        if let Some((_, x, width)) = strip
            && let Some(picture) = rows.strip(row, usize::from(width))
        {
            heat::strip(theme, &picture, Rect { x, y, width, height: 1 }, buffer);
        }
    }
    Hits { list: body, offset, cursor: None }
}

/// The first row, so that the cursor is on the screen.
pub(super) fn scroll(offset: usize, cursor: usize, height: usize, count: usize) -> usize {
    let most = count.saturating_sub(height);
    let least = (cursor + 1).saturating_sub(height);
    offset.clamp(least.min(cursor), cursor.max(least)).min(most).max(least.min(most))
}

/// Why a list is empty, and what helps.
fn nothing(app: &App, list: List, all: usize) -> String {
    if all > 0 {
        return format!(
            "Nothing passes the filter; {} clears it.",
            app.options.keys.key(crate::keys::Does::Back)
        );
    }
    let lost = app.model.nodes().find_map(|(_, node)| match &node.link {
        Link::Lost { why, .. } => Some(format!("{}: {why}", node.label())),
        _ => None,
    });
    let is_any_live = app.model.nodes().any(|(_, node)| node.is_live());
    if !is_any_live {
        return lost.map_or_else(|| "Connecting.".into(), |why| format!("No node is reached. {why}"));
    }
    match list {
        List::Pins if app.model.known().is_none() => "Asking which registries there are.".into(),
        List::Pins => "There are no pins: no document is open anywhere, or the nodes have no cluster.".into(),
        List::Logs => app.model.nodes().find_map(|(_, node)| node.lines_problem.clone()).map_or_else(
            || "No line yet.".into(),
            |why| format!("These nodes do not hand out their log: {why}. What is logged, and who changed that, is under audit."),
        ),
        List::Audit => "No operator has had anything done since the nodes started.".into(),
        List::Connections => "There are no connections, or none was told yet.".into(),
        _ => "There is nothing.".into(),
    }
}

fn value(
    theme: Theme,
    buffer: &mut Buffer,
    at: (u16, u16, u16),
    value: &Value<'_>,
    field: Field,
    base: Style,
    is_stale: bool,
) {
    let (x, y, width) = at;
    match value {
        Value::State(state, _) => {
            // What is old is shown as old, whatever it said.
            let style = if is_stale && *state < State::Doubtful { theme.dim() } else { theme.state(*state) };
            let text = format!("{} {}", theme.glyph(*state), value.show());
            cell(buffer, x, y, width, &text, style, false);
        }
        Value::Number(number, Unit::Percent) if width > field.width => {
            let bar = bar(theme, number / 100.0, width - field.width - 1, words::WATER);
            cell(buffer, x, y, field.width, &value.show(), base.patch(percent(theme, *number)), true);
            buffer.set_string(x + field.width + 1, y, bar, percent(theme, *number));
        }
        Value::Number(number, Unit::Percent) => {
            cell(buffer, x, y, width, &value.show(), base.patch(percent(theme, *number)), true);
        }
        // Names of nodes differ at their ends.
        Value::Text(text) if field.name == "node" => {
            cell(buffer, x, y, width, &format::middle(&format::tame(text), usize::from(width)), base, false);
        }
        _ => cell(buffer, x, y, width, &value.show(), base, field.is_number),
    }
}

/// Only what is high is marked.
fn percent(theme: Theme, number: f64) -> Style {
    match number {
        number if number >= 90.0 => theme.state(State::Bad),
        number if number >= 80.0 => theme.state(State::Doubtful),
        _ => Style::new(),
    }
}

/// A bar with marks at low and high water.
pub(super) fn bar(theme: Theme, share: f64, width: u16, (low, high): (f64, f64)) -> String {
    let is_ascii = theme.graphics == crate::theme::Graphics::Ascii;
    let (full, free, mark) = if is_ascii { ('#', '.', '|') } else { ('█', '░', '┊') };
    let cells = f64::from(width);
    (0..width)
        .map(|at| {
            let is_full = (f64::from(at) + 0.5) / cells <= share;
            let is_water = [low, high].iter().any(|water| (water * cells) as u16 == at);
            match (is_full, is_water) {
                (true, _) => full,
                (false, true) => mark,
                (false, false) => free,
            }
        })
        .collect()
}

/// A text in its column: cut with `…`, or put to the right.
pub(super) fn cell(
    buffer: &mut Buffer,
    x: u16,
    y: u16,
    width: u16,
    text: &str,
    style: Style,
    is_right: bool,
) {
    let span = Span::raw(text);
    let wide = span.width();
    let room = usize::from(width);
    if wide <= room {
        let shift = if is_right { u16::try_from(room - wide).unwrap_or(0) } else { 0 };
        buffer.set_stringn(x + shift, y, text, room, style);
    } else if room > 0 {
        buffer.set_stringn(x, y, text, room - 1, style);
        buffer.set_string(x + width - 1, y, "…", style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_always_on_the_screen() {
        for count in 0..30_usize {
            for height in 1..12 {
                for cursor in 0..count.max(1) {
                    for offset in 0..35 {
                        let first = scroll(offset, cursor, height, count);
                        assert!(
                            first <= cursor && cursor < first + height,
                            "{offset} {cursor} {height} {count}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn columns_fit_and_the_least_wanted_go_first() {
        for (list, name) in List::ALL {
            let mut before = 0;
            for width in 60..240 {
                let columns = columns(list.fields(), width, 48);
                let used: u16 = columns.iter().map(|(_, width)| width + 1).sum::<u16>() + 2;
                assert!(used <= width.max(used.min(80)), "{name} {width} {used}");
                assert!(columns.len() >= before, "{name} {width}");
                before = columns.len();
            }
            assert!(
                columns(list.fields(), 80, 48).iter().map(|(_, width)| width + 1).sum::<u16>() <= 78,
                "{name}"
            );
        }
    }

    #[test]
    fn what_a_list_is_about_is_there_on_a_small_screen() {
        for (list, name) in List::ALL.iter().filter(|(list, _)| list.strip().is_none()) {
            let fields = list.fields();
            let shown = columns(fields, 80, 48);
            let mut grows = (0..fields.len()).filter(|field| fields[*field].grows);
            assert!(grows.all(|grows| shown.iter().any(|(field, _)| *field == grows)), "{name}");
        }
    }

    #[test]
    fn a_bar_shows_low_and_high_water() {
        assert_eq!(bar(Theme::default(), 0.5, 10, words::WATER), "█████░░┊┊░");
        assert_eq!(bar(Theme::default(), 1.0, 4, words::WATER), "████");
        assert_eq!(bar(Theme::default(), f64::NAN, 2, words::WATER).chars().count(), 2);
    }
}
