//! Heat maps: round trips from region to region, and how busy each thread of each node is.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;

use super::{Hits, flow, heading, table};
use crate::app::App;
use crate::format;
use crate::list::{List, Strip};
use crate::model::{Millis, RegionState, latencies};
use crate::theme::Theme;

/// Columns of a cell.
const CELL: u16 = 8;
/// Columns of a name to the left.
const NAME: u16 = 16;

/// Round trips: rows are where they were measured.
pub(super) fn trips(app: &App, regions: &[RegionState], area: Rect, buffer: &mut Buffer, now: Millis) {
    let theme = app.options.theme;
    let trips = latencies(&app.model, now);
    let most = trips.values().fold(1.0_f64, |most, trip| most.max(*trip));
    let area = heading(app, "round trips: from the region at the left to the one above", area, buffer);
    let room = usize::from(area.width.saturating_sub(NAME) / CELL);
    for (at, region) in regions.iter().enumerate().take(room) {
        let x = area.x + NAME + u16::try_from(at).unwrap_or(0) * CELL;
        table::cell(buffer, x, area.y, CELL - 1, &short(&region.name), theme.dim(), true);
    }
    for (row, from) in (1..area.height).zip(regions) {
        let y = area.y + row;
        table::cell(buffer, area.x, y, NAME - 1, &from.name, Style::new(), false);
        for (at, to) in regions.iter().enumerate().take(room) {
            let x = area.x + NAME + u16::try_from(at).unwrap_or(0) * CELL;
            let text = match trips.get(&(from.name.clone(), to.name.clone())) {
                _ if from.name == to.name => "·".to_owned(),
                Some(trip) => {
                    let (style, sign) = theme.heat(trip / most);
                    buffer.set_style(Rect { x, y, width: CELL - 1, height: 1 }, style);
                    table::cell(
                        buffer,
                        x,
                        y,
                        CELL - 1,
                        &format!("{sign}{}", format::milliseconds(*trip)),
                        style,
                        true,
                    );
                    continue;
                }
                None => "?".to_owned(),
            };
            table::cell(buffer, x, y, CELL - 1, &text, theme.dim(), true);
        }
    }
}

/// `eu-central-1` in seven columns: `eu-ce-1`.
fn short(name: &str) -> String {
    let parts: Vec<&str> = name.split('-').collect();
    match &parts[..] {
        [area, site, number] => format!("{area}-{}-{number}", site.chars().take(2).collect::<String>()),
        _ => name.chars().take(7).collect(),
    }
}

/// The picture of a row.
pub(super) fn strip(theme: Theme, picture: &Strip, area: Rect, buffer: &mut Buffer) {
    match picture {
        Strip::Heat(cells) => {
            let first = area.right().saturating_sub(u16::try_from(cells.len()).unwrap_or(area.width));
            for (x, cell) in (first.max(area.x)..area.right()).zip(cells) {
                match cell {
                    Some(share) => {
                        let (style, sign) = theme.heat(*share);
                        buffer.set_string(x, area.y, sign, style);
                    }
                    None => buffer.set_string(x, area.y, theme.gap(), theme.dim()),
                }
            }
        }
        Strip::Parts(None) => {
            buffer.set_stringn(area.x, area.y, "nobody dialled", usize::from(area.width), theme.dim());
        }
        Strip::Parts(Some(parts)) => flow::bar(theme, parts, area, buffer),
    }
}

/// Every thread of every node: a row a node, a cell a thread, and the threads of what is selected below.
pub(super) fn cores(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    let nodes = u16::try_from(app.model.nodes().count()).unwrap_or(u16::MAX);
    let height = (nodes + 1).min(area.height / 2).max(3);
    let [top, bottom] = Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(area);
    busy(app, top, buffer, now);
    table::rows(app, List::Cores, bottom, buffer, now)
}

fn busy(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) {
    let theme = app.options.theme;
    let area = heading(app, "how busy each thread is: a row a node, a cell a thread", area, buffer);
    // Threads of very many nodes stand in two or more columns of nodes.
    let nodes: Vec<_> = app.model.nodes().map(|(_, node)| node).collect();
    let threads = nodes.iter().map(|node| node.threads().len()).max().unwrap_or(1).clamp(1, 64);
    let cell = if threads > 16 { 1 } else { 3 };
    let width = 20 + u16::try_from(threads).unwrap_or(64) * cell + 2;
    let columns = (area.width / width).max(1);
    for (number, node) in nodes.into_iter().enumerate() {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let (column, row) = (number / area.height.max(1), number % area.height.max(1));
        if column >= columns {
            break;
        }
        let (x, y) = (area.x + column * width, area.y + row);
        let style = if node.is_stale(now) { theme.dim() } else { Style::new() };
        table::cell(buffer, x, y, 19, &node.label(), style, false);
        for (thread, load) in (0_u16..).zip(node.thread_loads()) {
            let at = x + 20 + thread * cell;
            if at + cell > area.right() {
                break;
            }
            match load.busy.filter(|_| !node.is_stale(now)) {
                None => table::cell(buffer, at, y, cell, "?", theme.dim(), true),
                Some(share) => {
                    let (style, sign) = theme.heat(share);
                    let text = if cell > 1 {
                        format!("{:>2}", (share * 100.0).min(99.0) as u32)
                    } else {
                        sign.to_owned()
                    };
                    let text = if theme.palette == crate::theme::Palette::Mono && cell > 1 {
                        format!("{sign}{text}")
                    } else {
                        text
                    };
                    table::cell(buffer, at, y, cell, &text, style, true);
                }
            }
        }
    }
}
