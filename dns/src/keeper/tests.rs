//! One keeper over a zone that the test plays.

use super::{Effect, Keeper, KeeperSettings, Member, News, Reason, SECOND, Standing, Wanted};
use crate::ProviderError;
use crate::provider::{Addresses, Change, Held};
use std::net::{IpAddr, Ipv4Addr};

const CHECK: u64 = 10 * SECOND;

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

fn addresses(numbers: &[u8]) -> Addresses {
    numbers.iter().map(|number| address(*number)).collect()
}

fn member(number: u8, standing: Standing) -> Member {
    Member { node: format!("n{number}"), addresses: addresses(&[number]), standing }
}

fn failure() -> ProviderError {
    ProviderError::failed("DNS server ns1:53", "cannot connect", "does it run?")
}

/// Node 1, and a zone.
struct Bench {
    keeper: Keeper,
    now: u64,
    zone: Addresses,
    /// Of those, what resolvers keep for too long, and whether the provider lets that be put right.
    slow: Addresses,
    is_stubborn: bool,
    is_away: bool,
    changes: Vec<Change>,
    reads: usize,
    news: Vec<News>,
}

impl Bench {
    fn new(zone: &[u8]) -> Self {
        let settings = KeeperSettings::new("n1", addresses(&[1]), CHECK).unwrap();
        let now = 1_000 * SECOND;
        let keeper = Keeper::new(settings, 1, now);
        Self {
            keeper,
            now,
            zone: addresses(zone),
            slow: Addresses::new(),
            is_stubborn: false,
            is_away: false,
            changes: Vec::new(),
            reads: 0,
            news: Vec::new(),
        }
    }

    fn want(&mut self, wanted: Wanted) {
        self.keeper.want(wanted, "82 % of memory");
        self.run(0);
    }

    /// Lets so many seconds pass.
    fn run(&mut self, seconds: u64) {
        let end = self.now + seconds * SECOND;
        self.keeper.begin(self.now);
        loop {
            while let Some(effect) = self.keeper.next_effect() {
                self.do_it(effect);
            }
            let due = self.keeper.next_deadline_us().max(self.now);
            if due > end {
                break;
            }
            self.now = due;
            self.keeper.begin(due);
        }
        self.now = end;
        self.keeper.begin(end);
    }

    fn do_it(&mut self, effect: Effect) {
        match effect {
            Effect::Read(ask) => {
                self.reads += 1;
                let held = Held { addresses: self.zone.clone(), slow: self.slow.clone() };
                self.keeper.has_read(ask, if self.is_away { Err(failure()) } else { Ok(held) });
            }
            Effect::Change(ask, change) => {
                let outcome = match &change.only_if {
                    _ if self.is_away => Err(failure()),
                    Some(expected) if *expected != self.zone => Err(ProviderError::Changed),
                    _ => {
                        change.apply(&mut self.zone);
                        if !self.is_stubborn {
                            self.slow = &self.slow - &change.add;
                        }
                        Ok(())
                    }
                };
                self.changes.push(change);
                self.keeper.has_changed(ask, outcome);
            }
            Effect::Tell(news) => self.news.push(news),
        }
    }
}

#[test]
fn a_node_that_is_ready_is_in_at_once_and_others_stay_as_they_are() {
    let mut bench = Bench::new(&[9]);
    bench.run(5);
    assert_eq!(bench.zone, addresses(&[9]));
    bench.want(Wanted::In);
    assert_eq!(bench.zone, addresses(&[1, 9]));
    assert_eq!(bench.changes.len(), 1);
    assert_eq!(bench.changes[0].only_if, None);
    assert!(matches!(bench.news.last(), Some(News::Joined { .. })));
    bench.run(300);
    assert_eq!(bench.changes.len(), 1);
    assert!((24..=45).contains(&bench.reads), "{}", bench.reads);
    assert_eq!(bench.keeper.state().is_in, Some(true));
}

#[test]
fn a_record_of_an_earlier_life_is_dropped_at_start_unless_it_is_the_last() {
    let mut bench = Bench::new(&[1, 2]);
    bench.keeper.see_pool(Some(&[member(2, Standing::In)]));
    bench.run(1);
    assert_eq!(bench.zone, addresses(&[2]));
    let mut alone = Bench::new(&[1]);
    alone.keeper.see_pool(Some(&[]));
    alone.run(60);
    assert_eq!(alone.zone, addresses(&[1]));
    assert!(alone.keeper.state().is_kept);
    let mut gone = Bench::new(&[]);
    gone.keeper.see_pool(Some(&[]));
    gone.run(60);
    assert!(gone.zone.is_empty());
}

#[test]
fn a_record_that_somebody_lost_is_repaired_but_not_endlessly_fast() {
    let mut bench = Bench::new(&[]);
    bench.want(Wanted::In);
    bench.run(60);
    bench.zone.clear();
    bench.run(13);
    assert_eq!(bench.zone, addresses(&[1]));
    assert!(matches!(bench.news.last(), Some(News::Repaired { .. })));
    let before = bench.changes.len();
    for _ in 0..600 {
        bench.zone.clear();
        bench.run(1);
    }
    let changes = bench.changes.len() - before;
    assert!((20..=44).contains(&changes), "{changes}");
}

