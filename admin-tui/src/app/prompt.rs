//! A line that is being typed: at the cursor, with what was typed before.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::text::Span;

/// Letters of a line at most.
const LONGEST: usize = 512;

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    /// A filter, which holds while it is typed.
    Filter,
    /// A command.
    Command,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// What for.
    pub kind: PromptKind,
    letters: Vec<char>,
    /// Letters before the cursor.
    pub at: usize,
    /// What is wrong with it.
    pub slip: Option<String>,
    /// What may stand there, for who does not know.
    pub hint: Option<String>,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// It goes on.
    More,
    /// It is done.
    Done,
    /// It is given up.
    Given,
    /// Its end is asked for.
    Complete,
}

impl Prompt {
    /// A line that begins with something.
    #[must_use]
    pub fn new(kind: PromptKind, text: &str) -> Self {
        let letters: Vec<char> = text.chars().collect();
        Self { kind, at: letters.len(), letters, slip: None, hint: None }
    }

    /// The same, with what may stand there.
    #[must_use]
    pub fn with_hint(mut self, hint: String) -> Self {
        self.hint = Some(hint);
        self
    }

    /// What is typed.
    #[must_use]
    pub fn text(&self) -> String {
        self.letters.iter().collect()
    }

    /// As much of it as there are columns, with the cursor in it: the text, and the columns before the cursor.
    #[must_use]
    pub fn visible(&self, columns: u16) -> (String, u16) {
        let wide = |letter: &char| Span::raw(letter.to_string()).width();
        let columns = usize::from(columns.max(2));
        // A column for the cursor, which may stand behind all of it.
        let mut start = self.at;
        let mut before = 0;
        while start > 0 && before + wide(&self.letters[start - 1]) < columns {
            start -= 1;
            before += wide(&self.letters[start]);
        }
        let mut used = 0;
        let fits = |letter: &&char| {
            used += wide(letter);
            used <= columns
        };
        let text = self.letters[start..].iter().take_while(fits).collect();
        (text, u16::try_from(before).unwrap_or(u16::MAX))
    }

    /// Puts another text in its place.
    pub(super) fn set(&mut self, text: &str) {
        self.letters = text.chars().take(LONGEST).collect();
        self.at = self.letters.len();
    }

    /// Takes what was pasted; a terminal's line ends and other controls are left out.
    pub(super) fn paste(&mut self, text: &str) {
        text.chars().filter(|letter| !letter.is_control()).for_each(|letter| self.insert(letter));
    }

    fn insert(&mut self, letter: char) {
        if self.letters.len() < LONGEST {
            self.letters.insert(self.at, letter);
            self.at += 1;
        }
    }

    pub(super) fn key(&mut self, key: &KeyEvent) -> Typed {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Typed::Done,
            KeyCode::Esc => return Typed::Given,
            KeyCode::Char('c' | 'g') if is_control => return Typed::Given,
            KeyCode::Tab => return Typed::Complete,
            KeyCode::Backspace if self.letters.is_empty() => return Typed::Given,
            KeyCode::Backspace if self.at > 0 => {
                self.at -= 1;
                self.letters.remove(self.at);
            }
            KeyCode::Delete if self.at < self.letters.len() => {
                self.letters.remove(self.at);
            }
            KeyCode::Left => self.at = self.at.saturating_sub(1),
            KeyCode::Right => self.at = (self.at + 1).min(self.letters.len()),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.letters.len(),
            KeyCode::Char('a') if is_control => self.at = 0,
            KeyCode::Char('e') if is_control => self.at = self.letters.len(),
            KeyCode::Char('u') if is_control => {
                self.letters.drain(..self.at);
                self.at = 0;
            }
            KeyCode::Char('w') if is_control => {
                let is_space = |letter: &char| letter.is_whitespace();
                while self.at > 0 && is_space(&self.letters[self.at - 1]) {
                    self.at -= 1;
                    self.letters.remove(self.at);
                }
                while self.at > 0 && !is_space(&self.letters[self.at - 1]) {
                    self.at -= 1;
                    self.letters.remove(self.at);
                }
            }
            KeyCode::Char(letter) if !is_control => self.insert(letter),
            _ => {}
        }
        Typed::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_that_is_too_long_the_part_with_the_cursor_is_seen() {
        let mut prompt = Prompt::new(PromptKind::Filter, "one two three");
        assert_eq!(prompt.visible(20), ("one two three".into(), 13));
        assert_eq!(prompt.visible(6), ("three".into(), 5));
        for _ in 0..5 {
            prompt.key(&KeyEvent::from(KeyCode::Left));
        }
        assert_eq!(prompt.visible(6), (" two t".into(), 5));
        prompt.at = 0;
        assert_eq!(prompt.visible(6), ("one tw".into(), 0));
        let wide = Prompt::new(PromptKind::Filter, "日本語");
        assert_eq!(wide.visible(5), ("本語".into(), 4));
    }

    #[test]
    fn a_line_is_edited_anywhere_and_never_breaks() {
        let mut prompt = Prompt::new(PromptKind::Command, "nodés eu");
        let mut press = |code, modifiers| prompt.key(&KeyEvent::new(code, modifiers));
        for code in [
            KeyCode::Home,
            KeyCode::Left,
            KeyCode::Backspace,
            KeyCode::Delete,
            KeyCode::Char('N'),
            KeyCode::End,
            KeyCode::Right,
            KeyCode::Delete,
        ] {
            assert_eq!(press(code, KeyModifiers::NONE), Typed::More);
        }
        assert_eq!(press(KeyCode::Char('w'), KeyModifiers::CONTROL), Typed::More);
        assert_eq!(prompt.text(), "Nodés ");
        prompt.paste("a\nb\u{1b}");
        assert_eq!(prompt.text(), "Nodés ab");
        for _ in 0..2 * LONGEST {
            prompt.key(&KeyEvent::from(KeyCode::Char('x')));
        }
        assert_eq!(prompt.text().chars().count(), LONGEST);
    }
}
