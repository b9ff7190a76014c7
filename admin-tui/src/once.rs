//! Without a screen: a list once, in several forms; each second, as lines of JSON; a bundle. Exit statuses are for monitoring.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use ratatui::layout::Rect;
use serde_json::{Map, Value as Json, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::{interval, timeout};

use crate::app::{App, Command};
use crate::client::{Fleet, Update, What};
use crate::format::date;
use crate::list::{List, Rows, Value};
use crate::model::{Millis, State};
use crate::record::{Recorder, SCHEMA_VERSION, line};
use crate::run::now;

/// How a list is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Columns, for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// Comma-separated values (RFC 4180).
    Csv,
    /// Prometheus' text.
    Prometheus,
    /// One line for Nagios and its kin, of what is wrong.
    Nagios,
}

/// All that was asked for is there.
pub const GOOD: u8 = 0;
/// Some nodes are not reached: their part is missing. With `nagios`: WARNING.
pub const PARTLY: u8 = 1;
/// With `nagios`: CRITICAL. Flags or files that cannot be used end with it too.
pub const CRITICAL: u8 = 2;
/// No node is reached. With `nagios`: UNKNOWN.
pub const NOTHING: u8 = 3;

/// Nodes, and what is known of them, without a terminal.
#[derive(Debug)]
pub struct Quiet {
    /// What is known.
    pub app: App,
    fleet: Fleet,
    updates: Receiver<Update>,
    recorder: Option<Recorder>,
}

impl Quiet {
    /// Begins to watch.
    #[must_use]
    pub fn new(app: App, fleet: Fleet, updates: Receiver<Update>, recorder: Option<Recorder>) -> Self {
        Self { app, fleet, updates, recorder }
    }

    /// Watches until everything has come that is wanted, or for so long.
    pub async fn gather(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut ticks = interval(Duration::from_millis(20));
        while Instant::now() < end && !self.is_settled() {
            tokio::select! {
                update = self.updates.recv() => {
                    let Some(update) = update else { return };
                    self.take(update);
                }
                _ = ticks.tick() => self.tick(),
            }
        }
    }

    fn take(&mut self, update: Update) {
        let now = now();
        if let Some(recorder) = &mut self.recorder
            && let Some(line) = line(&update, now)
        {
            recorder.record(line);
        }
        self.app.update(update, now);
    }

    fn tick(&mut self) {
        for command in self.app.tick(now()) {
            match command {
                Command::Watch(address) => {
                    self.app.update(Update { node: address.clone(), what: What::Watched }, now());
                    self.fleet.watch(address);
                }
                Command::Ask(address, ask) => self.fleet.ask(address, ask),
                _ => {}
            }
        }
    }

    /// All nodes are known as well as they can be, and every question has an answer.
    fn is_settled(&self) -> bool {
        self.app.model.is_gathered() && self.app.model.is_answered(&self.app.focus())
    }

    /// For so long, whatever comes.
    async fn watch_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut ticks = interval(Duration::from_millis(50));
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let next = async {
                tokio::select! {
                    update = self.updates.recv() => update,
                    _ = ticks.tick() => None,
                }
            };
            match timeout(left, next).await {
                Ok(Some(update)) => self.take(update),
                Ok(None) => self.tick(),
                Err(_) => return,
            }
        }
    }

    /// Whether all nodes, some, or none are reached.
    #[must_use]
    pub fn reached(&self, now: Millis) -> u8 {
        let totals = self.app.model.totals(now);
        match totals.live {
            0 => NOTHING,
            live if live < totals.nodes => PARTLY,
            _ => GOOD,
        }
    }
}

/// Writes the list once. Gives the exit status.
///
/// # Errors
/// What is written to is gone.
pub fn write(
    app: &mut App,
    list: List,
    form: Form,
    reached: u8,
    out: &mut impl Write,
    now: Millis,
) -> io::Result<u8> {
    app.arrange(now);
    let rows = list.rows(&app.model, &app.screen.scope, now);
    let order = app.rows();
    match form {
        Form::Table => table(rows.as_ref(), order, out)?,
        Form::Json => {
            writeln!(out, "{}", serde_json::to_string_pretty(&document(app, list, now)).unwrap_or_default())?;
        }
        Form::Csv => csv(rows.as_ref(), order, out)?,
        Form::Prometheus => prometheus(list, rows.as_ref(), order, app, out, now)?,
        Form::Nagios => return nagios(app, out, now),
    }
    Ok(reached)
}

