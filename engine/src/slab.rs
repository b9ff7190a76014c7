//! Slots in pages of 64 KiB that are returned when the last of them is vacant. A doubling `Vec` would hold up to
//! twice the memory in use, and all of it forever.

use crate::slot::{Handle, Hot, Slot};

const PAGE_BYTES: usize = 64 * 1024;
/// Slots of a page: whole words of `occupied`.
pub(crate) const PAGE_SLOTS: usize = PAGE_BYTES / size_of::<Hot>() / 64 * 64;
const WORDS: usize = PAGE_SLOTS / 64;

/// Generations go round after this many connections; io_uring's completion tag has 20 bits for them. A slot is
/// given back only when nothing in the kernel refers to it, so a tag cannot be that old.
pub(crate) const GENERATION_MAX: u32 = (1 << 20) - 1;

struct Page {
    slots: Box<[Hot]>,
    occupied: [u64; WORDS],
    used: usize,
}

impl Page {
    fn new() -> Page {
        Page { slots: (0..PAGE_SLOTS).map(|_| Hot::vacant()).collect(), occupied: [0; WORDS], used: 0 }
    }

    fn lowest_vacant(&self) -> Option<usize> {
        let word = self.occupied.iter().position(|word| *word != u64::MAX)?;
        Some(word * 64 + self.occupied[word].trailing_ones() as usize)
    }
}

/// The connections of one thread.
pub(crate) struct Slab {
    pages: Vec<Option<Box<Page>>>,
    used: usize,
    capacity: u32,
    last_generation: u32,
}

impl Slab {
    pub(crate) fn new(capacity: u32) -> Slab {
        Slab { pages: Vec::new(), used: 0, capacity, last_generation: 0 }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Occupies the lowest vacant slot, so that the pages in use stay few.
    pub(crate) fn insert(&mut self) -> Option<Handle> {
        for number in 0..(self.capacity as usize).div_ceil(PAGE_SLOTS) {
            let in_page = match self.pages.get(number) {
                Some(Some(page)) => page.lowest_vacant(),
                _ => Some(0),
            };
            let Some(in_page) = in_page else { continue };
            let index = u32::try_from(number * PAGE_SLOTS + in_page).ok()?;
            return if index < self.capacity { self.insert_at(index) } else { None };
        }
        None
    }

    /// Occupies the slot that someone else (io_uring's descriptor table) chose. `None`: it is taken.
    pub(crate) fn insert_at(&mut self, index: u32) -> Option<Handle> {
        let (number, in_page) = (index as usize / PAGE_SLOTS, index as usize % PAGE_SLOTS);
        if self.pages.len() <= number {
            self.pages.resize_with(number + 1, || None);
        }
        let page = self.pages[number].get_or_insert_with(|| Box::new(Page::new()));
        if page.slots[in_page].generation != 0 {
            return None;
        }
        self.last_generation = self.last_generation % GENERATION_MAX + 1;
        page.slots[in_page].generation = self.last_generation;
        page.occupied[in_page / 64] |= 1 << (in_page % 64);
        page.used += 1;
        self.used += 1;
        Some(Handle { index, generation: self.last_generation })
    }

    /// Vacates the slot and drops what it held; the page goes with its last slot.
    pub(crate) fn remove(&mut self, handle: Handle) {
        let (number, in_page) = (handle.index as usize / PAGE_SLOTS, handle.index as usize % PAGE_SLOTS);
        let Some(Some(page)) = self.pages.get_mut(number) else { return };
        if page.slots[in_page].generation != handle.generation {
            return;
        }
        page.slots[in_page] = Hot::vacant();
        page.occupied[in_page / 64] &= !(1 << (in_page % 64));
        page.used -= 1;
        self.used -= 1;
        if page.used == 0 {
            self.pages[number] = None;
        }
    }

    fn at(&mut self, index: u32) -> Option<&mut Hot> {
        let page = self.pages.get_mut(index as usize / PAGE_SLOTS)?.as_mut()?;
        let hot = &mut page.slots[index as usize % PAGE_SLOTS];
        (hot.generation != 0).then_some(hot)
    }

    /// The occupant the handle was made for, if it is still there.
    pub(crate) fn get(&mut self, handle: Handle) -> Option<&mut Hot> {
        self.at(handle.index).filter(|hot| hot.generation == handle.generation)
    }

    /// The present occupant of a slot as its owner names it: none once it was closed.
    pub(crate) fn open(&mut self, slot: Slot) -> Option<(Handle, &mut Hot)> {
        let hot = self.at(slot.0)?;
        let handle = Handle { index: slot.0, generation: hot.generation };
        (!hot.flags.has(crate::slot::Flags::CLOSING)).then_some((handle, hot))
    }

    /// Read-only view of a slot's occupant.
    pub(crate) fn peek(&self, slot: Slot) -> Option<&Hot> {
        let page = self.pages.get(slot.index() / PAGE_SLOTS)?.as_ref()?;
        let hot = &page.slots[slot.index() % PAGE_SLOTS];
        (hot.generation != 0).then_some(hot)
    }

    /// Heap bytes held for pages.
    pub(crate) fn page_bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count();
        pages * (PAGE_SLOTS * size_of::<Hot>() + size_of::<Page>())
    }

