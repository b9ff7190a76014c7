//! One app: what it uses of its limits, what its record says, and what it uses on each node.

use pinwire_admin_api::apps::{AppRecord, RecordedApp};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::{Hits, heading, node::wrapped, put, table};
use crate::app::App;
use crate::format;
use crate::list::{List, app_nearness};
use crate::model::{AppState, Millis, Used, apps};

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    let Some(name) = &app.screen.scope.app else {
        put(area, 0, Line::raw("Choose an app first."), buffer);
        return Hits::default();
    };
    let mut lines = use_of(app, apps(&app.model).get(name));
    lines.extend(record(app, area.width, now));
    let height = u16::try_from(lines.len()).unwrap_or(8).min(area.height * 2 / 3);
    let [top, bottom] = Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(area);
    for (row, line) in (0..top.height).zip(lines) {
        put(top, row, line, buffer);
    }
    let body = heading(app, "on each node", bottom, buffer);
    table::rows(app, List::Use, body, buffer, now)
}

fn use_of(app: &App, state: Option<&AppState>) -> Vec<Line<'static>> {
    let theme = app.options.theme;
    let Some(state) = state else {
        return vec![Line::styled("No node that is reached has seen a token of it.", theme.dim())];
    };
    let bar = |name: &str, what: &str, used: Used| {
        let (state, word) = app_nearness(used.share());
        let of = used.limit.map_or_else(|| "no limit".to_owned(), |limit| format!("of {limit}"));
        let share = used.share().unwrap_or(0.0);
        Line::from(vec![
            Span::raw(format!("{name:<12}{:>10} {of:<14}", used.used)),
            Span::styled(table::bar(theme, share, 20, (0.8, 1.0)), theme.state(state)),
            Span::styled(format!(" {} {word:<9}", theme.glyph(state)), theme.state(state)),
            Span::styled(what.to_owned(), theme.dim()),
        ])
    };
    let users = state.max_users_per_document.map_or_else(|| "no limit".into(), |most| most.to_string());
    vec![
        bar("connections", "all nodes", state.connections),
        bar("documents", "all regions", state.documents),
        bar("operations", "a minute", state.operations),
        Line::raw(format!("sessions of one document: {users}")),
    ]
}

/// What its license region says of it, and which version that is.
fn record(app: &App, width: u16, now: Millis) -> Vec<Line<'static>> {
    let theme = app.options.theme;
    let Some(name) = &app.screen.scope.app else { return Vec::new() };
    let mut lines = Vec::new();
    match app.model.record(name) {
        None => lines.push(Line::styled("record: asking a node", theme.dim())),
        Some(record) => {
            let age = format::age(now.saturating_sub(record.at));
            match &record.told {
                Err(why) => {
                    let text = format!("record: {}", format::tame(why));
                    lines.extend(
                        wrapped(&text, width).into_iter().map(|line| Line::styled(line, theme.dim())),
                    );
                }
                Ok(RecordedApp { version, record: None }) => {
                    lines.push(Line::raw(format!("record: none, version {version}, as of {age} ago")));
                }
                Ok(RecordedApp { version, record: Some(said) }) => {
                    lines.push(Line::from(vec![
                        Span::styled(format!("record, version {version}"), theme.accent()),
                        Span::styled(format!("  as of {age} ago"), theme.dim()),
                    ]));
                    for text in words(said) {
                        lines.extend(wrapped(&format::tame(&text), width).into_iter().map(Line::raw));
                    }
                }
            }
        }
    }
    lines
}

/// All that a record says.
fn words(record: &AppRecord) -> Vec<String> {
    let limits = record.limits.unwrap_or_default();
    let all = [
        ("connections", limits.max_connections),
        ("documents", limits.max_documents),
        ("sessions of a document", limits.max_users_per_doc),
        ("operations a minute", limits.ops_per_minute),
    ];
    let told: Vec<String> =
        all.iter().filter_map(|(name, limit)| limit.map(|limit| format!("{name} {limit}"))).collect();
    let limits = if told.is_empty() { "as configured".into() } else { told.join(", ") };
    let regions = record.regions.as_ref().map_or_else(|| "all".to_owned(), |regions| regions.join(", "));
    let keys = record.keys.as_deref().unwrap_or_default();
    let key = |key: &serde_json::Map<String, Value>| {
        let field = |name: &str| key.get(name).and_then(Value::as_str);
        let kind = [field("kty"), field("crv"), field("alg")];
        format!(
            "{} ({})",
            field("kid").unwrap_or("without kid"),
            kind.into_iter().flatten().collect::<Vec<_>>().join(" ")
        )
    };
    let keys = if keys.is_empty() {
        "those of the nodes".into()
    } else {
        format!("{} and those of the nodes", keys.iter().map(key).collect::<Vec<_>>().join(", "))
    };
    vec![
        format!("  limits for tokens that do not say: {limits}"),
        format!("  regions: {regions}"),
        format!("  keys: {keys}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_told_in_full() {
        let record: AppRecord = serde_json::from_str(
            r#"{"limits":{"maxConnections":100,"opsPerMinute":7},"regions":["eu-central-1","us-east-1"],
                "keys":[{"kty":"EC","crv":"P-256","kid":"k1","x":"a","y":"b"}]}"#,
        )
        .unwrap();
        assert_eq!(
            words(&record),
            [
                "  limits for tokens that do not say: connections 100, operations a minute 7",
                "  regions: eu-central-1, us-east-1",
                "  keys: k1 (EC P-256) and those of the nodes"
            ]
        );
        assert_eq!(words(&AppRecord::default())[1], "  regions: all");
    }
}
