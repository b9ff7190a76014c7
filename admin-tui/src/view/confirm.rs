//! Actions before they are done: what they do, the same with curl, and the line into which their name is typed; and what became of
//! several.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Paragraph, Widget as _, Wrap};

use super::node::wrapped;
use super::{empty, put};
use crate::app::action::Action;
use crate::app::{App, Confirm, Outcomes};
use crate::format;
use crate::model::State;

/// Gives where the cursor is.
pub(super) fn draw(app: &App, confirm: &Confirm, area: Rect, buffer: &mut Buffer) -> (u16, u16) {
    let theme = app.options.theme;
    let count = confirm.actions.len();
    let width = width(area).saturating_sub(2);
    let (its, wanted) = (if count > 1 { "this" } else { "its name" }, format::tame(&confirm.wanted()));
    let mut asked = vec![format!("Type {its} to have it done, Esc to leave it:")];
    let names = cut(&wanted, width);
    match &names[..] {
        [name] if asked[0].len() + name.len() < usize::from(width) => asked[0].push_str(&format!(" {name}")),
        _ => asked.extend(names),
    }
    // Below it the line that is typed, and what is wrong with that.
    let below = u16::try_from(asked.len() + 2).unwrap_or(u16::MAX);
    let most = match &confirm.actions[..] {
        [(address, first), _, ..] => {
            let texts =
                height(&several_effect(first), width) + height(&format::tame(&first.curl(address)), width);
            // As many as there is room for, each in a line; frame, and the heading of the command.
            u16::try_from(count).unwrap_or(u16::MAX).saturating_add(texts + below + 3)
        }
        _ => 12 + below,
    };
    let inner = frame(app, State::Doubtful, &confirm.title(), most, area, buffer);
    let body = Rect { height: inner.height.saturating_sub(below), ..inner };
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
    let foot = Rect { y: body.bottom(), height: inner.height - body.height, ..inner };
    for (row, line) in (0..).zip(asked) {
        put(foot, row, Line::styled(line, theme.accent()), buffer);
    }
    let (typed, before) = confirm.typed.visible(inner.width.saturating_sub(2));
    let row = foot.height.saturating_sub(2);
    put(foot, row, Line::from(vec![Span::styled("> ", theme.accent()), Span::raw(typed)]), buffer);
    if let Some(slip) = &confirm.typed.slip {
        let slip = format!("{} {slip}", theme.glyph(State::Bad));
        put(foot, row + 1, Line::styled(slip, theme.state(State::Bad)), buffer);
    }
    ((inner.x + 2 + before).min(inner.right().saturating_sub(1)), foot.y + row)
}

/// A name in lines of so many columns: nothing of it is left out.
fn cut(name: &str, width: u16) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for letter in name.chars() {
        let wide = Span::raw(letter.to_string()).width();
        if used + wide > usize::from(width.max(2)) {
            lines.push(String::new());
            used = 0;
        }
        used += wide;
        if let Some(line) = lines.last_mut() {
            line.push(letter);
        }
    }
    lines
}

fn several_effect(first: &Action) -> String {
    format!("Each, one by one: {}", first.effect())
}

/// What each of several does, what it is done to, and the request for it; the first as a command.
fn several(app: &App, confirm: &Confirm, area: Rect, buffer: &mut Buffer) {
    let theme = app.options.theme;
    let Some((address, first)) = confirm.actions.first() else { return };
    let curl = format::tame(&first.curl(address));
    let effect = several_effect(first);
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
    let mut rows: Vec<_> = outcomes.rows.iter().collect();
    rows.sort_by_key(|(_, told)| !is_failed(told));
    let width = width(area).saturating_sub(2);
    // The reason is what one wants to know: it gets as many lines as it needs.
    let lines: Vec<Line<'_>> =
        rows.into_iter().flat_map(|(title, told)| outcome(app, title, told, width)).collect();
    let most = u16::try_from(lines.len() + 3).unwrap_or(u16::MAX);
    let inner = frame(app, state, &title, most, area, buffer);
    let list = Rect { height: inner.height.saturating_sub(1), ..inner };
    let room = usize::from(list.height);
    let shown = if lines.len() > room { room.saturating_sub(1) } else { lines.len() };
    let hidden = lines.len() - shown;
    for (row, line) in (0..).zip(lines.into_iter().take(shown)) {
        put(list, row, line, buffer);
    }
    if hidden > 0 {
        let row = u16::try_from(shown).unwrap_or(u16::MAX);
        put(list, row, Line::raw(format!("and {hidden} more lines")), buffer);
    }
    let foot = Rect { y: list.bottom(), height: 1, ..inner };
    put(foot, 0, Line::styled("Any key leaves this; events have each of them.", theme.dim()), buffer);
}

/// What became of one.
fn outcome<'a>(app: &App, title: &str, told: &Option<Result<(), String>>, width: u16) -> Vec<Line<'a>> {
    let theme = app.options.theme;
    let (state, word) = match told {
        None => (State::Unknown, "waits"),
        Some(Ok(())) => (State::Good, "done"),
        Some(Err(_)) => (State::Bad, "not done"),
    };
    let columns = usize::from(width).saturating_sub(word.len() + 4);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{} ", theme.glyph(state)), theme.state(state)),
        Span::raw(format!("{}  ", format::middle(&format::tame(title), columns))),
        Span::styled(word, theme.state(state)),
    ])];
    if let Some(Err(why)) = told {
        let why = wrapped(&format::tame(why), width.saturating_sub(4)).into_iter();
        lines.extend(why.map(|line| Line::styled(format!("    {line}"), theme.state(State::Bad))));
    }
    lines
}

/// How wide a box is.
fn width(area: Rect) -> u16 {
    area.width.saturating_sub(4).min(100)
}

/// A box in the middle, at most so high. Gives what is within.
fn frame(app: &App, state: State, title: &str, most: u16, area: Rect, buffer: &mut Buffer) -> Rect {
    let theme = app.options.theme;
    let width = width(area);
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
