//! The page: HTML without scripts, dark and light, read aloud as well as seen.

use std::fmt::Write as _;

use crate::text::html;
use crate::{At, DAY, IncidentShown, Kept, Maintenance, Phase, Report, State};

/// Its media type.
pub const MEDIA_TYPE: &str = "text/html; charset=utf-8";
/// What stands in its only `style` element: a Content-Security-Policy names the hash of it.
pub const STYLE: &str = include_str!("page.css");

/// Incidents on the page; the feed and the JSON have all.
const INCIDENTS_MAX: usize = 50;
/// For so long maintenance that is over, or was called off, is on the page.
const PAST_DAYS: u64 = 14;

/// The page as of `now`.
#[must_use]
pub fn render(report: &Report, now: At) -> String {
    let mut out = String::with_capacity(16 << 10);
    // Memory takes whatever is written.
    let _ = write_page(&mut out, report, now);
    out
}

type Written = std::fmt::Result;

fn write_page(out: &mut String, report: &Report, now: At) -> Written {
    let title = html(&report.title);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}: {title}</title>\n\
         <link rel=\"alternate\" type=\"application/atom+xml\" title=\"{title}\" href=\"status.atom\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n",
        overall(report),
    )?;
    writeln!(out, "<p class=\"overall {}\">{}</p>\n</header>\n<main>", class(report.state), verdict(report))?;
    write_regions(out, report)?;
    write_maintenance(out, report, now)?;
    write_incidents(out, report)?;
    write_footer(out, report)
}

fn class(state: Option<State>) -> &'static str {
    state.map_or("unknown", State::word)
}

/// A sign and a word: colour alone says nothing.
fn sign(state: Option<State>) -> String {
    let (glyph, word) = state.map_or(("?", "Not known yet"), |state| (state.glyph(), state.title()));
    format!("<span class=\"sign\" aria-hidden=\"true\">{glyph}</span> {word}")
}

fn overall(report: &Report) -> &'static str {
    report.state.map_or("Not known yet", State::title)
}

fn verdict(report: &Report) -> String {
    let of_state = |state| report.regions.iter().filter(|region| region.state == Some(state)).count();
    let all = report.regions.len();
    let Some(state) = report.state else { return sign(None) };
    let glyph = format!("<span class=\"sign\" aria-hidden=\"true\">{}</span> ", state.glyph());
    let words = match (state, of_state(state)) {
        (State::Operational, number) if number == all => "Everything is operational".to_owned(),
        (State::Operational, number) => {
            format!("{number} of {all} regions are operational, others not known yet")
        }
        (State::Maintenance, number) => format!("Maintenance in {number} of {all} regions"),
        (State::Degraded, number) => format!("Degraded: {number} of {all} regions"),
        (State::Unavailable, number) => format!("Unavailable: {number} of {all} regions"),
    };
    glyph + &words
}

fn time(at: At) -> String {
    format!("<time datetime=\"{at}\">{}</time>", at.for_people())
}

fn write_regions(out: &mut String, report: &Report) -> Written {
    out.write_str(
        "<section aria-labelledby=\"regions\">\n<h2 id=\"regions\">Regions</h2>\n<table>\n<thead><tr>\
         <th scope=\"col\">Region</th><th scope=\"col\">State</th><th scope=\"col\">Since</th></tr></thead>\n<tbody>\n",
    )?;
    for region in &report.regions {
        let area = region.area.as_deref().map(|area| format!(" <small>{}</small>", html(area)));
        let text = Some(&region.text).filter(|text| !text.is_empty());
        let text = text.map(|text| format!("<br><small>{}</small>", html(text))).unwrap_or_default();
        writeln!(
            out,
            "<tr><th scope=\"row\">{}{}</th><td class=\"{}\">{}{text}</td><td>{}</td></tr>",
            html(&region.name),
            area.unwrap_or_default(),
            class(region.state),
            sign(region.state),
            region.since.map(time).unwrap_or_default(),
        )?;
    }
    out.write_str("</tbody>\n</table>\n</section>\n")
}

