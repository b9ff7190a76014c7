//! Samples over time: sparklines of one line and charts of several, with gaps where there are no samples.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget as _;
use ratatui::widgets::canvas::{Canvas, Line as Stroke};

use crate::model::{Millis, Series};
use crate::theme::{Graphics, Theme};

/// A sparkline of several rows, scaled to its most.
pub(super) fn spark(theme: Theme, samples: &[Option<f64>], area: Rect, buffer: &mut Buffer, style: Style) {
    let most = samples.iter().flatten().fold(0.0_f64, |most, sample| most.max(*sample));
    let levels = theme.levels();
    let steps = f64::from(area.height) * 8.0;
    let shown = &samples[samples.len().saturating_sub(usize::from(area.width))..];
    let first = area.right().saturating_sub(u16::try_from(shown.len()).unwrap_or(area.width));
    for (column, sample) in (first..area.right()).zip(shown) {
        match sample {
            None if area.height > 0 => buffer.set_string(column, area.bottom() - 1, theme.gap(), theme.dim()),
            None => {}
            Some(sample) => {
                // Something is never drawn as nothing.
                let filled = if most > 0.0 {
                    (sample / most * steps).ceil().max(if *sample > 0.0 { 1.0 } else { 0.0 })
                } else {
                    0.0
                };
                for row in 0..area.height {
                    let level = (filled - f64::from(row) * 8.0).clamp(0.0, 8.0) as usize;
                    buffer.set_string(column, area.bottom() - 1 - row, levels[level], style);
                }
            }
        }
    }
}

/// A chart: a heading with the newest number, and the line.
pub(super) fn chart(
    theme: Theme,
    title: &str,
    series: &Series,
    show: fn(f64) -> String,
    area: Rect,
    buffer: &mut Buffer,
    now: Millis,
) {
    if area.height < 2 || area.width < 12 {
        return;
    }
    let is_fine = theme.graphics == Graphics::Braille && area.height > 2;
    let count = usize::from(area.width) * if is_fine { 2 } else { 1 };
    let samples = series.window(count.min(600), now);
    let newest = samples.last().copied().flatten().map_or_else(|| "-".to_owned(), show);
    let most = samples.iter().flatten().fold(0.0_f64, |most, sample| most.max(*sample));
    let text = format!("{title} {newest}  most {}", show(most));
    buffer.set_stringn(area.x, area.y, &text, usize::from(area.width), theme.accent());
    let plot = Rect { y: area.y + 1, height: area.height - 1, ..area };
    if is_fine {
        line(theme, &samples, most, plot, buffer);
    } else {
        spark(theme, &samples, plot, buffer, theme.line(0));
    }
}

fn line(theme: Theme, samples: &[Option<f64>], most: f64, area: Rect, buffer: &mut Buffer) {
    let (width, height) = (samples.len() as f64, if most > 0.0 { most * 1.05 } else { 1.0 });
    let colour = theme.line(0).fg.unwrap_or_default();
    let gaps: Vec<usize> =
        samples.iter().enumerate().filter(|(_, sample)| sample.is_none()).map(|(at, _)| at).collect();
    Canvas::default()
        .marker(theme.marker())
        .x_bounds([0.0, width])
        .y_bounds([0.0, height])
        .paint(|context| {
            for (at, pair) in samples.windows(2).enumerate() {
                if let [Some(from), Some(to)] = pair {
                    context.draw(&Stroke::new(at as f64, *from, (at + 1) as f64, *to, colour));
                }
            }
        })
        .render(area, buffer);
    for at in gaps {
        let column = area.x + u16::try_from(at * usize::from(area.width) / samples.len().max(1)).unwrap_or(0);
        if column < area.right() {
            buffer.set_string(column, area.bottom() - 1, theme.gap(), theme.dim());
        }
    }
}