#[test]
fn high_water_takes_it_out_and_it_comes_back_after_it_was_well_for_a_while() {
    let mut bench = Bench::new(&[2]);
    bench.keeper.see_pool(Some(&[member(2, Standing::In)]));
    bench.want(Wanted::In);
    bench.run(60);
    bench.want(Wanted::Out(Reason::HighWater));
    assert_eq!(bench.zone, addresses(&[2]));
    assert_eq!(bench.changes.last().unwrap().only_if, Some(addresses(&[1, 2])));
    bench.run(30);
    bench.want(Wanted::In);
    assert_eq!(bench.zone, addresses(&[2]));
    bench.run(2);
    assert_eq!(bench.zone, addresses(&[2]));
    bench.run(2);
    assert_eq!(bench.zone, addresses(&[1, 2]));
}

#[test]
fn what_is_over_before_it_was_well_for_long_changes_nothing() {
    let mut bench = Bench::new(&[2]);
    bench.keeper.see_pool(Some(&[member(2, Standing::In)]));
    bench.want(Wanted::In);
    bench.run(60);
    let sawtooth = bench.changes.len();
    for _ in 0..100 {
        bench.want(Wanted::Out(Reason::HighWater));
        bench.run(2);
        bench.want(Wanted::In);
        bench.run(2);
    }
    assert_eq!(bench.changes.len(), sawtooth + 1);
    assert_eq!(bench.zone, addresses(&[2]));
}

#[test]
fn somebody_who_was_faster_is_seen_before_it_leaves() {
    let mut bench = Bench::new(&[2]);
    bench.keeper.see_pool(Some(&[member(2, Standing::In)]));
    bench.want(Wanted::In);
    bench.run(60);
    bench.keeper.want(Wanted::Out(Reason::HighWater), "82 %");
    let mut asked = None;
    while let Some(effect) = bench.keeper.next_effect() {
        match effect {
            Effect::Read(ask) => bench.keeper.has_read(ask, Ok(bench.zone.clone().into())),
            Effect::Change(ask, change) => asked = Some((ask, change)),
            Effect::Tell(_) => {}
        }
    }
    // The other one leaves first, on account of this one.
    bench.zone.remove(&address(2));
    let (ask, change) = asked.expect("a change");
    bench.do_it(Effect::Change(ask, change));
    bench.run(60);
    assert_eq!(bench.zone, addresses(&[1]));
    assert!(bench.keeper.state().is_kept);
    assert!(bench.news.iter().any(|news| matches!(news, News::Kept { .. })));
}

#[test]
fn a_dead_nodes_record_goes_and_that_of_a_stranger_stays() {
    let mut bench = Bench::new(&[2, 9]);
    bench.keeper.see_pool(Some(&[member(1, Standing::In), member(2, Standing::In)]));
    bench.want(Wanted::In);
    bench.run(60);
    bench.keeper.see_pool(Some(&[member(1, Standing::In), member(2, Standing::Dead)]));
    bench.run(3);
    assert_eq!(bench.zone, addresses(&[1, 9]));
    let removed = News::RemovedDead { node: "n2".to_owned(), addresses: addresses(&[2]) };
    assert!(bench.news.contains(&removed));
}

#[test]
fn a_dead_nodes_record_that_somebody_else_has_now_is_left_alone() {
    let mut bench = Bench::new(&[2]);
    bench.keeper.see_pool(Some(&[member(1, Standing::In), member(2, Standing::In)]));
    bench.want(Wanted::In);
    bench.run(60);
    bench.keeper.see_pool(Some(&[member(1, Standing::In), member(2, Standing::Dead)]));
    // Another cluster has a node at that address now, and repairs its record.
    let mut removals = 0;
    for _ in 0..1_200 {
        bench.run(1);
        removals += usize::from(!bench.zone.contains(&address(2)));
        bench.zone.insert(address(2));
    }
    assert_eq!(removals, 2, "once, and a late word of the dead");
    let told = News::LeftAlone { node: "n2".to_owned(), address: address(2) };
    assert_eq!(bench.news.iter().filter(|news| **news == told).count(), 1);
    // It is a node of the pool again, and dies again: that is another matter.
    bench.keeper.see_pool(Some(&[member(1, Standing::In), member(2, Standing::In)]));
    bench.run(1);
    bench.keeper.see_pool(Some(&[member(1, Standing::In), member(2, Standing::Dead)]));
    bench.run(3);
    assert_eq!(bench.zone, addresses(&[1]));
}

