//! Actions before they are done: what they do, the same with curl, and the line into which their name is typed; and what became of
//! several.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Paragraph, Widget as _, Wrap};

use super::{empty, put};
use crate::app::{App, Confirm, Outcomes};
use crate::format;
use crate::model::State;

/// Gives where the cursor is.
pub(super) fn draw(app: &App, confirm: &Confirm, area: Rect, buffer: &mut Buffer) -> (u16, u16) {
    let theme = app.options.theme;
    let count = confirm.actions.len();
    // As many of several as there is room for, each in a line.
    let most = if count > 1 { u16::try_from(count + 12).unwrap_or(u16::MAX) } else { 15 };
    let inner = frame(app, State::Doubtful, &confirm.title(), most, area, buffer);
    let body = Rect { height: inner.height.saturating_sub(2), ..inner };
    match &confirm.actions[..] {
        [(address, action)] => {
            let text = Text::from(vec![
                Line::raw(action.effect()),
                Line::raw(""),
                Line::styled(format!("asked of {address}:"), theme.dim()),
                Line::raw(format::tame(&action.curl(address))),
            ]);
            Paragraph::new(text).wrap(Wrap { trim: true }).render(body, buffer);
        }
        _ => several(app, confirm, body, buffer),
    }
    let row = inner.bottom().saturating_sub(2);
    let (its, wanted) = (if count > 1 { "this" } else { "its name" }, format::tame(&confirm.wanted()));
    buffer.set_stringn(
        inner.x,
        row,
        format!("Type {its} to have it done, Esc to leave it: {wanted}"),
        usize::from(inner.width),
        theme.accent(),
    );
    let typed = confirm.typed.text();
    let mut line = Line::from(vec![Span::styled("> ", theme.accent()), Span::raw(typed.clone())]);
    if let Some(slip) = &confirm.typed.slip {
        line.push_span(Span::styled(
            format!("   {} {slip}", theme.glyph(State::Bad)),
            theme.state(State::Bad),
        ));
    }
    buffer.set_line(inner.x, row + 1, &line, inner.width);
    let before: String = typed.chars().take(confirm.typed.at).collect();
    let before = u16::try_from(Span::raw(before).width()).unwrap_or(0);
    ((inner.x + 2 + before).min(inner.right().saturating_sub(1)), row + 1)
}

/// What each of several does, what it is done to, and the request for it; the first as a command.
fn several(app: &App, confirm: &Confirm, area: Rect, buffer: &mut Buffer) {
    let theme = app.options.theme;
    let Some((address, first)) = confirm.actions.first() else { return };
    let curl = format::tame(&first.curl(address));
    let effect = format!("Each, one by one: {}", first.effect());
    // Where there is little room, some of the list is more than the command.
    let room = area.height.saturating_sub(2);
    let above = height(&effect, area.width).min(room);
    let below = (height(&curl, area.width) + 1).min(room - above);
    Paragraph::new(effect).wrap(Wrap { trim: true }).render(Rect { height: above, ..area }, buffer);
    let list = Rect { y: area.y + above, height: area.height - above - below, ..area };
    let requests = confirm.actions.iter().map(|(address, action)| {
        let (method, path, _) = action.request();
        (action.name(), format!("{method} {address}{path}"))
    });
    let room = usize::from(list.height);
    let count = confirm.actions.len();
    let shown = if count > room { room.saturating_sub(1) } else { count };
    let width = requests.clone().take(shown).map(|(name, _)| Span::raw(name).width()).max().unwrap_or(0);
    let width = width.min(usize::from(list.width) / 2);
    for (row, (name, request)) in (0..).zip(requests.take(shown)) {
        let name = format::middle(&format::tame(name), width);
        let request = format::middle(&format::tame(&request), usize::from(list.width) - width - 2);
        let line =
            Line::from(vec![Span::raw(format!("{name:<width$}  ")), Span::styled(request, theme.dim())]);
        put(list, row, line, buffer);
    }
    if count > shown {
        let row = u16::try_from(shown).unwrap_or(u16::MAX);
        put(list, row, Line::raw(format!("and {} more", count - shown)), buffer);
    }
    let rest = Rect { y: list.bottom(), height: below, ..area };
    put(rest, 0, Line::styled(format!("the first, asked of {address}:"), theme.dim()), buffer);
    let command = Rect { y: rest.y + 1, height: rest.height.saturating_sub(1), ..rest };
    Paragraph::new(curl).wrap(Wrap { trim: true }).render(command, buffer);
}

/// Lines that a text takes when it is wrapped.
fn height(text: &str, width: u16) -> u16 {
    let area = Rect::new(0, 0, width, 8);
    let mut buffer = Buffer::empty(area);
    Paragraph::new(text).wrap(Wrap { trim: true }).render(area, &mut buffer);
    let is_used = |row: &u16| (0..width).any(|column| buffer[(column, *row)].symbol() != " ");
    (0..area.height).rev().find(is_used).map_or(0, |row| row + 1)
}

/// What became of several, those that were not done first.
pub(super) fn outcomes(app: &App, outcomes: &Outcomes, area: Rect, buffer: &mut Buffer) {
    let theme = app.options.theme;
    let is_failed = |told: &Option<Result<(), String>>| matches!(told, Some(Err(_)));
    let state = match &outcomes.rows {
        rows if rows.iter().any(|(_, told)| is_failed(told)) => State::Bad,
        rows if rows.iter().all(|(_, told)| told.is_some()) => State::Good,
        _ => State::Unknown,
    };
    let title = format!("{}: {}", outcomes.title, outcomes.count());
    let most = u16::try_from(outcomes.rows.len() + 3).unwrap_or(u16::MAX);
    let inner = frame(app, state, &title, most, area, buffer);
    let list = Rect { height: inner.height.saturating_sub(1), ..inner };
    let mut rows: Vec<_> = outcomes.rows.iter().collect();
    rows.sort_by_key(|(_, told)| !is_failed(told));
    let room = usize::from(list.height);
    let shown = if rows.len() > room { room.saturating_sub(1) } else { rows.len() };
    for (row, (title, told)) in (0..).zip(&rows[..shown]) {
        let (state, word) = match told {
            None => (State::Unknown, "waits".to_owned()),
            Some(Ok(())) => (State::Good, "done".to_owned()),
            Some(Err(why)) => (State::Bad, format!("not done: {}", format::tame(why))),
        };
        let line = Line::from(vec![
            Span::styled(format!("{} ", theme.glyph(state)), theme.state(state)),
            Span::raw(format!("{}  ", format::tame(title))),
            Span::styled(word, theme.state(state)),
        ]);
        put(list, row, line, buffer);
    }
    if rows.len() > shown {
        let row = u16::try_from(shown).unwrap_or(u16::MAX);
        put(list, row, Line::raw(format!("and {} more", rows.len() - shown)), buffer);
    }
    let foot = Rect { y: list.bottom(), height: 1, ..inner };
    put(foot, 0, Line::styled("Any key leaves this; events have each of them.", theme.dim()), buffer);
}

/// A box in the middle, at most so high. Gives what is within.
fn frame(app: &App, state: State, title: &str, most: u16, area: Rect, buffer: &mut Buffer) -> Rect {
    let theme = app.options.theme;
    let width = area.width.saturating_sub(4).min(100);
    let height = area.height.saturating_sub(2).min(most);
    let at =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    empty(at, buffer);
    let title = format!(" {} {} ", theme.glyph(state), format::tame(title));
    let block = Block::bordered().title(title).border_style(theme.state(state));
    let inner = block.inner(at);
    block.render(at, buffer);
    inner
}
