//! A frame of the live view. At 80 columns it is one column of sections; where there is room, charts stand beside them.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Paragraph, Sparkline, Wrap};

use crate::expression::nanoseconds;
use crate::histogram::Histogram;
use crate::results::VerdictLevel;
use crate::run::Phase;
use crate::view::model::{COURSE_PERCENTILES, Model, Point};
use crate::view::palette::{Palette, State};

/// What a frame needs at least.
pub const MIN_WIDTH: u16 = 72;
/// See [`MIN_WIDTH`].
pub const MIN_HEIGHT: u16 = 20;
/// From here on charts stand beside the figures.
const WIDE: u16 = 124;
/// Columns of the figures there.
const FIGURES: u16 = 78;
/// Heights from which there is room for more.
const TALL: u16 = 30;
/// CPU of a thread above which bursts wait.
const BUSY: f64 = 0.8;

/// Draws what the model knows.
pub fn draw(frame: &mut Frame<'_>, model: &Model, palette: Palette) {
    let area = frame.area();
    if area.width < MIN_WIDTH || area.height < MIN_HEIGHT {
        let text = format!(
            "The live view needs {MIN_WIDTH} columns and {MIN_HEIGHT} lines; here are {} and {}. The run goes on. \
             Make the terminal larger, or use --view lines. q ends the load.",
            area.width, area.height
        );
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    head(frame, top, model, palette);
    if area.width >= WIDE {
        let [left, right] =
            Layout::horizontal([Constraint::Length(FIGURES), Constraint::Min(0)]).spacing(2).areas(middle);
        figures(frame, left, model, palette);
        charts(frame, right, model, palette);
    } else {
        figures(frame, middle, model, palette);
    }
    foot(frame, bottom, model, palette);
}

fn head(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let [title, progress, judged] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    let heading = &model.heading;
    let step = heading.step.as_ref().map_or_else(String::new, |step| format!(", {step}"));
    let phase = phase_words(model);
    let room = usize::from(area.width).saturating_sub(phase.chars().count() + 2);
    let name = format!(" {}{step}  {}", heading.scenario, heading.target);
    frame.render_widget(Line::styled(cut(&name, room), palette.strong()), title);
    frame.render_widget(Line::styled(phase, palette.strong()).right_aligned(), title);
    frame.render_widget(Line::raw(progress_words(model, usize::from(area.width))), progress);
    frame.render_widget(verdict(model, palette, usize::from(area.width)), judged);
}

fn phase_words(model: &Model) -> String {
    let status = &model.status;
    let is_warming = status.load_elapsed.is_some_and(|elapsed| elapsed < model.heading.warm_up);
    match status.phase {
        Phase::Done => "■ done ".to_owned(),
        Phase::Load if model.is_stopping => "■ stopping ".to_owned(),
        Phase::Load if is_warming => "▶ warming up ".to_owned(),
        phase if model.is_stopping => format!("■ {}, stopped ", phase.words()),
        phase => format!("▶ {} ", phase.words()),
    }
}

/// A bar, and how much of the load is over.
fn progress_words(model: &Model, width: usize) -> String {
    let status = &model.status;
    let whole = status.load_seconds;
    let Some(over) = status.load_elapsed.map(|elapsed| elapsed.min(whole)) else {
        let share = status.open as f64 / (status.wanted as f64).max(1.0);
        let text = format!("{} of {} connections", grouped(status.open), grouped(status.wanted));
        return format!(" {} {text}", bar(share, width.saturating_sub(text.len() + 4)));
    };
    let left = (whole - over).max(0.0);
    let text = format!("{} of {}, {} left", clock(over), clock(whole), clock(left));
    format!(" {} {text}", bar(over / whole.max(1e-9), width.saturating_sub(text.len() + 4)))
}

fn verdict(model: &Model, palette: Palette, width: usize) -> Line<'static> {
    let Some(verdict) = model.verdict() else {
        return Line::styled(
            " … no verdict yet: it is told from the load after the warm-up",
            palette.faint(),
        );
    };
    let state = State::from(verdict.level);
    let word = match verdict.level {
        VerdictLevel::Valid => "VALID so far",
        VerdictLevel::Degraded => "DEGRADED so far",
        VerdictLevel::Invalid => "INVALID so far",
    };
    let more = match verdict.reasons.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let reason =
        verdict.reasons.first().cloned().unwrap_or_else(|| "the generator keeps its schedule".to_owned());
    let room = width.saturating_sub(word.len() + more.len() + 6);
    Line::from(vec![
        Span::styled(format!(" {} {word}", state.glyph()), palette.state(state)),
        Span::raw(format!("  {}{more}", cut(&reason, room))),
    ])
}

