//! The overview: the world, totals over time, and above all what is wrong right now.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{Hits, chart, heading, map, node, put, table};
use crate::app::App;
use crate::format;
use crate::keys::Does;
use crate::list::{List, Scope};
use crate::model::{Millis, Model, Series, State};

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    let wrongs = u16::try_from(app.problems().len().max(1)).unwrap_or(u16::MAX);
    let is_large = area.height >= 32 && area.width >= 120;
    let least = if is_large { 8 } else { 6 };
    let wrong_height = (wrongs + 1).clamp(least, area.height / 2);
    if !is_large {
        let [top, bottom] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(wrong_height)]).areas(area);
        if map::has_any(app, now) {
            map::draw(app, top, buffer, now);
        } else {
            let regions = u16::try_from(crate::model::regions(&app.model, now).len()).unwrap_or(u16::MAX);
            let height = regions.min(top.height / 2) + 1;
            let [names, charts] =
                Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(top);
            map::draw(app, names, buffer, now);
            totals(app, charts, buffer, now);
        }
        return wrong(app, bottom, buffer);
    }
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Fill(3), Constraint::Fill(2), Constraint::Length(wrong_height)])
            .areas(area);
    let [world, charts] =
        Layout::horizontal([Constraint::Fill(2), Constraint::Fill(1)]).spacing(2).areas(top);
    map::draw(app, heading(app, "regions", world, buffer), buffer, now);
    totals(app, heading(app, "over time", charts, buffer), buffer, now);
    let [nodes, events] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(middle);
    fullest(app, heading(app, "fullest nodes", nodes, buffer), buffer, now);
    last_events(app, heading(app, "last events", events, buffer), buffer);
    wrong(app, bottom, buffer)
}

/// What is wrong, the worst first, each a row that leads to its cause.
fn wrong(app: &App, area: Rect, buffer: &mut Buffer) -> Hits {
    let theme = app.options.theme;
    let body = heading(app, "what is wrong right now", area, buffer);
    let pane = app.pane();
    let problems = app.problems();
    if problems.is_empty() {
        let is_any_live = app.model.nodes().any(|(_, node)| node.is_live());
        let (state, text) = if is_any_live {
            (State::Good, "Nothing: every node is healthy, and regions reach each other.".to_owned())
        } else {
            (State::Unknown, "Nobody knows: no node has told anything yet.".to_owned())
        };
        put(body, 0, Line::styled(format!("{} {text}", theme.glyph(state)), theme.state(state)), buffer);
        return Hits { list: body, ..Hits::default() };
    }
    let height = usize::from(body.height);
    let offset = table::scroll(pane.offset, pane.cursor, height, problems.len());
    // What is selected is told to its end in lines that are free below it.
    let free = height.saturating_sub(problems.len() - offset);
    let rest = problems.get(pane.cursor).map_or_else(Vec::new, |problem| {
        let text = format!("{} {}", format::tame(&problem.subject), format::tame(&problem.text));
        let mut lines = node::wrapped(&text, body.width.saturating_sub(6));
        lines.drain(..1.min(lines.len()));
        lines.truncate(free);
        lines
    });
    for (row, problem) in problems.iter().enumerate().skip(offset).take(height) {
        let pushed = if row > pane.cursor { rest.len() } else { 0 };
        let y = u16::try_from(row - offset + pushed).unwrap_or(0);
        // Cut where the next line goes on.
        let text = if row == pane.cursor && !rest.is_empty() {
            let whole = format!("{} {}", format::tame(&problem.subject), format::tame(&problem.text));
            let first = node::wrapped(&whole, body.width.saturating_sub(6)).remove(0);
            first.strip_prefix(&format::tame(&problem.subject)).unwrap_or_default().trim_start().to_owned()
        } else {
            format::tame(&problem.text)
        };
        for (line, words) in (1..).zip(rest.iter().filter(|_| row == pane.cursor)) {
            put(body, y + line, Line::raw(format!("    {words}")), buffer);
        }
        let spans = vec![
            Span::styled(if row == pane.cursor { "> " } else { "  " }, theme.accent()),
            Span::styled(
                format!("{} {} ", theme.glyph(problem.state), format::tame(&problem.subject)),
                theme.state(problem.state),
            ),
            Span::raw(text),
        ];
        put(body, y, Line::from(spans), buffer);
        if row == pane.cursor {
            let line = Rect { x: body.x + 1, y: body.y + y, width: body.width.saturating_sub(1), height: 1 };
            buffer.set_style(line, theme.selected());
        }
    }
    Hits { list: body, offset, cursor: None }
}

