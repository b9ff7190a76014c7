//! One document: where it is and was, what it does, and who is on it.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{Hits, heading, put, table};
use crate::app::App;
use crate::format;
use crate::list::{List, pins_document_state};
use crate::model::{Millis, State, millis};

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    let facts = facts(app, now);
    let height = u16::try_from(facts.len()).unwrap_or(6).min(area.height / 2);
    let [top, members] = Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(area);
    for (row, line) in (0..top.height).zip(facts) {
        put(top, row, line, buffer);
    }
    if app.model.document.is_none() {
        return Hits::default();
    }
    let body = heading(app, "members", members, buffer);
    table::rows(app, List::Members, body, buffer, now)
}

fn facts(app: &App, now: Millis) -> Vec<Line<'static>> {
    let theme = app.options.theme;
    let model = &app.model;
    let Some(name) = &app.screen.document else { return vec![Line::raw("Choose a document first.")] };
    let mut lines = Vec::new();
    let pin = model
        .pins
        .iter()
        .find(|row| row.pin.name == name.name && row.pin.app == name.app && row.pin.tenant == name.tenant);
    if let Some(row) = pin {
        let nodes = if row.pin.nodes.is_empty() { "no node".to_owned() } else { row.pin.nodes.join(", ") };
        let grace = row
            .pin
            .grace_seconds
            .map_or_else(String::new, |left| format!("  waits {left} s more for its clients"));
        lines.push(Line::raw(format::tame(&format!("pinned to {} on {nodes}{grace}", row.pin.region))));
        lines.push(Line::styled(format::tame(&format!("claim {}", row.pin.claim)), theme.dim()));
    }
    let homes: Vec<String> = model
        .homes(name)
        .iter()
        .map(|(region, at)| {
            let region = if region.is_empty() { "nowhere" } else { region };
            format!("{region} since {}", format::clock(*at))
        })
        .collect();
    if !homes.is_empty() {
        lines.push(Line::raw(format::tame(&format!("seen in {}", homes.join(", then ")))));
    }
    if let Some(why) = &model.document_problem {
        let text = format!("{} {}", theme.glyph(State::Doubtful), format::tame(why));
        lines.push(Line::styled(text, theme.state(State::Doubtful)));
    }
    let Some((detail, at)) = &model.document else {
        if model.document_problem.is_none() {
            lines.push(Line::styled("asking a node that has it", theme.dim()));
        }
        return lines;
    };
    let document = &detail.document;
    let (state, word) = pins_document_state(document);
    let node = model
        .document_node()
        .and_then(|node| model.node(node))
        .map_or_else(String::new, crate::model::NodeState::label);
    let age = now.saturating_sub(*at);
    let stale = if age > 3_000 { format!("STALE, as of {} ago", format::age(age)) } else { String::new() };
    lines.push(Line::from(vec![
        Span::styled(format!("{} {word}  ", theme.glyph(state)), theme.state(state)),
        Span::raw(format!(
            "on {node}, thread {}  open {}  ",
            document.thread,
            millis(&document.since)
                .map_or_else(|| "-".into(), |since| format::age(now.saturating_sub(since)))
        )),
        Span::styled(stale, theme.state(State::Doubtful)),
    ]));
    lines.push(Line::raw(format!(
        "{} members  {} present  {} edits/s  {}/s",
        document.members,
        document.present,
        format::number(document.edits_per_second),
        format::bytes(document.bytes_per_second)
    )));
    lines.push(Line::raw(format!(
        "log {}, of which {} the store does not have yet{}",
        format::bytes(document.log_bytes as f64),
        format::bytes(document.unstored_bytes as f64),
        if detail.is_partial { "; a thread did not answer: members are missing" } else { "" }
    )));
    lines
}