fn foot(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let text = if model.is_stopping {
        " ending: what is under way is awaited, then reported; q or Ctrl-C again ends the program at once"
    } else {
        " q or Ctrl-C ends the load and reports; again ends the program"
    };
    frame.render_widget(Line::styled(cut(text, usize::from(area.width)), palette.faint()), area);
}

/// Sections from top to bottom; the first ones keep their lines where there are few.
fn figures(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let is_tall = area.height >= TALL;
    let threads = model.last.detail.threads.len().div_ceil(thread_cells(model, area.width).1);
    let server = u16::from(model.server().is_some());
    let fixed = 4 + 6 + 3 + 2 + server;
    let spare = area.height.saturating_sub(fixed);
    let regions = if model.regions.len() < 2 { 0 } else { (model.regions.len() as u16).min(8) };
    // Its title is a line too; a thread of the generator has one in any case.
    let regions = regions.min(spare.saturating_sub(2));
    let regions = if regions > 0 { regions + 1 } else { 0 };
    let spare = spare.saturating_sub(regions);
    let shown = (threads as u16).clamp(1, if is_tall { 12 } else { 2 }).min(spare.max(1));
    let spare = spare.saturating_sub(shown);
    let spark = if is_tall { spare.min(4) } else { spare.min(2) };
    let causes = (model.errors.len() as u16).saturating_sub(1).min(spare.saturating_sub(spark));
    let notes = if spare.saturating_sub(spark + causes) >= 2 { model.notes.len().min(4) as u16 } else { 0 };
    let notes = if notes > 0 { notes + 1 } else { 0 };
    let [load, places, latency, found, generator, said, _] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(regions),
        Constraint::Length(6 + spark),
        Constraint::Length(3 + causes),
        Constraint::Length(2 + shown + server),
        Constraint::Length(notes),
        Constraint::Min(0),
    ])
    .areas(area);
    load_section(frame, load, model, palette);
    if regions > 0 {
        regions_section(frame, places, model, palette);
    }
    latency_section(frame, latency, model, palette);
    found_section(frame, found, model, palette);
    generator_section(frame, generator, model, palette);
    if notes > 0 {
        let inner = section(frame, said, "Notes", palette);
        let lines: Vec<Line<'_>> = model
            .notes
            .iter()
            .map(|note| Line::raw(format!(" {}", cut(note, usize::from(area.width) - 1))))
            .collect();
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

fn section(frame: &mut Frame<'_>, area: Rect, title: &str, palette: Palette) -> Rect {
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(palette.faint())
        .title(Line::styled(format!(" {title} "), palette.strong()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

fn load_section(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let inner = section(frame, area, "Load", palette);
    let (status, last) = (&model.status, &model.last.interval);
    let (state, word) = if status.open >= status.wanted {
        (State::Good, "all stand")
    } else if status.phase <= Phase::Joined {
        (State::Good, "coming")
    } else if status.phase >= Phase::Closing {
        (State::Good, "leaving")
    } else if model.heading.all_stand {
        (State::Doubtful, "some are missing")
    } else {
        (State::Good, "coming and going")
    };
    let dropped = if last.dropped > 0 {
        Span::styled(format!("   ▲ dropped {}", grouped(last.dropped)), palette.state(State::Doubtful))
    } else {
        Span::raw("   dropped 0")
    };
    let planned =
        if model.heading.is_open { grouped(last.planned) } else { "as fast as answers come".to_owned() };
    let lines = vec![
        Line::from(vec![
            Span::raw(format!(" connections {} of {}  ", grouped(status.open), grouped(status.wanted))),
            Span::styled(format!("{} {word}", state.glyph()), palette.state(state)),
            Span::raw(if last.joined > 0 {
                format!("   {} joined/s", grouped(last.joined))
            } else {
                String::new()
            }),
        ]),
        Line::from(vec![
            Span::raw(format!(
                " a second    planned {planned}   sent {}   received {}",
                grouped(last.sent),
                grouped(last.received)
            )),
            dropped,
        ]),
    ];
    let [text, spark] = Layout::vertical([Constraint::Length(2), Constraint::Length(1)]).areas(inner);
    frame.render_widget(Paragraph::new(lines), text);
    spark_line(frame, spark, "received", model, palette, |point| point.received, grouped);
}

/// What stands in each region, and how long who was sent there or lost there took to be back.
fn regions_section(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let inner = section(frame, area, "Regions", palette);
    let timed = |what: &str, histogram: &Histogram| {
        if histogram.count() == 0 {
            return String::new();
        }
        format!("  {what} {} p99", nanoseconds(histogram.percentile(99.0) as f64))
    };
    let lines = model.regions.iter().map(|(name, region)| {
        let line = format!(
            " {:<16} {} open  {} sent away  {} lost{}{}",
            cut(name, 16),
            grouped(region.open),
            grouped(region.sent_away),
            grouped(region.lost),
            timed("redirected", &region.redirect),
            timed("back", &region.recover)
        );
        Line::raw(cut(&line, usize::from(area.width)))
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inner);
}

fn latency_section(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let inner = section(frame, area, "Latency", palette);
    let [table, spark] = Layout::vertical([Constraint::Length(5), Constraint::Min(0)]).areas(inner);
    let heads = ["p50", "p90", "p99", "p99.9", "max"];
    let head = heads.iter().fold(format!(" {:<17}", ""), |line, head| line + &format!("{head:>10}"));
    let row = |name: &str, histogram: &Histogram, style: Style| {
        let mut line = format!(" {name:<17}");
        for percentile in [50.0, 90.0, 99.0, 99.9, 100.0] {
            let figure = if histogram.count() == 0 {
                "-".to_owned()
            } else {
                nanoseconds(histogram.percentile(percentile) as f64)
            };
            line += &format!("{figure:>10}");
        }
        Line::styled(line, style)
    };
    let (last, detail) = (&model.last.interval, &model.last.detail);
    let lines = vec![
        Line::styled(head, palette.faint()),
        row("last second", &last.latency, palette.strong()),
        row("  uncorrected", &detail.uncorrected, Style::new()),
        row("run so far", &model.latency, palette.strong()),
        row("  uncorrected", &model.uncorrected, Style::new()),
    ];
    frame.render_widget(Paragraph::new(lines), table);
    let p99 = |point: &Point| point.latency.map_or(0, |latency| latency[1]);
    spark_line(frame, spark, "p99", model, palette, p99, |value| nanoseconds(value as f64));
}

/// The course of one figure, the newest at the right, with its greatest value.
fn spark_line(
    frame: &mut Frame<'_>,
    area: Rect,
    name: &str,
    model: &Model,
    palette: Palette,
    value: impl Fn(&Point) -> u64,
    show: impl Fn(u64) -> String,
) {
    if area.height == 0 {
        return;
    }
    let [label, plot, most] =
        Layout::horizontal([Constraint::Length(13), Constraint::Min(0), Constraint::Length(14)]).areas(area);
    let data: Vec<u64> = model.course.iter().map(&value).collect();
    let data = &data[data.len().saturating_sub(usize::from(plot.width))..];
    let greatest = data.iter().copied().max().unwrap_or(0);
    frame.render_widget(Line::styled(format!(" {name}"), palette.faint()), label);
    frame.render_widget(Sparkline::default().data(data).max(greatest.max(1)).style(palette.line(0)), plot);
    if greatest > 0 {
        frame.render_widget(Line::styled(format!(" ≤ {}", show(greatest)), palette.faint()), most);
    }
}

fn found_section(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let inner = section(frame, area, "Faults and errors", palette);
    let faults = &model.status.faults;
    let (state, word) = if faults.total() == 0 { (State::Good, "none") } else { (State::Bad, "FAULTS") };
    let forgotten = match faults.forgotten {
        0 => String::new(),
        count => format!("  forgotten {count}"),
    };
    let mut lines = vec![Line::from(vec![
        Span::styled(format!(" {} {word:<7}", state.glyph()), palette.state(state)),
        Span::raw(format!(
            " lost {}  duplicated {}  reordered {}  corrupted {}  diverged {}{forgotten}",
            faults.lost, faults.duplicated, faults.reordered, faults.corrupted, faults.diverged
        )),
    ])];
    let mut causes: Vec<(&String, &u64)> = model.errors.iter().collect();
    causes.sort_by(|one, other| other.1.cmp(one.1));
    let room = usize::from(inner.height).saturating_sub(1).max(1);
    if causes.is_empty() {
        lines.push(Line::styled(" ✔ no errors", palette.state(State::Good)));
    }
    for (number, (cause, count)) in causes.iter().take(room).enumerate() {
        let more = match causes.len() - number - 1 {
            rest if rest > 0 && number + 1 == room => format!(" (and {rest} more causes)"),
            _ => String::new(),
        };
        let text = format!("▲ error   {} x {cause}{more}", grouped(**count));
        let text = cut(&text, usize::from(inner.width) - 1);
        lines.push(Line::styled(format!(" {text}"), palette.state(State::Doubtful)));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

/// Columns that a thread takes, and how many threads a line has.
fn thread_cells(model: &Model, width: u16) -> (usize, usize) {
    let names = model.last.detail.threads.iter().map(|thread| thread.name.chars().count());
    let longest = names.max().unwrap_or(0);
    (longest, (usize::from(width) / (longest + 22)).max(1))
}

/// The threads in so many lines; where not all have room, those that have most to do.
fn thread_lines(model: &Model, palette: Palette, width: u16, lines: usize) -> Vec<Line<'static>> {
    let (longest, columns) = thread_cells(model, width);
    let mut threads = model.last.detail.threads.clone();
    let room = lines * columns;
    let hidden = if threads.len() > room { threads.len() - room.saturating_sub(1) } else { 0 };
    if hidden > 0 {
        threads.sort_by(|one, other| other.busy.total_cmp(&one.busy));
        threads.truncate(room.saturating_sub(1));
    }
    let mut cells: Vec<Vec<Span<'static>>> = threads
        .iter()
        .map(|thread| {
            let (state, word) =
                if thread.busy > BUSY { (State::Doubtful, "▲ busy") } else { (State::Good, "      ") };
            vec![
                Span::raw(format!(" {:<longest$} {} ", thread.name, bar(thread.busy, 6))),
                Span::raw(format!("{:>3.0} %", thread.busy * 100.0)),
                Span::styled(format!(" {word}"), palette.state(state)),
            ]
        })
        .collect();
    if hidden > 0 {
        cells.push(vec![Span::styled(format!(" and {hidden} that do less"), palette.faint())]);
    }
    cells.chunks(columns).map(|cells| Line::from(cells.concat())).collect()
}

fn generator_section(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let inner = section(frame, area, "Generator", palette);
    let detail = &model.last.detail;
    let lag = |histogram: &Histogram| {
        if histogram.count() == 0 {
            "-".to_owned()
        } else {
            format!(
                "{} p99, {} max",
                nanoseconds(histogram.percentile(99.0) as f64),
                nanoseconds(histogram.max() as f64)
            )
        }
    };
    let mut lines = vec![Line::raw(format!(
        " sends late by {}; loop {}",
        lag(&detail.schedule_lag),
        lag(&detail.loop_lag)
    ))];
    let server = model.server().map(|server| {
        Line::raw(format!(
            " server      CPU {:.0} % of a core, memory {:.1} MiB",
            server.cpu_seconds * 100.0,
            server.resident as f64 / f64::from(1 << 20)
        ))
    });
    let room = usize::from(inner.height).saturating_sub(1 + usize::from(server.is_some()));
    lines.extend(thread_lines(model, palette, area.width, room));
    lines.extend(server);
    frame.render_widget(Paragraph::new(lines), inner);
}

fn charts(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let [latency, rates, cpu] =
        Layout::vertical([Constraint::Fill(3), Constraint::Fill(3), Constraint::Fill(2)]).areas(area);
    let keep = usize::from(area.width) * 2;
    let course: Vec<&Point> = model.course.iter().skip(model.course.len().saturating_sub(keep)).collect();
    // A decade is as high as any other: a stall must not flatten everything else.
    let log = |value: u64| (value.max(1) as f64).log10();
    let series: Vec<(&str, Vec<(f64, f64)>)> = COURSE_PERCENTILES
        .iter()
        .enumerate()
        .map(|(at, (name, _))| {
            let points =
                course.iter().filter_map(|point| Some((f64::from(point.second), log(point.latency?[at]))));
            (*name, points.collect())
        })
        .collect();
    let most = series.iter().flat_map(|(_, points)| points).map(|point| point.1).fold(f64::NAN, f64::max);
    let least = series.iter().flat_map(|(_, points)| points).map(|point| point.1).fold(f64::NAN, f64::min);
    let bounds = if most.is_nan() {
        [3.0, 9.0]
    } else {
        [least.floor(), (most + 1e-9).ceil().max(least.floor() + 1.0)]
    };
    chart(frame, latency, "Latency each second", &series, bounds, palette, |value| {
        nanoseconds(10_f64.powf(value))
    });

    let of = |figure: fn(&Point) -> u64| {
        course.iter().map(|point| (f64::from(point.second), figure(point) as f64)).collect::<Vec<_>>()
    };
    let series = [
        ("received", of(|point| point.received)),
        ("sent", of(|point| point.sent)),
        ("planned", of(|point| point.planned)),
    ];
    chart(frame, rates, "Messages a second", &series, from_zero(&series), palette, |value| {
        grouped(value as u64)
    });

    let busiest = course.iter().map(|point| (f64::from(point.second), point.busiest * 100.0)).collect();
    let mut series = vec![("busiest thread", busiest)];
    if course.iter().any(|point| point.server.is_some()) {
        let used = course
            .iter()
            .filter_map(|point| Some((f64::from(point.second), point.server?.cpu_seconds * 100.0)));
        series.push(("server", used.collect()));
    }
    let [low, high] = from_zero(&series);
    chart(frame, cpu, "CPU, % of a core", &series, [low, high.max(100.0)], palette, |value| {
        format!("{value:.0}")
    });
}

fn from_zero(series: &[(&str, Vec<(f64, f64)>)]) -> [f64; 2] {
    let most = series.iter().flat_map(|(_, points)| points).map(|point| point.1).fold(1.0, f64::max);
    [0.0, most * 1.05]
}

/// Lines over seconds, told apart by their marks as well as by colour.
fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    series: &[(&str, Vec<(f64, f64)>)],
    bounds: [f64; 2],
    palette: Palette,
    show: impl Fn(f64) -> String,
) {
    let marks = [Marker::Braille, Marker::Dot, Marker::HalfBlock];
    let glyphs = ["⠒", "•", "▀"];
    let mut heads = vec![Span::styled(format!(" {title} "), palette.strong())];
    for (at, (name, _)) in series.iter().enumerate() {
        heads.push(Span::styled(format!("  {} {name} ", glyphs[at % 3]), palette.line(at)));
    }
    let block = Block::new().borders(Borders::TOP).border_style(palette.faint()).title(Line::from(heads));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    // What comes first is drawn on top.
    let sets = series.iter().enumerate().rev().map(|(at, (_, points))| {
        Dataset::default()
            .marker(marks[at % 3])
            .graph_type(GraphType::Line)
            .style(palette.line(at))
            .data(points)
    });
    let seconds = || series.iter().flat_map(|(_, points)| points).map(|point| point.0);
    let first = seconds().fold(f64::INFINITY, f64::min);
    let last = seconds().fold(1.0, f64::max);
    let first = if first.is_finite() { first.min(last - 1.0) } else { 0.0 };
    let ticks = [bounds[0], f64::midpoint(bounds[0], bounds[1]), bounds[1]];
    let chart = Chart::new(sets.collect())
        .x_axis(
            Axis::default()
                .style(palette.faint())
                .bounds([first, last])
                .labels([format!("{first:.0} s"), format!("{last:.0} s")]),
        )
        .y_axis(
            Axis::default()
                .style(palette.faint())
                .bounds(bounds)
                .labels(ticks.map(|tick| format!("{:>9}", show(tick)))),
        );
    frame.render_widget(chart, inner);
}

/// A bar of so many columns, of which a share is full.
fn bar(share: f64, columns: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * columns as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(columns - full))
}

/// `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `7 s`, `2:05 min`, `1:02:05 h`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02} min"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02} h"),
    }
}

/// As much as there is room for, and a sign where something is left out.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}
