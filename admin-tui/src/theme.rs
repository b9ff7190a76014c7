//! Colours that people with any colour vision tell apart (after Okabe and Ito), or none; glyphs; and what a terminal can draw.
//! Whatever a colour says, a glyph and a word beside it say too, and what is selected is marked by `>`.

use clap::ValueEnum;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use serde::Deserialize;

use crate::model::State;

/// Which colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Palette {
    /// For dark terminals, and any colour vision.
    #[default]
    Safe,
    /// Black and white with strong colours.
    HighContrast,
    /// For light terminals.
    Light,
    /// No colours.
    Mono,
}

impl Palette {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Safe => Self::HighContrast,
            Self::HighContrast => Self::Light,
            Self::Light => Self::Mono,
            Self::Mono => Self::Safe,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::HighContrast => "high-contrast",
            Self::Light => "light",
            Self::Mono => "mono",
        }
    }
}

/// What a terminal can draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Graphics {
    /// Dots of Braille, eight a cell.
    #[default]
    Braille,
    /// Blocks.
    Blocks,
    /// ASCII alone.
    Ascii,
}

impl Graphics {
    /// What the environment says that the terminal can do: without UTF-8 it is ASCII, on the console of Linux blocks.
    #[must_use]
    pub fn of_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let is_utf8 = locale.to_lowercase().replace('-', "").contains("utf8");
        match (is_utf8, set("TERM").as_deref()) {
            (false, _) | (_, Some("dumb" | "vt100" | "vt220")) => Self::Ascii,
            (true, Some("linux")) => Self::Blocks,
            (true, _) => Self::Braille,
        }
    }
}

/// Colours and glyphs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Theme {
    /// Which colours.
    pub palette: Palette,
    /// What the terminal can draw.
    pub graphics: Graphics,
}

/// Colours of one palette: good, doubtful, bad, leaving, unknown, accent.
type Six = [Color; 6];

// Of the 256 indexed colours those nearest to Okabe and Ito's, which terminals without true colour have as well.
const SAFE: Six = [
    Color::Indexed(36),
    Color::Indexed(214),
    Color::Indexed(202),
    Color::Indexed(74),
    Color::Indexed(245),
    Color::Indexed(117),
];
const STRONG: Six = [
    Color::Indexed(51),
    Color::Indexed(226),
    Color::Indexed(213),
    Color::Indexed(255),
    Color::Indexed(250),
    Color::Indexed(231),
];
const LIGHT: Six = [
    Color::Indexed(29),
    Color::Indexed(130),
    Color::Indexed(160),
    Color::Indexed(25),
    Color::Indexed(242),
    Color::Indexed(25),
];
/// From cold to hot: one hue's lightness rises, so that order is seen without telling hues apart.
const HEAT_DARK: [u8; 5] = [17, 24, 31, 178, 208];
const HEAT_LIGHT: [u8; 5] = [195, 153, 110, 173, 166];

impl Theme {
    /// Colours unless `NO_COLOR` is set (<https://no-color.org>).
    #[must_use]
    pub fn new(palette: Palette, graphics: Graphics) -> Self {
        Self { palette, graphics }
    }

