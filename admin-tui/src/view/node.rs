//! One node: what it is and how it stands, over time, and each of its threads.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{Hits, chart, heading, put, table};
use crate::app::App;
use crate::format;
use crate::list::List;
use crate::model::{Link, Millis, NodeState, State, words};

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    let Some(node) = app.screen.scope.node.and_then(|node| app.model.node(node)) else {
        put(area, 0, Line::raw("There is no such node any more."), buffer);
        return Hits::default();
    };
    let facts = facts(app, node, area.width, now);
    let height = u16::try_from(facts.len()).unwrap_or(6).min(area.height / 2);
    let charts_height = if area.height >= 32 { 12 } else { 4 };
    let [top, charts, threads] = Layout::vertical([
        Constraint::Length(height),
        Constraint::Length(charts_height),
        Constraint::Fill(1),
    ])
    .areas(area);
    for (row, line) in (0..top.height).zip(facts) {
        put(top, row, line, buffer);
    }
    over_time(app, node, charts, buffer, now);
    if threads.height < 3 {
        return Hits::default();
    }
    let body = heading(app, "threads", threads, buffer);
    table::rows(app, List::Cores, body, buffer, now)
}

fn facts(app: &App, node: &NodeState, width: u16, now: Millis) -> Vec<Line<'static>> {
    let theme = app.options.theme;
    let (state, word) = node.state(now);
    let age = node
        .age(now)
        .map_or_else(|| "told nothing yet".into(), |age| format!("as of {} ago", format::age(age)));
    let age_style = if node.is_stale(now) { theme.state(State::Doubtful) } else { theme.dim() };
    let stale = if node.is_stale(now) { "STALE, " } else { "" };
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{} {word}  ", theme.glyph(state)), theme.state(state)),
        Span::raw(format!("{}  ", node.address())),
        Span::styled(format!("{stale}{age}"), age_style),
    ])];
    if let Link::Lost { why, since, retry_at, .. } = &node.link {
        let text = format!(
            "for {}: {why}; tried again in {}",
            format::age(now.saturating_sub(*since)),
            format::age(retry_at.saturating_sub(now))
        );
        // What helps stands at the end: it must not be cut off.
        lines.extend(
            wrapped(&format::tame(&text), width)
                .into_iter()
                .map(|line| Line::styled(line, theme.state(State::Bad))),
        );
    }
    let Some(seen) = node.seen() else { return lines };
    let told = &seen.node;
    let share = node.occupancy();
    let (low, high) = node.water();
    let water = format!(" low and high water at {} and {}", format::share(low), format::share(high));
    lines.push(Line::from(vec![
        Span::raw(format!("occupancy {} ", share.map_or_else(|| "-".into(), format::share))),
        Span::raw(table::bar(theme, share.unwrap_or(0.0), 24, node.water())),
        Span::styled(water, theme.dim()),
    ]));
    lines.extend(standing(app, node, width));
    // Who is sent to another region is told so by a refusal.
    let redirected = told.flow.as_ref().map_or(0, |flow| flow.redirected);
    let all = format!(
        "{} of {} connections  {} documents  {} handshakes  {} refused  {} sent on  {} closed ({} slow, {} idle, {} invalid)",
        told.totals.connections,
        told.max_connections,
        told.totals.documents,
        told.totals.handshakes_pending,
        told.totals.refusals.saturating_sub(redirected),
        redirected,
        told.totals.closes,
        told.totals.closes_slow_reader,
        told.totals.closes_idle,
        told.totals.closes_invalid
    );
    lines.extend(wrapped(&all, width).into_iter().map(Line::raw));
    let files = told.process.open_files.zip(told.process.max_files);
    let all = format!(
        "memory {}  cpu {}  files {}  up {}  version {}  {}",
        told.process.resident_bytes.map_or_else(|| "-".into(), |bytes| format::bytes(bytes as f64)),
        node.load().cpu.map_or_else(|| "-".into(), |cpu| format!("{cpu:.2} cores")),
        files.map_or_else(|| "-".into(), |(open, most)| format!("{open} of {most}")),
        format::age(told.uptime_seconds * 1000),
        told.version,
        told.config_digest
            .as_ref()
            .map_or_else(String::new, |digest| format!("config {}", digest.get(..8).unwrap_or(digest)))
    );
    lines.extend(wrapped(&all, width).into_iter().map(Line::raw));
    lines.extend(way_out(app, node, width, now));
    lines
}

