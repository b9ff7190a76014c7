//! Lines over an axis, as SVG: told apart by dashes as well as by colour, each named at the plot's foot.

use std::fmt::Write as _;

use crate::report::html::escape;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 60.0;
/// Lines of the grid.
const TICKS: u32 = 4;

/// One line.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How the upright axis goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From 0.
    Linear,
    /// From the least to the greatest.
    Logarithmic,
}

/// A figure with its caption and a text for those who cannot see it.
pub(crate) fn plot(
    title: &str,
    x: &str,
    lines: &[Line<'_>],
    scale: Scale,
    show: impl Fn(f64) -> String,
) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (x_low, x_high) = range(points().map(|point| point.0));
    let (least, greatest) = range(points().map(|point| point.1));
    let (low, high) = match scale {
        Scale::Linear => (0.0, greatest.max(1.0)),
        Scale::Logarithmic => (least.max(1.0), greatest.max(least.max(1.0) * 1.01)),
    };
    let share = |value: f64| match scale {
        Scale::Linear => (value - low) / (high - low),
        Scale::Logarithmic => (value.max(low) / low).ln() / (high / low).ln(),
    };
    let across = |value: f64| LEFT + (value - x_low) / (x_high - x_low).max(1e-9) * (WIDTH - LEFT - RIGHT);
    let up = |value: f64| HEIGHT - BOTTOM - share(value) * (HEIGHT - TOP - BOTTOM);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let told = lines.iter().filter_map(|line| {
        let (_, greatest) = range(line.points.iter().map(|point| point.1));
        (!line.points.is_empty()).then(|| format!("{} up to {}", line.name, show(greatest)))
    });
    let told = told.collect::<Vec<_>>().join(", ");
    let _ = write!(
        out,
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}: {}\">",
        escape(title),
        escape(title),
        escape(&told)
    );
    for tick in 0..=TICKS {
        let part = f64::from(tick) / f64::from(TICKS);
        let value = match scale {
            Scale::Linear => low + (high - low) * part,
            Scale::Logarithmic => low * (high / low).powf(part),
        };
        let y = up(value);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            escape(&show(value))
        );
        let value = x_low + (x_high - x_low) * part;
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.1}</text>",
            across(value),
            HEIGHT - BOTTOM + 16.0
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(LEFT, WIDTH),
        HEIGHT - BOTTOM + 32.0,
        escape(x)
    );
    for (number, line) in lines.iter().enumerate() {
        let mut path = String::new();
        for (at, (x, y)) in line.points.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, across(*x), up(*y));
        }
        let key = LEFT + number as f64 * 200.0;
        let y = HEIGHT - 10.0;
        let _ = write!(
            out,
            "<path class=\"l{number}\" d=\"{path}\"/><path class=\"l{number}\" d=\"M{key} {:.1}h30\"/><text x=\"{:.1}\" y=\"{y}\">{}</text>",
            y - 4.0,
            key + 36.0,
            escape(line.name)
        );
    }
    out.push_str("</svg></figure>");
    out
}

/// Least and greatest; 0 and 0 of nothing.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut values = values.peekable();
    let Some(&first) = values.peek() else { return (0.0, 0.0) };
    values.fold((first, first), |(low, high), value| (low.min(value), high.max(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_within_the_frame_whatever_the_scale() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let lines = [Line { name: "a & b", points: vec![(0.0, 0.0), (1.0, 5e9), (2.0, 3.0)] }];
            let svg = plot("t", "x", &lines, scale, |value| format!("{value:.0}"));
            let path = svg.split("class=\"l0\" d=\"").nth(1).unwrap().split('"').next().unwrap();
            for pair in path.split(['M', 'L']).filter(|pair| !pair.is_empty()) {
                let (x, y) = pair.split_once(' ').unwrap();
                assert!((0.0..=WIDTH).contains(&x.parse().unwrap()), "{path}");
                assert!((0.0..=HEIGHT).contains(&y.parse().unwrap()), "{path}");
            }
            assert!(svg.contains("a &amp; b"));
        }
    }

    #[test]
    fn nothing_to_draw_is_an_empty_frame() {
        let svg =
            plot("t", "x", &[Line { name: "a", points: Vec::new() }], Scale::Logarithmic, |_| String::new());
        assert!(svg.contains("</svg>") && !svg.contains("NaN") && !svg.contains("inf"));
    }
}
