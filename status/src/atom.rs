//! The feed: Atom (RFC 4287), an entry for each incident and each notice.
//!
//! Ids are UUIDs made from names (RFC 9562 section 5.5), the same whenever the feed is made. A notice has the same one in all regions;
//! an incident is what one region saw, and has one of its own in each.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::text::plain;
use crate::{At, IncidentShown, Maintenance, Phase, Report};

/// Its media type.
pub const MEDIA_TYPE: &str = "application/atom+xml; charset=utf-8";

/// Entries at most: readers keep older ones by themselves.
const ENTRIES_MAX: usize = 100;
/// For names of Pinwire's: a random UUID.
const NAMESPACE: [u8; 16] =
    [0x5d, 0x3c, 0x1e, 0x90, 0x7a, 0x4b, 0x4f, 0x6e, 0x9b, 0x21, 0xc8, 0x0d, 0x62, 0xf7, 0x35, 0xea];

struct Entry {
    id: String,
    title: String,
    kind: &'static str,
    published: At,
    updated: At,
    content: String,
}

/// The feed, what changed last first.
#[must_use]
pub fn render(report: &Report) -> Vec<u8> {
    let mut entries: Vec<Entry> = report.incidents.iter().map(|shown| of_incident(report, shown)).collect();
    entries.extend(report.maintenance.iter().map(of_maintenance));
    entries.sort_by(|one, other| (other.updated, &other.id).cmp(&(one.updated, &one.id)));
    entries.truncate(ENTRIES_MAX);
    let mut out = Writer::new(Vec::new());
    // Memory takes whatever is written.
    let _ = write_feed(&mut out, report, &entries);
    out.into_inner()
}

type Out = Writer<Vec<u8>>;

fn write_feed(out: &mut Out, report: &Report, entries: &[Entry]) -> io::Result<()> {
    out.write_event(Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)))?;
    let feed = out.create_element("feed").with_attribute(("xmlns", "http://www.w3.org/2005/Atom"));
    feed.write_inner_content(|out| {
        element(out, "id", &uuid(&format!("feed {} {}", report.url, report.seen_from)))?;
        element(out, "title", &report.title)?;
        element(out, "updated", &report.updated.to_string())?;
        link(out, "self", &format!("{}/status.atom", report.url), "application/atom+xml")?;
        link(out, "alternate", &format!("{}/status", report.url), "text/html")?;
        out.create_element("author").write_inner_content(|out| element(out, "name", &report.title))?;
        element(out, "generator", "Pinwire")?;
        entries.iter().try_for_each(|entry| write_entry(out, entry))
    })?;
    Ok(())
}

fn write_entry(out: &mut Out, entry: &Entry) -> io::Result<()> {
    out.create_element("entry").write_inner_content(|out| {
        element(out, "id", &entry.id)?;
        element(out, "title", &entry.title)?;
        element(out, "published", &entry.published.to_string())?;
        element(out, "updated", &entry.updated.to_string())?;
        out.create_element("category").with_attribute(("term", entry.kind)).write_empty()?;
        let content = out.create_element("content").with_attribute(("type", "text"));
        content.write_text_content(BytesText::new(&plain(&entry.content)))?;
        Ok(())
    })?;
    Ok(())
}

fn element(out: &mut Out, name: &str, text: &str) -> io::Result<()> {
    out.create_element(name).write_text_content(BytesText::new(&plain(text)))?;
    Ok(())
}

fn link(out: &mut Out, rel: &str, href: &str, kind: &str) -> io::Result<()> {
    let href = plain(href);
    let link = out.create_element("link").with_attribute(("rel", rel)).with_attribute(("type", kind));
    link.with_attribute(("href", &*href)).write_empty()?;
    Ok(())
}

fn of_incident(report: &Report, shown: &IncidentShown) -> Entry {
    let incident = &shown.incident;
    let over = if incident.is_open() { "" } else { " (over)" };
    let lines: Vec<String> =
        incident.updates.iter().rev().map(|update| format!("{}: {}", update.at, update.line())).collect();
    Entry {
        id: uuid(&format!("incident {} {} {}", report.url, report.seen_from, incident.id)),
        title: format!("{}: {}{over}", incident.region, shown.impact.title()),
        kind: "incident",
        published: incident.began,
        updated: incident.updated(),
        content: lines.join("\n"),
    }
}

fn of_maintenance(shown: &Maintenance) -> Entry {
    let told = &shown.told;
    let (title, regions) = (&told.title, told.regions.join(", "));
    let title = match shown.phase {
        Phase::Withdrawn => format!("Maintenance called off: {title}"),
        _ => format!("Maintenance: {title}"),
    };
    Entry {
        id: uuid(&format!("maintenance {}", shown.id)),
        title,
        kind: "maintenance",
        // A revision does not say when the first was made; who subscribes orders by what changed.
        published: shown.revised,
        updated: shown.revised,
        content: format!("{regions}, {} to {}\n{}", told.from, told.to, told.text),
    }
}

/// A UUID of version 5.
fn uuid(name: &str) -> String {
    let mut hash = sha1_smol::Sha1::from(NAMESPACE);
    hash.update(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.digest().bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
