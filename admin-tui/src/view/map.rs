//! The world with its regions; regions that are nowhere on it stand in a row below it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget as _;
use ratatui::widgets::canvas::{Canvas, Line as Stroke, Map, MapResolution};

use super::put;
use crate::app::App;
use crate::format;
use crate::model::{Millis, RegionState, State, latencies, place, regions};
use crate::theme::Graphics;

/// What of the world is shown: without the poles.
const LONGITUDES: [f64; 2] = [-130.0, 160.0];
const LATITUDES: [f64; 2] = [-48.0, 70.0];

/// Whether any region is somewhere on the map.
pub(super) fn has_any(app: &App, now: Millis) -> bool {
    regions(&app.model, now).iter().any(|region| place(&region.name, region.area.as_deref()).is_some())
}

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) {
    let theme = app.options.theme;
    let regions = regions(&app.model, now);
    let (on_map, elsewhere): (Vec<&RegionState>, Vec<&RegionState>) =
        regions.iter().partition(|region| place(&region.name, region.area.as_deref()).is_some());
    if on_map.is_empty() {
        // A map without anything on it says nothing.
        return links(app, &regions, area, buffer, now);
    }
    let rows = u16::from(!elsewhere.is_empty());
    let plot = Rect { height: area.height.saturating_sub(rows), ..area };
    let land = theme.dim().fg.unwrap_or(Color::Reset);
    let way = theme.line(3).fg.unwrap_or(Color::Reset);
    let trips = latencies(&app.model, now);
    let at = |region: &RegionState| place(&region.name, region.area.as_deref()).unwrap_or_default();
    let map = if theme.graphics == Graphics::Braille { MapResolution::High } else { MapResolution::Low };
    Canvas::default()
        .marker(theme.marker())
        .x_bounds(LONGITUDES)
        .y_bounds(LATITUDES)
        .paint(|context| {
            context.draw(&Map { color: land, resolution: map });
            context.layer();
            for (number, from) in on_map.iter().enumerate() {
                for to in &on_map[number + 1..] {
                    let pair = |a: &RegionState, b: &RegionState| {
                        trips.contains_key(&(a.name.clone(), b.name.clone()))
                    };
                    if pair(from, to) || pair(to, from) {
                        let ((x1, y1), (x2, y2)) = (at(from), at(to));
                        context.draw(&Stroke::new(x1, y1, x2, y2, way));
                    }
                }
            }
        })
        .render(plot, buffer);
    let mut taken: Vec<Rect> = Vec::new();
    for region in &on_map {
        label(app, region, at(region), plot, &mut taken, buffer);
    }
    let names = elsewhere.iter().flat_map(|region| {
        let (state, word) = region.state();
        [
            Span::styled(format!("{} {}", theme.glyph(state), region.name), theme.state(state)),
            Span::raw(format!(" {word}  ")),
        ]
    });
    put(Rect { y: plot.bottom(), height: rows, ..area }, 0, Line::from(names.collect::<Vec<_>>()), buffer);
}

/// A region's sign and name, where there is room beside it.
fn label(
    app: &App,
    region: &RegionState,
    at: (f64, f64),
    area: Rect,
    taken: &mut Vec<Rect>,
    buffer: &mut Buffer,
) {
    let theme = app.options.theme;
    let (state, word) = region.state();
    let share = |value: f64, [from, to]: [f64; 2]| ((value - from) / (to - from)).clamp(0.0, 1.0);
    let column = area.x + (share(at.0, LONGITUDES) * f64::from(area.width.saturating_sub(1))) as u16;
    let row = area.y + ((1.0 - share(at.1, LATITUDES)) * f64::from(area.height.saturating_sub(1))) as u16;
    let mut text = format!("{} {}", theme.glyph(state), region.name);
    if state >= State::Leaving {
        text.push_str(&format!(" {word}"));
    } else if let Some(trip) = region.round_trip.filter(|_| area.width > 70) {
        text.push_str(&format!(" {}", format::milliseconds(trip)));
    }
    let width = u16::try_from(Span::raw(text.as_str()).width()).unwrap_or(area.width).min(area.width);
    let column = column.min(area.right().saturating_sub(width));
    let bottom = area.bottom().saturating_sub(1);
    let free = (0..area.height)
        .flat_map(|step| [row.saturating_add(step).min(bottom), row.saturating_sub(step).max(area.y)]);
    let mut places = free.map(|y| Rect { x: column, y, width, height: 1 });
    let Some(place) = places.find(|place| !taken.iter().any(|other| other.intersects(*place))) else {
        return;
    };
    buffer.set_stringn(place.x, place.y, &text, usize::from(width), theme.state(state));
    taken.push(place);
}

/// Regions one below the other, with round trips.
fn links(app: &App, regions: &[RegionState], area: Rect, buffer: &mut Buffer, now: Millis) {
    let theme = app.options.theme;
    let trips = latencies(&app.model, now);
    for (row, region) in (0..area.height).zip(regions) {
        let (state, word) = region.state();
        let mut spans = vec![
            Span::styled(format!("{} {:<14} ", theme.glyph(state), region.name), theme.state(state)),
            Span::styled(format!("{word:<16} "), theme.state(state)),
            Span::raw(format!(
                "{:>6} conns {:>5} docs ",
                format::number(region.connections as f64),
                format::number(region.documents as f64)
            )),
        ];
        for ((_, to), trip) in trips.iter().filter(|((from, _), _)| *from == region.name) {
            spans.push(Span::styled(format!(" {to} {}", format::milliseconds(*trip)), theme.dim()));
        }
        put(area, row, Line::from(spans), buffer);
    }
}
