//! State to cells of a screen: nothing here changes anything, and each view is a file.
//!
//! ```text
//!  Pinwire  prod   ✔ 4/4 nodes   conns 18.9k   docs 1.2k   msg/s 34k            14:03:09Z     head
//!  1 overview  2 regions [3 nodes] 4 pins  5 documents  6 connections  7 apps …                tabs
//!  nodes › eu-central-1   filter region=eu   4 of 12   sorted by OCC                            line
//!  …                                                                                            body
//!  / filter  : command  enter open  esc back  ? help  q quit                                    foot
//! ```

mod app;
mod chart;
mod chrome;
mod confirm;
mod document;
mod flow;
mod heat;
mod help;
mod map;
mod node;
mod overview;
mod region;
mod table;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget as _, Wrap};

use crate::app::{App, Kind};
use crate::model::Millis;
use crate::theme::Graphics;

/// Less than this is too small to show anything that could be trusted.
pub const MIN_WIDTH: u16 = 60;
/// Likewise.
pub const MIN_HEIGHT: u16 = 16;

/// Where things were drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// The rows of the list.
    pub list: Rect,
    /// The first row on the screen.
    pub offset: usize,
    /// Where the cursor of a line that is typed is.
    pub cursor: Option<(u16, u16)>,
}

/// Draws everything.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    if area.width < MIN_WIDTH || area.height < MIN_HEIGHT {
        let text = format!(
            "{}x{} is too small: at least {MIN_WIDTH}x{MIN_HEIGHT}, better 80x24. {} leaves.",
            area.width,
            area.height,
            app.options.keys.key(crate::keys::Does::Quit)
        );
        Paragraph::new(text).wrap(Wrap { trim: true }).render(area, buffer);
        return Hits::default();
    }
    let [head, tabs, line, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    chrome::head(app, head, buffer, now);
    chrome::tabs(app, tabs, buffer);
    chrome::line(app, line, buffer, now);
    let mut hits = match app.screen.kind {
        Kind::Overview => overview::draw(app, body, buffer, now),
        Kind::Regions => region::draw(app, body, buffer, now),
        Kind::Node => node::draw(app, body, buffer, now),
        Kind::Cores => heat::cores(app, body, buffer, now),
        Kind::Document => document::draw(app, body, buffer, now),
        Kind::App => app::draw(app, body, buffer, now),
        Kind::Flow => flow::draw(app, body, buffer, now),
        _ => table::draw(app, body, buffer, now),
    };
    if app.is_help {
        help::draw(app, body, buffer);
    }
    if let Some(confirm) = &app.confirm {
        hits.cursor = Some(confirm::draw(app, confirm, body, buffer));
    } else if let Some(outcomes) = &app.outcomes {
        confirm::outcomes(app, outcomes, body, buffer);
    }
    let at = chrome::foot(app, foot, buffer);
    hits.cursor = hits.cursor.or(at);
    if app.options.theme.graphics == Graphics::Ascii {
        spell_out(area, buffer);
    }
    hits
}

/// Signs of texts for a terminal that has none but ASCII.
fn spell_out(area: Rect, buffer: &mut Buffer) {
    for position in area.positions() {
        if let Some(cell) = buffer.cell_mut(position) {
            match cell.symbol() {
                "…" => cell.set_symbol("~"),
                "µ" => cell.set_symbol("u"),
                _ => continue,
            };
        }
    }
}

/// A heading above a part of a view, with a rule to its right.
fn heading(app: &App, text: &str, area: Rect, buffer: &mut Buffer) -> Rect {
    let theme = app.options.theme;
    let [top, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let (end, _) = buffer.set_stringn(top.x, top.y, text, usize::from(top.width), theme.accent());
    for column in end + 1..top.right() {
        buffer.set_string(column, top.y, theme.rule(), theme.dim());
    }
    rest
}

/// A line of text, cut at the end of its area.
#[expect(clippy::needless_pass_by_value, reason = "lines are made for the call")]
fn put(area: Rect, row: u16, line: Line<'_>, buffer: &mut Buffer) {
    if row < area.height {
        buffer.set_line(area.x, area.y + row, &line, area.width);
    }
}

/// Empties a part, for something above it.
fn empty(area: Rect, buffer: &mut Buffer) {
    for position in area.positions() {
        if let Some(cell) = buffer.cell_mut(position) {
            cell.reset();
            cell.set_style(Style::reset());
        }
    }
}
