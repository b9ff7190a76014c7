//! Memory for what there are many of: a slab in pages, and lists that grow by little.
//!
//! A doubling `Vec` would hold up to twice what is used and copy everything when it grows; at a million connections both
//! show.

/// Bytes of a page: a size that allocators keep blocks of, so that nothing is lost to rounding.
const PAGE_BYTES: usize = 16 * 1024;

/// Makes room for one more by a quarter of what there is, not by as much again.
pub(crate) fn reserve_one<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 4).max(2));
    }
}

/// Values by index: indices are stable, memory comes and goes a page at a time. An index is free again after
/// [`Slab::remove`].
#[derive(Debug)]
pub struct Slab<T> {
    pages: Vec<Option<Page<T>>>,
    /// Pages that may have a free place, as a stack; entries can be out of date.
    roomy: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    items: Box<[Option<T>]>,
    used: u16,
    /// No item before this one is free.
    first_free: u16,
}

impl<T> Page<T> {
    /// The first free item, which the caller fills.
    fn take_first_free(&mut self) -> Option<usize> {
        let from = usize::from(self.first_free);
        let found = self.items[from..].iter().position(Option::is_none).map(|behind| from + behind);
        self.first_free = found.map_or(self.items.len(), |item| item + 1) as u16;
        found
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), roomy: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// Values of a page.
    const PAGE: usize = {
        let fitting = PAGE_BYTES / size_of::<Option<T>>();
        if fitting == 0 { 1 } else { fitting }
    };

    fn split(index: u32) -> (usize, usize) {
        (index as usize / Self::PAGE, index as usize % Self::PAGE)
    }

    /// Values held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no value is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        let (page, item) = Self::split(index);
        self.pages.get(page)?.as_ref()?.items[item].as_ref()
    }

    /// The value at `index`.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (page, item) = Self::split(index);
        self.pages.get_mut(page)?.as_mut()?.items[item].as_mut()
    }

    /// Puts a value at an index of the caller's choice and returns what was there.
    pub fn put(&mut self, index: u32, value: T) -> Option<T> {
        let (page, item) = Self::split(index);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Page {
            items: (0..Self::PAGE).map(|_| None).collect(),
            used: 0,
            first_free: 0,
        });
        let before = page.items[item].replace(value);
        if before.is_none() {
            page.used += 1;
            self.len += 1;
        }
        before
    }

    /// Puts a value at any free index.
    pub fn insert(&mut self, value: T) -> u32 {
        while let Some(&page) = self.roomy.last() {
            let free = self.pages[page as usize].as_mut().map_or(Some(0), Page::take_first_free);
            if let Some(item) = free {
                let index = page * Self::PAGE as u32 + item as u32;
                self.put(index, value);
                // An entry of the stack says that there is room: `remove` puts a full page back.
                if self.pages[page as usize].as_ref().is_some_and(|page| usize::from(page.used) == Self::PAGE)
                {
                    self.roomy.pop();
                }
                return index;
            }
            self.roomy.pop();
        }
        let page = self.pages.len() as u32;
        if Self::PAGE > 1 {
            self.roomy.push(page);
        }
        self.put(page * Self::PAGE as u32, value);
        page * Self::PAGE as u32
    }

    /// Takes the value at `index` out.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let (number, item) = Self::split(index);
        let page = self.pages.get_mut(number)?.as_mut()?;
        let value = page.items[item].take()?;
        let was_full = usize::from(page.used) == Self::PAGE;
        page.used -= 1;
        page.first_free = page.first_free.min(item as u16);
        self.len -= 1;
        if page.used == 0 {
            self.pages[number] = None;
        }
        if was_full {
            self.roomy.push(number as u32);
        }
        Some(value)
    }

    /// The values in use among the `places` indices from `from` on.
    pub fn range(&self, from: u32, places: u32) -> impl Iterator<Item = (u32, &T)> {
        let end = from.saturating_add(places).min(self.end());
        let mut next = from;
        std::iter::from_fn(move || {
            while next < end {
                let (page, item) = Self::split(next);
                let Some(page) = self.pages.get(page).and_then(Option::as_ref) else {
                    next += (Self::PAGE - item) as u32;
                    continue;
                };
                let index = next;
                next += 1;
                if let Some(value) = &page.items[item] {
                    return Some((index, value));
                }
            }
            None
        })
    }

    /// No index from here on is in use.
    #[must_use]
    pub fn end(&self) -> u32 {
        (self.pages.len() * Self::PAGE) as u32
    }

    /// Every index in use with its value.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.pages.iter().enumerate().flat_map(|(number, page)| {
            page.iter().flat_map(move |page| {
                page.items.iter().enumerate().filter_map(move |(item, value)| {
                    value.as_ref().map(|value| ((number * Self::PAGE + item) as u32, value))
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_slab_agrees_with_a_map_and_returns_empty_pages(ops in prop::collection::vec((any::<bool>(), 0usize..2000), 0..2000)) {
            let mut slab = Slab::default();
            let mut model = BTreeMap::new();
            for (number, (insert, pick)) in ops.into_iter().enumerate() {
                if insert || model.is_empty() {
                    let index = slab.insert(number);
                    prop_assert!(model.insert(index, number).is_none(), "index {} was in use", index);
                } else {
                    let index = *model.keys().nth(pick % model.len()).unwrap();
                    prop_assert_eq!(slab.remove(index), model.remove(&index));
                }
            }
            prop_assert_eq!(slab.len(), model.len());
            prop_assert!(slab.iter().map(|(i, v)| (i, *v)).eq(model.iter().map(|(i, v)| (*i, *v))));
            let pieces = (0..slab.end()).step_by(7).flat_map(|from| slab.range(from, 7));
            prop_assert!(pieces.eq(slab.iter()));
            for index in model.keys() {
                slab.remove(*index);
            }
            prop_assert!(slab.is_empty() && slab.pages.iter().all(Option::is_none));
        }
    }

    #[test]
    fn an_index_of_the_callers_choice_needs_no_neighbours() {
        let mut slab = Slab::default();
        assert_eq!(slab.put(5000, "a"), None);
        assert_eq!(slab.put(5000, "b"), Some("a"));
        assert_eq!((slab.len(), slab.get(5000), slab.get(4999)), (1, Some(&"b"), None));
    }
}