    /// Who has the slot now.
    pub(crate) fn occupant(&mut self, index: u32) -> Option<Handle> {
        self.at(index).map(|hot| Handle { index, generation: hot.generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_24_bytes_and_a_page_fills_64_kib() {
        assert_eq!(size_of::<Hot>(), 24);
        assert_eq!(PAGE_BYTES - PAGE_SLOTS * size_of::<Hot>(), 1024);
    }

    #[test]
    fn pages_are_returned_with_their_last_slot() {
        let mut slab = Slab::new(10_000);
        let pages = |slab: &Slab| slab.page_bytes() / (PAGE_SLOTS * size_of::<Hot>());
        let handles: Vec<_> = (0..2 * PAGE_SLOTS + 1).map(|_| slab.insert().unwrap()).collect();
        assert_eq!(pages(&slab), 3);
        for handle in &handles[PAGE_SLOTS..] {
            slab.remove(*handle);
        }
        assert_eq!(pages(&slab), 1);
        for handle in &handles[..PAGE_SLOTS] {
            slab.remove(*handle);
        }
        assert_eq!(slab.page_bytes(), 0);
        assert_eq!(slab.used(), 0);
    }

    #[test]
    fn the_lowest_vacant_slot_is_taken_first_and_the_capacity_holds() {
        let mut slab = Slab::new(3);
        let first = slab.insert().unwrap();
        let second = slab.insert().unwrap();
        slab.insert().unwrap();
        assert!(slab.insert().is_none());
        slab.remove(second);
        slab.remove(first);
        assert_eq!(slab.insert().unwrap().index, 0);
    }

    #[test]
    fn a_handle_of_a_past_occupant_finds_nothing() {
        let mut slab = Slab::new(1);
        let old = slab.insert().unwrap();
        slab.remove(old);
        let new = slab.insert().unwrap();
        assert_eq!(old.index, new.index);
        assert!(slab.get(old).is_none());
        slab.remove(old);
        assert!(slab.get(new).is_some());
    }

    #[test]
    fn an_idle_slot_owns_no_heap_beyond_its_page() {
        let mut slab = Slab::new(1);
        let handle = slab.insert().unwrap();
        let hot = slab.get(handle).unwrap();
        assert!(hot.cold.is_none());
        hot.cold().tail.push_bytes(b"unsent");
        hot.trim();
        assert!(hot.cold.is_some());
        hot.cold().tail.advance(6);
        hot.trim();
        assert!(hot.cold.is_none());
    }
}