/// Controls of a terminal are left out; lines stay lines.
fn tame(text: &str) -> String {
    text.split('\n').map(crate::format::tame).collect::<Vec<_>>().join("\n")
}

fn table(rows: &dyn Rows, order: &[u32], out: &mut impl Write) -> io::Result<()> {
    let fields = rows.fields();
    let cells: Vec<Vec<String>> = order
        .iter()
        .map(|row| (0..fields.len()).map(|field| rows.value(*row as usize, field).show()).collect())
        .collect();
    // A column in which nobody has anything is left out.
    let shown: Vec<usize> = (0..fields.len())
        .filter(|field| cells.is_empty() || cells.iter().any(|row| row[*field] != "-"))
        .collect();
    let wide = |text: &str| ratatui::text::Span::raw(text).width();
    let width = |field: usize| {
        cells.iter().map(|row| wide(&row[field])).max().unwrap_or(0).max(wide(fields[field].title))
    };
    let widths: Vec<usize> = (0..fields.len()).map(width).collect();
    let mut line = |texts: &dyn Fn(usize) -> String| -> io::Result<()> {
        let padded = shown.iter().map(|field| {
            let (text, width) = (texts(*field), widths[*field]);
            // Columns of the screen, of which a letter may have two.
            let pad = " ".repeat(width - wide(&text).min(width));
            if fields[*field].is_number { format!("{pad}{text}") } else { format!("{text}{pad}") }
        });
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    line(&|field| fields[field].title.to_owned())?;
    cells.iter().try_for_each(|row| line(&|field| row[field].clone()))
}

fn csv(rows: &dyn Rows, order: &[u32], out: &mut impl Write) -> io::Result<()> {
    let quote = |text: &str| {
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let names: Vec<&str> = rows.fields().iter().map(|field| field.name).collect();
    write!(out, "{}\r\n", names.join(","))?;
    for row in order {
        let cells = (0..names.len()).map(|field| match rows.value(*row as usize, field).json() {
            Json::Null => String::new(),
            Json::String(text) => quote(&tame(&text)),
            other => other.to_string(),
        });
        write!(out, "{}\r\n", cells.collect::<Vec<_>>().join(","))?;
    }
    Ok(())
}

/// What `-o json` prints, and each line of `--stream`.
fn document(app: &App, list: List, now: Millis) -> Json {
    let rows = list.rows(&app.model, &app.screen.scope, now);
    let fields = rows.fields();
    let row = |row: &u32| {
        let cells = fields
            .iter()
            .enumerate()
            .map(|(at, field)| (field.name.to_owned(), rows.value(*row as usize, at).json()));
        let mut cells: Map<String, Json> = cells.collect();
        cells.insert("is_stale".into(), rows.is_stale(*row as usize).into());
        Json::Object(cells)
    };
    let totals = app.model.totals(now);
    let problem = |problem: &crate::model::Problem| json!({ "state": word(problem.state), "subject": problem.subject, "text": problem.text });
    json!({
        "schema_version": SCHEMA_VERSION,
        "at": date(now),
        "view": list.name(),
        "nodes": { "watched": totals.nodes, "live": totals.live },
        "problems": app.problems().iter().map(problem).collect::<Vec<_>>(),
        "rows": app.rows().iter().map(row).collect::<Vec<_>>(),
    })
}

fn word(state: State) -> &'static str {
    match state {
        State::Good => "good",
        State::Unknown => "unknown",
        State::Leaving => "leaving",
        State::Doubtful => "doubtful",
        State::Bad => "bad",
    }
}

fn prometheus(
    list: List,
    rows: &dyn Rows,
    order: &[u32],
    app: &App,
    out: &mut impl Write,
    now: Millis,
) -> io::Result<()> {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let fields = rows.fields();
    // What names a row: its texts, and numbers that are names. States have a metric of their own.
    // The nodes of an app come and go, and it stays the same app.
    let is_name = |name: &str| {
        (list != List::Apps || name != "node")
            && matches!(
                name,
                "name"
                    | "node"
                    | "region"
                    | "document"
                    | "app"
                    | "thread"
                    | "id"
                    | "subject"
                    | "connection"
                    | "license"
                    | "from"
                    | "to"
            )
    };
    let labels = |row: u32| {
        let named = fields.iter().enumerate().filter(|(_, field)| is_name(field.name));
        let pairs = named.filter_map(|(at, field)| match rows.value(row as usize, at) {
            Value::None => None,
            value => Some(format!(
                "{}=\"{}\"",
                field.name,
                escape(&tame(&value.json().as_str().map_or_else(|| value.json().to_string(), str::to_owned)))
            )),
        });
        pairs.collect::<Vec<_>>().join(",")
    };
    let view = list.name();
    for (at, field) in fields.iter().enumerate().filter(|(_, field)| !is_name(field.name)) {
        let name = format!("pinwire_admin_{view}_{}", field.name);
        let mut has_head = false;
        for row in order {
            let line = match rows.value(*row as usize, at) {
                Value::Number(number, _) => format!("{name}{{{}}} {number}", labels(*row)),
                Value::State(_, word) => {
                    format!("{name}{{{},{}=\"{}\"}} 1", labels(*row), field.name, escape(&word))
                }
                _ => continue,
            };
            if !has_head {
                writeln!(out, "# HELP {name} {}\n# TYPE {name} gauge", escape(field.help))?;
                has_head = true;
            }
            writeln!(out, "{line}")?;
        }
    }
    let totals = app.model.totals(now);
    let wrong = app.problems().iter().filter(|problem| problem.state >= State::Doubtful).count();
    for (name, help, value) in [
        ("nodes_watched", "nodes that the console watches", totals.nodes),
        ("nodes_live", "nodes whose numbers are fresh", totals.live),
        ("problems", "what is wrong right now", wrong),
    ] {
        writeln!(
            out,
            "# HELP pinwire_admin_{name} {help}\n# TYPE pinwire_admin_{name} gauge\npinwire_admin_{name} {value}"
        )?;
    }
    Ok(())
}

fn nagios(app: &App, out: &mut impl Write, now: Millis) -> io::Result<u8> {
    let totals = app.model.totals(now);
    let worst = app.problems().first().map_or(State::Good, |problem| problem.state);
    let (status, code) = match (totals.live, worst) {
        (0, _) => ("UNKNOWN", NOTHING),
        (_, State::Bad) => ("CRITICAL", CRITICAL),
        (_, State::Doubtful) => ("WARNING", PARTLY),
        _ => ("OK", GOOD),
    };
    // `|` begins the numbers of a line.
    let plain = |text: &str| crate::format::tame(text).replace('|', "/");
    let wrong: Vec<String> = app
        .problems()
        .iter()
        .take(3)
        .map(|problem| plain(&format!("{} {}", problem.subject, problem.text)))
        .collect();
    let text = if wrong.is_empty() { String::new() } else { format!(": {}", wrong.join("; ")) };
    writeln!(
        out,
        "PINWIRE {status} - {} of {} nodes live{text} | connections={};;;0;{} documents={} messages_in={:.1} messages_out={:.1} problems={}",
        totals.live,
        totals.nodes,
        totals.connections,
        totals.capacity,
        totals.documents,
        totals.received,
        totals.sent,
        app.problems().len()
    )?;
    Ok(code)
}

/// Writes a line of JSON each second until nobody reads them, or so many times. Gives the exit status.
///
/// # Errors
/// What is written to fails in another way than that nobody reads.
pub async fn stream(mut quiet: Quiet, list: List, count: Option<u64>, mut out: impl Write) -> Result<u8> {
    let mut left = count;
    while left != Some(0) {
        quiet.watch_for(Duration::from_secs(1)).await;
        let now = now();
        quiet.app.arrange(now);
        let line = serde_json::to_string(&document(&quiet.app, list, now))?;
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other?,
        }
        left = left.map(|left| left - 1);
    }
    Ok(quiet.reached(now()))
}

