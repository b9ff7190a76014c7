//! What the keys do, from the one table; and how filters are written.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{empty, heading, put};
use crate::app::{App, COMMANDS};
use crate::keys::{BINDINGS, Does};
use crate::query::TERMS;

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.options.theme;
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
    lines.push(Line::styled("Filters", theme.accent()));
    lines.extend(TERMS.iter().map(|(term, help)| {
        Line::from(vec![Span::styled(format!("{term:>14}  "), theme.accent()), Span::raw(*help)])
    }));
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
    empty(area, buffer);
    let height = usize::from(area.height.saturating_sub(1).max(1));
    let columns = usize::from((area.width / 58).max(1));
    let pages = lines.len().div_ceil(columns * height).max(1);
    let page = app.help_page % pages;
    let title = match pages {
        1 => "help: any key leaves it".to_owned(),
        _ => format!(
            "help, page {} of {pages}, {} for the next: any key leaves it",
            page + 1,
            app.options.keys.key(Does::Down)
        ),
    };
    let body = heading(app, &title, area, buffer);
    let parts = Layout::horizontal(vec![Constraint::Fill(1); columns]).spacing(1).split(body);
    for (number, line) in lines.into_iter().skip(page * columns * height).enumerate() {
        if let Some(part) = parts.get(number / height) {
            put(*part, u16::try_from(number % height).unwrap_or(0), line, buffer);
        }
    }
}
