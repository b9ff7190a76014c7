//! The cursor, filter and order of a list.

use super::Kind;
use crate::list::Target;
use crate::query::{Filter, Slip, Sort, find};

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Pane {
    /// The row that the cursor is on, of those that are shown.
    pub cursor: usize,
    /// The first row on the screen.
    pub offset: usize,
    /// What the cursor is on.
    pub target: Option<Target>,
    /// As it was typed.
    pub filter_text: String,
    /// The same, read.
    pub filter: Filter,
    /// The order.
    pub sort: Option<Sort>,
    /// The cursor stays at the newest row.
    pub is_following: bool,
    /// Rises with each change of filter or order.
    pub version: u64,
}

impl Pane {
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            sort: kind.list().and_then(crate::list::List::first_sort),
            is_following: matches!(kind, Kind::Events | Kind::Logs | Kind::Audit),
            ..Self::default()
        }
    }

    /// Filters from now on.
    pub(super) fn set_filter(&mut self, text: &str, names: &[&str]) -> Result<(), Slip> {
        self.filter = Filter::parse(text, names)?;
        text.clone_into(&mut self.filter_text);
        self.version += 1;
        Ok(())
    }

    /// `FIELD`, `FIELD desc`, `FIELD asc`, or nothing for the order in which rows come.
    pub(super) fn set_sort(&mut self, text: &str, names: &[&str]) -> Result<(), Slip> {
        let mut words = text.split_whitespace();
        self.sort = match words.next() {
            None => None,
            Some(name) => {
                let field = find(name, names)?;
                let is_descending = match words.next() {
                    None => false,
                    Some(word) if "descending".starts_with(word) => true,
                    Some(word) if "ascending".starts_with(word) => false,
                    Some(word) => return Err(Slip(format!("`{word}` is no order; write asc or desc"))),
                };
                Some(Sort { field, is_descending })
            }
        };
        self.version += 1;
        Ok(())
    }

    /// Sorts by another column.
    pub(super) fn sort_beside(&mut self, step: isize, count: usize, is_number: impl Fn(usize) -> bool) {
        let count_signed = isize::try_from(count.max(1)).unwrap_or(1);
        let field = match self.sort {
            Some(sort) => (isize::try_from(sort.field).unwrap_or(0) + step).rem_euclid(count_signed),
            None if step < 0 => count_signed - 1,
            None => 0,
        };
        let field = usize::try_from(field).unwrap_or(0);
        self.sort = Some(Sort { field, is_descending: is_number(field) });
        self.version += 1;
    }
}