/// A picture of a view as plain text, for documents.
#[must_use]
pub fn picture(app: &mut App, width: u16, height: u16, now: Millis) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = ratatui::buffer::Buffer::empty(area);
    app.arrange(now);
    crate::view::draw(app, area, &mut buffer, now);
    let line = |y: u16| {
        let cells = (0..width).filter_map(|x| buffer.cell((x, y)).map(ratatui::buffer::Cell::symbol));
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..height).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{Kind, Options, Screen};
    use crate::model::example;

    const NOW: Millis = 1_800_000_000_000;

    fn written(kind: Kind, form: Form) -> (String, u8) {
        let mut app = App::new(Options::default());
        example::cluster(&mut app.model, NOW);
        app.screen = Screen::of(kind);
        let mut out = Vec::new();
        let code = write(&mut app, kind.list().unwrap(), form, GOOD, &mut out, NOW).unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn every_list_is_written_in_every_form() {
        for (kind, name) in Kind::ALL {
            let Some(list) = kind.list() else { continue };
            let (json, _) = written(kind, Form::Json);
            let json: Json = serde_json::from_str(&json).unwrap();
            let rows = json["rows"].as_array().unwrap().len();
            assert!(rows > 0, "{name}");
            assert_eq!(
                (json["schema_version"].as_u64(), json["view"].as_str()),
                (Some(1), Some(list.name()))
            );
            let (csv, _) = written(kind, Form::Csv);
            assert_eq!(csv.matches("\r\n").count(), rows + 1, "{name}");
            let (table, _) = written(kind, Form::Table);
            assert_eq!(table.lines().count(), rows + 1, "{name}");
        }
    }

    #[test]
    fn prometheus_can_read_it() {
        let (text, _) = written(Kind::Nodes, Form::Prometheus);
        assert!(text.contains("# TYPE pinwire_admin_nodes_connections gauge"));
        assert!(text.contains("pinwire_admin_nodes_state{node=\"eu-central-1/eu1\",region=\"eu-central-1\",state=\"healthy\"} 1"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() && name.starts_with("pinwire_admin_"), "{line}");
        }
    }

    #[test]
    fn no_series_of_prometheus_is_there_twice() {
        for (kind, name) in Kind::ALL {
            if kind.list().is_none_or(List::is_of_texts) {
                continue;
            }
            let (text, _) = written(kind, Form::Prometheus);
            let mut series = std::collections::BTreeSet::new();
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (of, _) = line.rsplit_once(' ').unwrap();
                assert!(series.insert(of), "{name}: {of}");
            }
        }
    }

    #[test]
    fn nobodys_name_reaches_the_terminal_as_a_control() {
        assert_eq!(tame("a\u{1b}]0;b\u{7}\nc"), "a\u{fffd}]0;b\u{fffd}\nc");
    }

    #[test]
    fn nagios_gets_a_line_and_a_status() {
        let (text, code) = written(Kind::Nodes, Form::Nagios);
        assert!(text.starts_with("PINWIRE CRITICAL - 4 of 4 nodes live: "), "{text}");
        assert_eq!((text.lines().count(), code, text.matches('|').count()), (1, CRITICAL, 1));
        let mut app = App::new(Options::default());
        app.screen = Screen::of(Kind::Nodes);
        let mut out = Vec::new();
        assert_eq!(write(&mut app, List::Nodes, Form::Nagios, NOTHING, &mut out, NOW).unwrap(), NOTHING);
    }

    #[test]
    fn csv_quotes_what_has_to_be() {
        struct One;
        const FIELDS: &[crate::list::Field] = &[crate::list::Field::text("a", "A", 1, "")];
        impl Rows for One {
            fn fields(&self) -> &'static [crate::list::Field] {
                FIELDS
            }
            fn len(&self) -> usize {
                1
            }
            fn value(&self, _row: usize, _field: usize) -> Value<'_> {
                Value::text("say \"hi\", you")
            }
        }
        let mut out = Vec::new();
        csv(&One, &[0], &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\r\n\"say \"\"hi\"\", you\"\r\n");
    }
}