#[test]
fn a_ttl_that_somebody_made_longer_is_put_right() {
    let mut bench = Bench::new(&[9]);
    bench.want(Wanted::In);
    bench.run(60);
    let before = bench.changes.len();
    bench.slow = addresses(&[1, 9]);
    bench.run(13);
    assert_eq!(bench.slow, addresses(&[9]), "others put theirs right, and strangers' is theirs");
    assert_eq!(bench.changes[before..], [Change { add: addresses(&[1]), ..Change::default() }]);
    let told = News::Shortened { addresses: addresses(&[1]), is_last: false };
    assert_eq!(bench.news.last(), Some(&told));
    bench.run(300);
    assert_eq!(bench.changes.len(), before + 1);
}

#[test]
fn a_ttl_that_cannot_be_put_right_is_told_and_not_argued_about() {
    let mut bench = Bench::new(&[]);
    bench.is_stubborn = true;
    bench.want(Wanted::In);
    bench.run(60);
    let before = bench.changes.len();
    bench.slow = addresses(&[1]);
    bench.run(3_600);
    assert_eq!(bench.changes.len(), before + 3);
    let warnings: Vec<&News> = bench.news.iter().filter(|news| news.is_warning()).collect();
    assert_eq!(warnings, [&News::Shortened { addresses: addresses(&[1]), is_last: true }]);
    // It was right meanwhile, and is not again.
    bench.slow.clear();
    bench.run(60);
    bench.slow = addresses(&[1]);
    bench.run(3_600);
    assert_eq!(bench.changes.len(), before + 6);
}

#[test]
fn a_provider_that_is_away_for_hours_is_asked_once_a_minute_and_what_happened_meanwhile_is_made_good() {
    let mut bench = Bench::new(&[2, 3]);
    let all_in = [member(1, Standing::In), member(2, Standing::In), member(3, Standing::In)];
    bench.keeper.see_pool(Some(&all_in));
    bench.want(Wanted::In);
    bench.run(60);
    bench.is_away = true;
    bench.run(3_600);
    // One dies, and the pool has forgotten it by the time that the provider is back.
    bench.keeper.see_pool(Some(&[
        member(1, Standing::In),
        member(2, Standing::Dead),
        member(3, Standing::In),
    ]));
    bench.run(3_600);
    bench.keeper.see_pool(Some(&[member(1, Standing::In), member(3, Standing::In)]));
    bench.want(Wanted::Out(Reason::HighWater));
    let before = bench.reads;
    bench.run(5 * 3_600);
    let reads = bench.reads - before;
    assert!((5 * 60..=5 * 120 + 1).contains(&reads), "{reads}");
    assert_eq!(bench.news.iter().filter(|news| matches!(news, News::Failing { .. })).count(), 1);
    bench.is_away = false;
    bench.run(61);
    assert_eq!(bench.zone, addresses(&[3]));
    assert_eq!(bench.keeper.state().trouble, None);
}

#[test]
fn a_provider_that_fails_is_seen_and_asked_more_and_more_rarely() {
    let mut bench = Bench::new(&[]);
    bench.is_away = true;
    bench.want(Wanted::In);
    bench.run(600);
    let state = bench.keeper.state();
    let trouble = state.trouble.expect("trouble");
    assert_eq!(trouble.since_us, 1_000 * SECOND);
    assert!((14..=30).contains(&trouble.attempts), "{trouble:?}");
    assert_eq!(&*trouble.last, "DNS server ns1:53: cannot connect; does it run?");
    assert_eq!(bench.news.iter().filter(|news| matches!(news, News::Failing { .. })).count(), 1);
    bench.is_away = false;
    bench.run(61);
    assert_eq!(bench.zone, addresses(&[1]));
    assert_eq!(bench.keeper.state().trouble, None);
    assert!(bench.news.iter().any(|news| matches!(news, News::Recovered { .. })));
}

#[test]
fn a_drain_does_not_wait_for_a_long_pause_nor_for_its_turn() {
    let mut bench = Bench::new(&[]);
    bench.want(Wanted::In);
    for _ in 0..100 {
        bench.zone.clear();
        bench.run(1);
    }
    bench.zone = addresses(&[1]);
    bench.is_away = true;
    bench.run(300);
    bench.want(Wanted::Out(Reason::Draining));
    bench.is_away = false;
    bench.run(2);
    assert!(bench.zone.is_empty());
    assert_eq!(bench.keeper.state().is_out, Some(true));
}

#[test]
fn an_answer_to_something_else_is_none() {
    let mut bench = Bench::new(&[]);
    bench.run(0);
    let stale = super::AskId(1);
    bench.keeper.has_read(stale, Ok(addresses(&[7]).into()));
    assert_eq!(bench.keeper.state().zone, Some(Addresses::new()));
}

#[test]
fn addresses_that_nobody_reaches_are_no_settings() {
    for text in ["0.0.0.0", "::", "224.0.0.1"] {
        let addresses = Addresses::from([text.parse().unwrap()]);
        assert_eq!(KeeperSettings::new("n1", addresses, CHECK).unwrap_err().setting, "addresses");
    }
    assert!(KeeperSettings::new("n1", Addresses::new(), CHECK).is_err());
}