/// How full it is of what, what it still does, and why; the pool of its region's nodes.
fn standing(app: &App, node: &NodeState, width: u16) -> Vec<Line<'static>> {
    let theme = app.options.theme;
    let Some(standing) = node.standing() else { return Vec::new() };
    let mut lines = Vec::new();
    let text = words::parts(standing);
    lines.push(Line::styled(cut(&text, width), theme.dim()));
    if let Some(cause) = node.cause() {
        let text = format!("{} since {}: {cause}", words::rung(standing.rung), standing.change);
        lines.extend(
            wrapped(&format::tame(&text), width)
                .into_iter()
                .map(|line| Line::styled(line, theme.state(State::Doubtful))),
        );
    }
    if let Some(error) = &standing.pool.error {
        lines.push(Line::styled(cut(&format!("pool: {error}"), width), theme.state(State::Doubtful)));
    } else if !standing.pool.members.is_empty() {
        let member = |member: &pinwire_admin_api::standing::PoolMember| {
            let way = if member.in_dns { "" } else { " out" };
            format!("{} {}{way}", member.name, format::share(member.occupancy))
        };
        let members: Vec<String> = standing.pool.members.iter().map(member).collect();
        lines.push(Line::raw(cut(&format!("pool: {}", members.join(", ")), width)));
    }
    lines
}

/// Its region's name, and its drain.
fn way_out(app: &App, node: &NodeState, width: u16, now: Millis) -> Vec<Line<'static>> {
    let theme = app.options.theme;
    let mut lines = Vec::new();
    if let Some(dns) = node.told().and_then(|told| told.dns.as_ref()) {
        let (state, word) = words::dns(dns);
        let why = dns.failing.as_ref().map_or(&dns.why, |failing| &failing.error);
        let style = if state == State::Good { Style::default() } else { theme.state(state) };
        lines.push(Line::styled(cut(&format!("DNS {}: {word}, {why}", dns.name), width), style));
    }
    if let Some(drain) = node.drain(now) {
        lines.push(Line::styled(cut(&format!("drain: {drain}"), width), theme.state(State::Leaving)));
    }
    lines
}

fn cut(text: &str, width: u16) -> String {
    let text = format::tame(text);
    if Span::raw(text.as_str()).width() <= usize::from(width) {
        return text;
    }
    let kept: String = text.chars().take(usize::from(width).saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Lines of so many columns at most, broken between words.
pub(super) fn wrapped(text: &str, width: u16) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            let wide = Span::raw(line.as_str()).width() + Span::raw(word).width() + 1;
            if line.is_empty() || wide <= usize::from(width) {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
                continue;
            }
        }
        lines.push(word.to_owned());
    }
    lines
}

fn over_time(app: &App, node: &NodeState, area: Rect, buffer: &mut Buffer, now: Millis) {
    let theme = app.options.theme;
    let count = if area.width >= 120 { 4 } else { 2 };
    let parts = Layout::horizontal(vec![Constraint::Fill(1); count]).spacing(2).split(area);
    type Show = fn(f64) -> String;
    let all: [(&str, _, Show); 4] = [
        ("connections", &node.connections_over_time, format::number),
        ("messages out/s", &node.sent_over_time, format::number),
        ("cores in use", &node.cpu_over_time, |value| format!("{value:.2}")),
        ("longest turn", &node.turn_over_time, format::seconds),
    ];
    for (part, (title, series, show)) in parts.iter().zip(all) {
        chart::chart(theme, title, series, show, *part, buffer, now);
    }
}
