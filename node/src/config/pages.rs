//! The configuration shown: a file to begin with, what is in force, a schema for editors, and the page of the documentation.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::keys::{Field, KEYS, Key, Reload};
use super::sources::{Origin, Written};
use super::{Change, Problem, Sources};

/// A file to begin with: the region, the secret and what `settings` (`KEY=VALUE`) say is set, everything else stands there as a
/// comment with its default.
///
/// # Errors
/// What is wrong with the settings.
pub fn template(region: &str, secret_file: &str, settings: &[String]) -> Result<String, Vec<Problem>> {
    let own = [format!("region={region}"), format!("tokens.secret_file={secret_file}")];
    let written = Sources { settings: [&own, settings].concat(), ..Sources::default() }.read();
    if !written.problems.is_empty() {
        return Err(written.problems);
    }
    let mut page = String::from(
        "# Configuration of a Pinwire node. `pinwire-node config check --config FILE` finds what is wrong with it; what stands\n\
         # behind # is the default. Keys marked `live` are taken over by a running node on SIGHUP.\n",
    );
    for (table, keys) in tables() {
        if !table.is_empty() {
            let _ = write!(page, "\n[{table}]\n");
        }
        for key in keys {
            let (_, name) = key.split();
            page.push('\n');
            let live = if key.reload == Reload::Live { " (live)" } else { "" };
            for line in wrapped(&format!("{}{live}", key.about)) {
                let _ = writeln!(page, "# {line}");
            }
            let comment = if written.origin(key.name) == Origin::Default { "# " } else { "" };
            let _ = writeln!(page, "{comment}{name} = {}", key.field.show(&written.draft));
        }
    }
    Ok(page)
}

/// What is in force, as TOML, each value with its origin behind it.
pub(super) fn dump(written: &Written) -> String {
    let mut page = String::new();
    for (table, keys) in tables() {
        if !table.is_empty() {
            let _ = write!(page, "\n[{table}]\n");
        }
        for key in keys {
            let (_, name) = key.split();
            let value = key.field.show(&written.draft);
            let _ = writeln!(page, "{name} = {value} # {}", written.origin(key.name));
        }
    }
    page
}

/// Every value, a line each, wherever it was set.
pub(super) fn values(written: &Written) -> String {
    KEYS.iter().map(|key| format!("{} = {}\n", key.name, key.field.show(&written.draft))).collect()
}

/// The same as JSON: a list of `key`, `value` (as TOML), `origin`, `reload`.
pub(super) fn dump_json(written: &Written) -> Value {
    let entry = |key: &Key| {
        json!({
            "key": key.name,
            "value": key.field.show(&written.draft),
            "origin": written.origin(key.name).to_string(),
            "reload": reload(key),
        })
    };
    KEYS.iter().map(entry).collect()
}

/// The keys whose values differ.
pub(super) fn changes(before: &Written, now: &Written) -> Vec<Change> {
    let differing = |key: &&'static Key| key.field.differs(&before.draft, &now.draft);
    let change = |key: &'static Key| Change {
        key: key.name,
        before: key.field.show(&before.draft),
        now: key.field.show(&now.draft),
        is_live: key.reload == Reload::Live,
    };
    KEYS.iter().filter(differing).map(change).collect()
}

/// A JSON Schema of the file, for editors.
#[must_use]
pub fn schema() -> Value {
    let mut properties = Map::new();
    for (table, keys) in tables() {
        let entries: Map<String, Value> =
            keys.iter().map(|key| (key.split().1.to_owned(), key_schema(key))).collect();
        if table.is_empty() {
            properties.extend(entries);
        } else {
            properties.insert(
                table.to_owned(),
                json!({ "type": "object", "properties": entries, "additionalProperties": false }),
            );
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of a Pinwire node",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "required": ["region"],
    })
}

const REDIS_PATTERN: &str = r"^$|^rediss?(\+sentinel|\+cluster)?://";

fn key_schema(key: &Key) -> Value {
    let mut schema = match &key.field {
        Field::Switch(_) => json!({ "type": "boolean" }),
        Field::Count(_, range) => {
            json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
        }
        Field::Entries(_, range) => {
            json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
        }
        Field::Bytes(_, range) => json!({ "anyOf": [
            { "type": "integer", "minimum": range.start(), "maximum": range.end() },
            { "type": "string", "pattern": "^[0-9_]+ ?(B|KiB|MiB|GiB)?$" },
        ] }),
        Field::Time(..) => json!({ "type": "string", "pattern": "^[0-9_]+ ?(ms|s|m|h|d)$" }),
        Field::Text(_) | Field::File(_) => json!({ "type": "string" }),
        Field::Texts(_) | Field::Files(_) => json!({ "type": "array", "items": { "type": "string" } }),
        Field::Choice(_, choices) => json!({ "enum": choices }),
        Field::Address(_) => json!({ "type": "string", "pattern": REDIS_PATTERN }),
        Field::Addresses(_) => json!({
            "type": "object",
            "additionalProperties": { "type": "string", "pattern": REDIS_PATTERN },
        }),
        Field::Regions(_) => json!({ "type": "array", "items": {
            "type": "object",
            "properties": {
                "name": { "type": "string", "pattern": "^[a-z0-9-]+$" },
                "url": { "type": "string", "pattern": "^wss?://" },
                "status": { "enum": ["live", "coming-soon", "maintenance"] },
                "area": { "type": "string" },
            },
            "required": ["name"],
            "additionalProperties": false,
        } }),
    };
    schema["description"] = json!(key.about);
    schema
}

/// `docs/configuration.md`, from its first table on.
#[must_use]
pub fn markdown() -> String {
    let draft = Draft::default();
    let mut page = String::new();
    for (table, keys) in tables() {
        let title =
            if table.is_empty() { "Before the first table".to_owned() } else { format!("`[{table}]`") };
        let _ =
            write!(page, "\n## {title}\n\n| key | default | reload | meaning |\n| --- | --- | --- | --- |\n");
        for key in keys {
            let (_, name) = key.split();
            let default = key.field.show(&draft);
            let about = match &key.field {
                Field::Choice(_, choices) => format!("{} One of `{}`.", key.about, choices.join("`, `")),
                _ => key.about.to_owned(),
            };
            let _ = writeln!(page, "| `{name}` | `{default}` | {} | {about} |", reload(key));
        }
    }
    page
}

fn reload(key: &Key) -> &'static str {
    match key.reload {
        Reload::Live => "live",
        Reload::Restart => "restart",
    }
}

fn tables() -> Vec<(&'static str, Vec<&'static Key>)> {
    let mut tables: Vec<(&str, Vec<&Key>)> = Vec::new();
    for key in KEYS {
        let (table, _) = key.split();
        match tables.last_mut() {
            Some((last, keys)) if *last == table => keys.push(key),
            _ => tables.push((table, vec![key])),
        }
    }
    tables
}

/// Lines of a comment.
fn wrapped(text: &str) -> Vec<String> {
    const WIDTH: usize = 110;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, String::len);
        if last + word.len() + 1 > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
