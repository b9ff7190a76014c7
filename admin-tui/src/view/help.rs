//! What the keys do, from the one table; and how filters are written.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{empty, heading, put};
use crate::app::{App, COMMANDS};
use crate::keys::BINDINGS;

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.options.theme;
    empty(area, buffer);
    let body = heading(app, "help: any key leaves it", area, buffer);
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut group = "";
    for binding in BINDINGS {
        if binding.group != group {
            group = binding.group;
            lines.push(Line::styled(group, theme.accent()));
        }
        let keys = app.options.keys.all(binding.does).join(" ");
        lines.push(Line::from(vec![
            Span::styled(format!("{keys:>14}  "), theme.accent()),
            Span::raw(binding.help),
        ]));
    }
    lines.push(Line::styled("Commands", theme.accent()));
    lines.extend(COMMANDS.iter().map(|(name, behind, help)| {
        Line::from(vec![
            Span::styled(format!("{:>14}  ", format!(":{name}")), theme.accent()),
            Span::raw(format!("{behind} {help}")),
        ])
    }));
    if let Some(list) = app.list() {
        lines.push(Line::styled(format!("Fields of {}", list.name()), theme.accent()));
        lines.extend(list.fields().iter().map(|field| {
            Line::from(vec![
                Span::styled(format!("{:>14}  ", field.name), theme.accent()),
                Span::raw(field.help),
            ])
        }));
    }
    let columns = usize::from((body.width / 58).max(1))
        .max(lines.len().div_ceil(usize::from(body.height.max(1))).min(3));
    let parts = Layout::horizontal(vec![Constraint::Fill(1); columns]).spacing(1).split(body);
    for (number, line) in lines.into_iter().enumerate() {
        let (column, row) =
            (number / usize::from(body.height.max(1)), number % usize::from(body.height.max(1)));
        if let Some(part) = parts.get(column) {
            put(*part, u16::try_from(row).unwrap_or(0), line, buffer);
        }
    }
}
