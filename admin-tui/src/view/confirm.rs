//! An action before it is done: what it does, the same with curl, and the line into which its name is typed.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Paragraph, Widget as _, Wrap};

use super::empty;
use crate::app::{App, Confirm};
use crate::format;
use crate::model::State;

/// Gives where the cursor is.
pub(super) fn draw(app: &App, confirm: &Confirm, area: Rect, buffer: &mut Buffer) -> (u16, u16) {
    let theme = app.options.theme;
    let width = area.width.saturating_sub(4).min(100);
    let height = area.height.saturating_sub(2).min(15);
    let at =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    empty(at, buffer);
    let title = format!(" {} {} ", theme.glyph(State::Doubtful), format::tame(&confirm.action.title()));
    let block = Block::bordered().title(title).border_style(theme.state(State::Doubtful));
    let inner = block.inner(at);
    block.render(at, buffer);
    let text = Text::from(vec![
        Line::raw(confirm.action.effect()),
        Line::raw(""),
        Line::styled(format!("asked of {}:", confirm.address), theme.dim()),
        Line::raw(format::tame(&confirm.action.curl(&confirm.address))),
    ]);
    let body = Rect { height: inner.height.saturating_sub(2), ..inner };
    Paragraph::new(text).wrap(Wrap { trim: true }).render(body, buffer);
    let row = inner.bottom().saturating_sub(2);
    let name = format::tame(confirm.action.name());
    buffer.set_stringn(
        inner.x,
        row,
        format!("Type its name to have it done, Esc to leave it: {name}"),
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
