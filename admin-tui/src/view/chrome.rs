//! What is around every view: head, tabs, the line above the list, foot.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::put;
use crate::app::{App, Kind, PromptKind};
use crate::format;
use crate::keys::Does;
use crate::list::List;
use crate::model::{Millis, State};

pub(super) fn head(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) {
    let theme = app.options.theme;
    let totals = app.model.totals(now);
    let state = match (totals.live, totals.nodes) {
        (_, 0) => State::Unknown,
        (live, nodes) if live == nodes => State::Good,
        (0, _) => State::Bad,
        _ => State::Doubtful,
    };
    let worst = app.problems().first().map_or(State::Good, |problem| problem.state);
    let mut spans = vec![Span::styled("Pinwire ", theme.accent())];
    if !app.options.context.is_empty() {
        spans.push(Span::raw(format!("{} ", app.options.context)));
    }
    spans.push(Span::styled(
        format!("{} {}/{} nodes ", theme.glyph(state), totals.live, totals.nodes),
        theme.state(state),
    ));
    let count = app.problems().iter().filter(|problem| problem.state >= State::Doubtful).count();
    if count > 0 {
        spans.push(Span::styled(format!("{} {count} wrong ", theme.glyph(worst)), theme.state(worst)));
    }
    if totals.nodes > 0 && totals.live == 0 {
        let youngest = app.model.nodes().filter_map(|(_, node)| node.age(now)).min();
        if let Some(age) = youngest {
            spans.push(Span::styled(format!("STALE {} ", format::age(age)), theme.state(State::Bad)));
        }
    }
    let mut marks = Vec::new();
    let strong = Style::new().add_modifier(Modifier::REVERSED);
    for (is_on, text) in [
        (app.options.is_replay, " REPLAY "),
        (app.kept_at.is_some(), " KEPT "),
        (app.is_paused, " PAUSED "),
        (app.options.may_act, " RW "),
    ] {
        if is_on {
            marks.push(Span::styled(text, strong));
            marks.push(Span::raw(" "));
        }
    }
    marks.push(Span::styled(format!("{}Z", format::clock(now)), theme.dim()));
    let marks = Line::from(marks);
    // What there is no room for is left out, not drawn over.
    let room = usize::from(area.width).saturating_sub(marks.width() + 1);
    let number = format::number;
    let pieces = [
        format!(" conns {}", number(totals.connections as f64)),
        format!("  docs {}", number(totals.documents as f64)),
        format!("  msg/s {}/{}", number(totals.received), number(totals.sent)),
        format!("  cpu {:.1}", totals.cpu),
        format!("  mem {}", format::bytes(totals.memory as f64)),
    ];
    // Where nobody has told anything there is nothing to add up.
    let has_any = app.model.nodes().any(|(_, node)| node.seen().is_some());
    let pieces = if has_any { &pieces[..] } else { &[] };
    for piece in pieces {
        let used: usize = spans.iter().map(Span::width).sum();
        if used + piece.len() > room {
            break;
        }
        spans.push(Span::raw(piece));
    }
    put(area, 0, Line::from(spans), buffer);
    let width = u16::try_from(marks.width()).unwrap_or(area.width).min(area.width);
    let at = Rect { x: area.right() - width, width, ..area };
    super::empty(at, buffer);
    put(at, 0, marks, buffer);
}

pub(super) fn tabs(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.options.theme;
    let is_wide = area.width >= 112;
    let spans = Kind::ALL[..Kind::TABS].iter().flat_map(|(kind, name)| {
        let key = app.options.keys.key(Does::Show(*kind)).to_owned();
        let short = if is_wide { name } else { kind.short() };
        if *kind == app.screen.kind {
            let style = theme.accent().add_modifier(Modifier::REVERSED);
            [Span::styled(format!("[{key} {short}]"), style), Span::raw("")]
        } else {
            [Span::styled(format!(" {key}"), theme.dim()), Span::raw(format!(" {short}"))]
        }
    });
    put(area, 0, Line::from(spans.collect::<Vec<_>>()), buffer);
}