fn write_maintenance(out: &mut String, report: &Report, now: At) -> Written {
    out.write_str("<section aria-labelledby=\"maintenance\">\n<h2 id=\"maintenance\">Maintenance</h2>\n")?;
    let is_shown = |shown: &&Maintenance| match shown.phase {
        Phase::Planned | Phase::Underway => true,
        Phase::Over | Phase::Withdrawn => {
            now.since(shown.told.to.min(now).max(shown.revised)) < PAST_DAYS * DAY
        }
    };
    let mut is_empty = true;
    for shown in report.maintenance.iter().filter(is_shown) {
        is_empty = false;
        write_notice(out, shown)?;
    }
    if is_empty {
        out.write_str("<p>None is planned.</p>\n")?;
    }
    out.write_str("</section>\n")
}

fn write_notice(out: &mut String, shown: &Maintenance) -> Written {
    let told = &shown.told;
    let phase = match shown.phase {
        Phase::Planned => "Planned",
        Phase::Underway => "Under way",
        Phase::Over => "Over",
        Phase::Withdrawn => "Called off",
    };
    let regions: Vec<String> = told.regions.iter().map(|region| html(region)).collect();
    writeln!(
        out,
        "<article class=\"maintenance {}\">\n<h3>{}</h3>\n<p>{phase}: {}, {} to {}</p>",
        shown.phase.word(),
        html(&told.title),
        regions.join(", "),
        time(told.from),
        time(told.to),
    )?;
    for line in told.text.lines().filter(|line| !line.trim().is_empty()) {
        writeln!(out, "<p>{}</p>", html(line))?;
    }
    out.write_str("</article>\n")
}

fn write_incidents(out: &mut String, report: &Report) -> Written {
    out.write_str("<section aria-labelledby=\"incidents\">\n<h2 id=\"incidents\">Incidents</h2>\n")?;
    // What goes on comes first.
    let (open, over): (Vec<_>, Vec<_>) = report.incidents.iter().partition(|shown| shown.incident.is_open());
    for shown in open.iter().chain(&over).take(INCIDENTS_MAX) {
        write_incident(out, shown)?;
    }
    if report.incidents.is_empty() {
        out.write_str("<p>None in the past 90 days.</p>\n")?;
    } else if report.incidents.len() > INCIDENTS_MAX {
        out.write_str("<p>Older ones are in <a href=\"status.json\">status.json</a>.</p>\n")?;
    }
    out.write_str("</section>\n")
}

fn write_incident(out: &mut String, shown: &IncidentShown) -> Written {
    let incident = &shown.incident;
    let when = match incident.ended {
        Some(ended) => format!("{} to {}", time(incident.began), time(ended)),
        None => format!("Goes on since {}", time(incident.began)),
    };
    let impact = Some(shown.impact);
    writeln!(
        out,
        "<article class=\"{}\">\n<h3>{}: {}</h3>\n<p>{when}</p>\n<ol>",
        class(impact),
        html(&incident.region),
        sign(impact),
    )?;
    for update in &incident.updates {
        writeln!(out, "<li>{} {}</li>", time(update.at), html(&update.line()))?;
    }
    out.write_str("</ol>\n</article>\n")
}

fn write_footer(out: &mut String, report: &Report) -> Written {
    writeln!(
        out,
        "</main>\n<footer>\n<p>As seen from {}. Last change: {}.</p>",
        html(&report.seen_from),
        time(report.updated),
    )?;
    if report.history == Kept::Apart {
        out.write_str("<p>This server is cut off from its region\u{2019}s records, and shows what it knows itself.</p>\n")?;
    }
    out.write_str("<p>Subscribe: <a href=\"status.atom\">Atom feed</a>, <a href=\"status.json\">JSON</a>.")?;
    if let Some(contact) = &report.contact {
        write!(out, " <a href=\"{}\">Contact</a>.", html(contact))?;
    }
    out.write_str("</p>\n</footer>\n</body>\n</html>\n")
}
