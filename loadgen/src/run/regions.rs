//! What a thread counts of each region: in all, and in the second that goes on.

use std::collections::BTreeMap;

use crate::results::Region;

/// Regions told apart: whoever redirects to ever new hosts would fill memory and reports.
const REGIONS_MAX: usize = 64;
/// Where the rest goes.
const OTHERS: &str = "other regions";

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    names: Vec<String>,
    /// Upgraded connections that stand.
    open: Vec<u64>,
    total: Vec<Region>,
    second: Vec<Region>,
}

impl Regions {
    /// The number of a region, which is known from now on.
    pub(crate) fn number(&mut self, name: &str) -> u16 {
        let known = |names: &[String], name: &str| names.iter().position(|known| known == name);
        if let Some(number) = known(&self.names, name) {
            return number as u16;
        }
        let name = if self.names.len() < REGIONS_MAX { name } else { OTHERS };
        if let Some(number) = known(&self.names, name) {
            return number as u16;
        }
        self.names.push(name.to_owned());
        self.open.push(0);
        self.total.push(Region::default());
        self.second.push(Region::default());
        (self.names.len() - 1) as u16
    }

    /// Something happened there.
    pub(crate) fn count(&mut self, number: u16, happened: impl Fn(&mut Region)) {
        happened(&mut self.total[usize::from(number)]);
        happened(&mut self.second[usize::from(number)]);
    }

    /// A connection stands; `is_counted` unless it only looks after the others.
    pub(crate) fn opened(&mut self, number: u16, is_counted: bool) {
        let number = usize::from(number);
        self.open[number] += 1;
        if is_counted {
            let open = self.open[number];
            for region in [&mut self.total[number], &mut self.second[number]] {
                region.peak = region.peak.max(open);
            }
        }
    }

    /// It stands no more.
    pub(crate) fn closed(&mut self, number: u16) {
        self.open[usize::from(number)] -= 1;
    }

    /// Ends a second: what happened in it, and what stands.
    pub(crate) fn roll(&mut self) -> BTreeMap<String, Region> {
        let seconds = std::mem::take(&mut self.second);
        self.second = self.open.iter().map(|open| Region { peak: *open, ..Region::default() }).collect();
        let counted = self.names.iter().zip(seconds).zip(&self.open);
        counted.map(|((name, region), open)| (name.clone(), Region { open: *open, ..region })).collect()
    }

    /// What happened in all.
    pub(crate) fn into_total(self) -> BTreeMap<String, Region> {
        self.names.into_iter().zip(self.total).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_what_happened_in_it_and_what_stands() {
        let mut regions = Regions::default();
        let (eu, us) = (regions.number("eu"), regions.number("us"));
        assert_eq!((eu, us, regions.number("eu")), (0, 1, 0));
        regions.opened(us, true);
        regions.count(us, |region| region.joined += 1);
        let second = regions.roll();
        assert_eq!((second["us"].open, second["us"].joined, second["us"].peak), (1, 1, 1));
        regions.closed(us);
        let second = regions.roll();
        assert_eq!((second["us"].open, second["us"].joined, second["us"].peak), (0, 0, 1));
        let total = regions.into_total();
        assert_eq!((total["us"].joined, total["us"].peak, total["eu"].joined), (1, 1, 0));
    }

    #[test]
    fn regions_beyond_the_bound_are_counted_together() {
        let mut regions = Regions::default();
        let last = (0..100).map(|number| regions.number(&format!("r{number}"))).last();
        assert_eq!((last, regions.names.len()), (Some(REGIONS_MAX as u16), REGIONS_MAX + 1));
    }
}
