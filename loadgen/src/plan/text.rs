//! A plan in words and columns.

use std::fmt::Write;

use crate::plan::Plan;
use crate::plan::needs::Needs;

/// Columns of names.
const NAME: usize = 30;

pub(crate) fn render(plan: &Plan) -> String {
    let mut out = String::new();
    let asked = &plan.asked;
    let _ = writeln!(
        out,
        "{} connections in documents of {}, {} host(s)",
        grouped(asked.connections as f64),
        asked.members,
        asked.hosts
    );
    let _ = writeln!(out);
    match &plan.host_after_a_failure {
        None => table(&mut out, &["a host"], &[&plan.host]),
        Some(after) => table(&mut out, &["all hosts up", "one is gone"], &[&plan.host, after]),
    }
    // A host must be set up for its worst hour.
    let worst = plan.host_after_a_failure.as_ref().unwrap_or(&plan.host);
    let _ = writeln!(out, "\nsettings");
    for setting in &worst.settings {
        let _ = writeln!(out, "  {:<NAME$} {}", setting.name, setting.value);
        let _ = writeln!(out, "  {:<NAME$} ({})", "", setting.why);
    }
    let _ = writeln!(out, "\nlimits of this plan");
    for limit in &plan.limits {
        let _ = writeln!(out, "  - {limit}");
    }
    out
}

fn table(out: &mut String, heads: &[&str], columns: &[&Needs]) {
    let mut row = |name: &str, cells: Vec<String>| {
        let _ = write!(out, "{name:<NAME$}");
        for cell in cells {
            let _ = write!(out, " {cell:>15}");
        }
        let _ = writeln!(out);
    };
    row("", heads.iter().map(|head| (*head).to_owned()).collect());
    let mut line = |name: &str, cell: &dyn Fn(&Needs) -> String| {
        row(name, columns.iter().map(|needs| cell(needs)).collect());
    };
    line("connections", &|needs| grouped(needs.connections as f64));
    line("documents", &|needs| grouped(needs.documents as f64));
    line("memory", &|needs| bytes(needs.memory.all));
    line("  user: process and threads", &|needs| bytes(needs.memory.process));
    line("  user: connections", &|needs| bytes(needs.memory.connections));
    line("  user: documents", &|needs| bytes(needs.memory.documents));
    line("  user: documents' content", &|needs| bytes(needs.memory.content));
    line("  user: awareness", &|needs| bytes(needs.memory.awareness));
    line("  kernel: sockets", &|needs| bytes(needs.memory.sockets));
    line("  kernel: polls", &|needs| bytes(needs.memory.polls));
    line("  kernel: buffers under way", &|needs| bytes(needs.memory.buffers));
    line("cores", &|needs| needs.threads.to_string());
    line("  busy", &|needs| format!("{:.2}", needs.cores.busy));
    line("  of that updates", &|needs| format!("{:.2}", needs.cores.updates));
    line("  of that awareness", &|needs| format!("{:.2}", needs.cores.awareness));
    line("  of that pings, idle frames", &|needs| format!("{:.2}", needs.cores.keeping_alive));
    line("  of that handshakes", &|needs| format!("{:.2}", needs.cores.handshakes));
    line("deliveries/s", &|needs| grouped(needs.traffic.deliveries));
    line("network out", &|needs| bits(needs.network.bits_out));
    line("network in", &|needs| bits(needs.network.bits_in));
    line("packets/s, out and in alike", &|needs| grouped(needs.network.packets_out));
}

/// `1,250,000`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn bytes(value: f64) -> String {
    match value {
        large if large >= 1e9 => format!("{:.2} GB", large / 1e9),
        _ => format!("{:.1} MB", value / 1e6),
    }
}

fn bits(value: f64) -> String {
    match value {
        large if large >= 1e9 => format!("{:.2} Gbit/s", large / 1e9),
        _ => format!("{:.1} Mbit/s", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_read_them() {
        assert_eq!([grouped(999.0), grouped(1e3), grouped(1_234_567.0)], ["999", "1,000", "1,234,567"]);
        assert_eq!([bytes(1.5e6), bytes(2e9)], ["1.5 MB", "2.00 GB"]);
        assert_eq!([bits(1.5e6), bits(2e9)], ["1.5 Mbit/s", "2.00 Gbit/s"]);
    }
}
