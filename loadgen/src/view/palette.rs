//! Colours that people with any colour vision tell apart (after Okabe and Ito), or none. Whatever a colour says, a glyph
//! and a word beside it say too.

use ratatui::style::{Color, Modifier, Style};

use crate::results::VerdictLevel;

/// How things are set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    has_colour: bool,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// To be looked at.
    Doubtful,
    /// Not as it should be.
    Bad,
}

impl State {
    /// A sign that is known without colour.
    #[must_use]
    pub fn glyph(self) -> &'static str {
        match self {
            Self::Good => "✔",
            Self::Doubtful => "▲",
            Self::Bad => "✖",
        }
    }
}

impl From<VerdictLevel> for State {
    fn from(level: VerdictLevel) -> Self {
        match level {
            VerdictLevel::Valid => Self::Good,
            VerdictLevel::Degraded => Self::Doubtful,
            VerdictLevel::Invalid => Self::Bad,
        }
    }
}

// Of the 256 indexed colours those nearest to Okabe and Ito's, which terminals without true colour have as well.
const SKY: Color = Color::Indexed(74);
const ORANGE: Color = Color::Indexed(214);
const VERMILION: Color = Color::Indexed(166);
const GREEN: Color = Color::Indexed(36);
const PURPLE: Color = Color::Indexed(175);

impl Palette {
    /// With colours, or in what a monochrome terminal has.
    #[must_use]
    pub fn new(has_colour: bool) -> Self {
        Self { has_colour }
    }

    /// As <https://no-color.org> asks: a variable that is set and not empty means none.
    #[must_use]
    pub fn of_environment() -> Self {
        Self::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn coloured(self, colour: Color, otherwise: Modifier) -> Style {
        if self.has_colour { Style::new().fg(colour) } else { Style::new().add_modifier(otherwise) }
    }

    /// A state.
    #[must_use]
    pub fn state(self, state: State) -> Style {
        match state {
            State::Good => self.coloured(GREEN, Modifier::empty()),
            State::Doubtful => self.coloured(ORANGE, Modifier::BOLD),
            State::Bad => self.coloured(VERMILION, Modifier::BOLD).add_modifier(Modifier::BOLD),
        }
    }

    /// A line of a plot; there are four.
    #[must_use]
    pub fn line(self, number: usize) -> Style {
        self.coloured([SKY, ORANGE, GREEN, PURPLE][number % 4], Modifier::empty())
    }

    /// What matters most.
    #[must_use]
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What only explains.
    #[must_use]
    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}