    fn six(self) -> Option<&'static Six> {
        match self.palette {
            Palette::Safe => Some(&SAFE),
            Palette::HighContrast => Some(&STRONG),
            Palette::Light => Some(&LIGHT),
            Palette::Mono => None,
        }
    }

    fn coloured(self, number: usize, otherwise: Modifier) -> Style {
        self.six().map_or_else(|| Style::new().add_modifier(otherwise), |six| Style::new().fg(six[number]))
    }

    /// A state.
    #[must_use]
    pub fn state(self, state: State) -> Style {
        match state {
            State::Good => self.coloured(0, Modifier::empty()),
            State::Doubtful => self.coloured(1, Modifier::BOLD),
            State::Bad => self.coloured(2, Modifier::BOLD).add_modifier(Modifier::BOLD),
            State::Leaving => self.coloured(3, Modifier::empty()),
            State::Unknown => self.coloured(4, Modifier::DIM),
        }
    }

    /// Its sign.
    #[must_use]
    pub fn glyph(self, state: State) -> &'static str {
        let signs = match state {
            State::Good => ["✔", "+"],
            State::Doubtful => ["▲", "!"],
            State::Bad => ["✖", "X"],
            State::Leaving => ["↓", "v"],
            State::Unknown => ["?", "?"],
        };
        signs[usize::from(self.graphics == Graphics::Ascii)]
    }

    /// Titles and what is chosen.
    #[must_use]
    pub fn accent(self) -> Style {
        self.coloured(5, Modifier::BOLD).add_modifier(Modifier::BOLD)
    }

    /// What only explains, or is old.
    #[must_use]
    pub fn dim(self) -> Style {
        self.coloured(4, Modifier::DIM)
    }

    /// The selected row.
    #[must_use]
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A line of a chart.
    #[must_use]
    pub fn line(self, number: usize) -> Style {
        self.coloured([5, 1, 0, 3][number % 4], Modifier::empty())
    }

    /// A cell of a heat map, and the sign that says the same without colour. `share` is from 0 to 1.
    #[must_use]
    pub fn heat(self, share: f64) -> (Style, &'static str) {
        let step = ((share.clamp(0.0, 1.0) * 5.0) as usize).min(4);
        let sign = match self.graphics {
            Graphics::Ascii => [" ", ".", ":", "*", "#"][step],
            _ => [" ", "░", "▒", "▓", "█"][step],
        };
        let style = match self.palette {
            Palette::Mono => Style::new(),
            Palette::Light => Style::new().bg(Color::Indexed(HEAT_LIGHT[step])).fg(Color::Indexed(16)),
            _ => Style::new().bg(Color::Indexed(HEAT_DARK[step])).fg(Color::Indexed(if step > 2 {
                16
            } else {
                255
            })),
        };
        (style, sign)
    }

    /// Dots of a map or chart.
    #[must_use]
    pub fn marker(self) -> Marker {
        match self.graphics {
            Graphics::Braille => Marker::Braille,
            Graphics::Blocks => Marker::HalfBlock,
            Graphics::Ascii => Marker::Dot,
        }
    }

    /// Levels of a sparkline, from nothing to full.
    #[must_use]
    pub fn levels(self) -> [&'static str; 9] {
        match self.graphics {
            Graphics::Ascii => [" ", ".", ".", "-", "-", "=", "=", "#", "#"],
            _ => [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
        }
    }

    /// A gap of a sparkline.
    #[must_use]
    pub fn gap(self) -> &'static str {
        if self.graphics == Graphics::Ascii { "'" } else { "·" }
    }

    /// A line between two parts.
    #[must_use]
    pub fn rule(self) -> &'static str {
        if self.graphics == Graphics::Ascii { "-" } else { "─" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] = [State::Good, State::Doubtful, State::Bad, State::Leaving, State::Unknown];

    #[test]
    fn without_colours_states_still_differ_by_their_signs() {
        for graphics in [Graphics::Braille, Graphics::Blocks, Graphics::Ascii] {
            let theme = Theme::new(Palette::Mono, graphics);
            let mut signs: Vec<&str> = STATES.iter().map(|state| theme.glyph(*state)).collect();
            signs.sort_unstable();
            signs.dedup();
            assert_eq!(signs.len(), STATES.len());
            assert!(STATES.iter().all(|state| theme.state(*state).fg.is_none()));
            assert!([0.0, 0.5, 1.0].iter().all(|share| theme.heat(*share).0.bg.is_none()));
        }
    }

    #[test]
    fn ascii_is_ascii() {
        let theme = Theme::new(Palette::Safe, Graphics::Ascii);
        let signs = theme.levels().into_iter().chain([theme.gap(), theme.rule()]);
        let signs = signs
            .chain(STATES.iter().map(|state| theme.glyph(*state)))
            .chain([0.0, 0.3, 0.9].map(|share| theme.heat(share).1));
        assert!(signs.into_iter().all(str::is_ascii));
    }
}