/// Sums over all nodes; a second in which one of them told nothing is a gap.
fn sum(model: &Model, pick: impl Fn(&crate::model::NodeState) -> &Series, now: Millis) -> Series {
    let mut total = Series::default();
    let windows: Vec<Vec<Option<f64>>> = model.nodes().map(|(_, node)| pick(node).window(240, now)).collect();
    for second in 0..240_u64 {
        let at = now.saturating_sub((239 - second) * 1000);
        let mut all = windows.iter().map(|window| window.get(second as usize).copied().flatten());
        let summed = all.try_fold(0.0, |sum, sample| sample.map(|sample| sum + sample));
        total.push(at, summed.filter(|_| !windows.is_empty()));
    }
    total
}

fn totals(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) {
    let theme = app.options.theme;
    let parts: [Rect; 3] = Layout::vertical([Constraint::Fill(1); 3]).areas(area);
    let model = &app.model;
    chart::chart(
        theme,
        "connections",
        &sum(model, |node| &node.connections_over_time, now),
        format::number,
        parts[0],
        buffer,
        now,
    );
    chart::chart(
        theme,
        "messages out/s",
        &sum(model, |node| &node.sent_over_time, now),
        format::number,
        parts[1],
        buffer,
        now,
    );
    chart::chart(
        theme,
        "cores in use",
        &sum(model, |node| &node.cpu_over_time, now),
        |value| format!("{value:.1}"),
        parts[2],
        buffer,
        now,
    );
}

fn fullest(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) {
    let theme = app.options.theme;
    let mut nodes: Vec<_> = app.model.nodes().map(|(_, node)| node).collect();
    nodes.sort_by(|a, b| b.occupancy().unwrap_or(-1.0).total_cmp(&a.occupancy().unwrap_or(-1.0)));
    let labels: Vec<String> = nodes.iter().map(|node| format::tame(&node.label())).collect();
    let longest = labels.iter().map(|label| Span::raw(label.as_str()).width()).max().unwrap_or(0);
    let name = u16::try_from(longest).unwrap_or(u16::MAX).clamp(8, (area.width / 3).max(8));
    for ((row, node), label) in (0..area.height).zip(nodes).zip(labels) {
        let (state, word) = node.state(now);
        let share = node.occupancy();
        let bar = share.map_or_else(|| " ".repeat(16), |share| table::bar(theme, share, 16, node.water()));
        let style = if node.is_stale(now) { theme.dim() } else { theme.state(state) };
        put(area, row, Line::styled(theme.glyph(state), theme.state(state)), buffer);
        let label = format::middle(&label, usize::from(name));
        table::cell(buffer, area.x + 2, area.y + row, name, &label, theme.state(state), false);
        let spans = vec![
            Span::styled(format!("{word:<11} "), theme.state(state)),
            Span::styled(format!("{bar} {:>5} ", share.map_or_else(|| "-".into(), format::share)), style),
        ];
        let rest = Rect { x: area.x + 3 + name, width: area.width.saturating_sub(3 + name), ..area };
        put(rest, row, Line::from(spans), buffer);
        let at = rest.x + 36;
        if at + 4 < area.right() {
            let spark = Rect { x: at, y: area.y + row, width: area.right() - at, height: 1 };
            chart::spark(
                theme,
                &node.connections_over_time.window(usize::from(spark.width), now),
                spark,
                buffer,
                theme.line(0),
            );
        }
    }
}

fn last_events(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.options.theme;
    let rows = List::Events.rows(&app.model, &Scope::default(), 0);
    let events: Vec<_> = app.model.events.rows().iter().rev().take(usize::from(area.height)).collect();
    if rows.is_empty() {
        let text =
            format!("none yet; {} shows all", app.options.keys.key(Does::Show(crate::app::Kind::Events)));
        put(area, 0, Line::styled(text, theme.dim()), buffer);
    }
    for (row, event) in (0..area.height).zip(events) {
        let spans = vec![
            Span::styled(format!("{} ", format::clock(event.at)), theme.dim()),
            Span::styled(format!("{} {} ", theme.glyph(event.state), event.label), theme.state(event.state)),
            Span::raw(format::tame(&event.text)),
        ];
        put(area, row, Line::from(spans), buffer);
    }
}