/// Where one is, and what the list is narrowed to.
pub(super) fn line(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) {
    let theme = app.options.theme;
    let mut spans = vec![Span::styled(app.screen.kind.name().to_owned(), theme.accent())];
    let mut add = |text: String| spans.push(Span::raw(text));
    if let Some(node) = app.screen.scope.node.and_then(|node| app.model.node(node)) {
        add(format!(" of {}", node.label()));
    }
    if let Some(region) = &app.screen.scope.region {
        add(format!(" of {}", format::tame(region)));
    }
    if let Some((tenant, name)) = &app.screen.scope.app {
        add(format!(" {}", format::tame(&format!("{tenant}::{name}"))));
    }
    let document = app.screen.document.as_ref().filter(|_| app.screen.kind == Kind::Document);
    if let Some(document) = document {
        add(format!(" {}", format::tame(&document.name)));
    }
    if let Some(list) = app.list() {
        let pane = app.pane();
        let rows = list.rows(&app.model, &app.screen.scope, now);
        let (shown, all) = (app.rows().len(), rows.len());
        add(if shown == all { format!("  {all}") } else { format!("  {shown} of {all}") });
        if let Some(sort) = pane.sort {
            let title = list.fields().get(sort.field).map_or("", |field| field.title);
            add(format!("  by {title} {}", if sort.is_descending { "desc" } else { "asc" }));
        }
        if let Some(marks) = app.marks() {
            let shown = app.rows().iter().filter(|row| marks.has(rows.key(**row as usize))).count();
            let hidden = match marks.len().saturating_sub(shown) {
                0 => String::new(),
                hidden => format!(" ({hidden} not shown)"),
            };
            add(format!("  {} marked{hidden}", marks.len()));
        }
        if !pane.filter_text.is_empty() {
            add(format!("  filter {}", pane.filter_text));
        }
        if pane.is_following {
            add("  following".into());
        }
        if list == List::Pins {
            let age = app.model.pins.age(now);
            add(age.map_or_else(|| "  being read".into(), |age| format!("  as of {} ago", format::age(age))));
            if let Some(problem) = &app.model.pins.problem {
                spans.push(Span::styled(
                    format!("  {} {problem}", theme.glyph(State::Doubtful)),
                    theme.state(State::Doubtful),
                ));
            }
        }
    }
    // At the end: ids of tenants and apps fill a small screen.
    if let Some(document) = document {
        let app = format::tame(&format!("{}::{}", document.tenant, document.app));
        spans.push(Span::styled(format!("  in {app}"), theme.dim()));
    }
    put(area, 0, Line::from(spans), buffer);
}

/// What is typed, what was said, or what keys do. Gives where the cursor is.
pub(super) fn foot(app: &App, area: Rect, buffer: &mut Buffer) -> Option<(u16, u16)> {
    let theme = app.options.theme;
    if let Some(prompt) = &app.prompt {
        let sign = if prompt.kind == PromptKind::Filter { "/" } else { ":" };
        let beside = match (&prompt.slip, &prompt.hint) {
            (Some(slip), _) => Span::styled(
                format!("   {} {slip}", theme.glyph(State::Doubtful)),
                theme.state(State::Doubtful),
            ),
            (None, Some(hint)) => Span::styled(format!("   {hint}"), theme.dim()),
            (None, None) => Span::raw(""),
        };
        // What is wrong is seen however long the line is.
        let room = area.width.saturating_sub(1);
        let kept = u16::try_from(beside.width()).unwrap_or(u16::MAX).min(room / 2);
        let (text, before) = prompt.visible(room - kept);
        put(area, 0, Line::from(vec![Span::styled(sign, theme.accent()), Span::raw(text), beside]), buffer);
        return Some((
            area.x.saturating_add(1).saturating_add(before).min(area.right().saturating_sub(1)),
            area.y,
        ));
    }
    if let Some((notice, _)) = &app.notice {
        put(area, 0, Line::styled(format::tame(notice), theme.accent()), buffer);
        return None;
    }
    let keys = &app.options.keys;
    // The last go first where it is narrow.
    let mut hints = vec![
        (Does::Help, "help"),
        (Does::Quit, "quit"),
        (Does::Open, "open"),
        (Does::Back, "back"),
        (Does::Filter, "filter"),
        (Does::Command, "command"),
        (Does::SortNext, "sort"),
    ];
    if app.options.is_replay {
        hints.splice(4.., [(Does::Pause, "pause"), (Does::SeekBack, "-10 s"), (Does::SeekForward, "+10 s")]);
    } else if app.options.may_act {
        let act: &[_] = match app.screen.kind {
            Kind::Nodes | Kind::Node => {
                &[(Does::Drain, "drain"), (Does::Undrain, "undrain"), (Does::LogLevel, "log level")]
            }
            Kind::Pins | Kind::Document | Kind::Documents => &[(Does::Move, "move"), (Does::Unpin, "unpin")],
            Kind::Connections => &[(Does::Close, "close")],
            _ => &[],
        };
        hints.splice(4..4, act.iter().copied());
    }
    let spans = hints.into_iter().flat_map(|(does, text)| {
        [
            Span::styled(keys.key(does).to_owned(), theme.accent()),
            Span::styled(format!(" {text}  "), theme.dim()),
        ]
    });
    put(area, 0, Line::from(spans.collect::<Vec<_>>()), buffer);
    None
}
