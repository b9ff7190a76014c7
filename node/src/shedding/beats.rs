//! The pool of the region's nodes, asked every other second in a task of its own: nobody waits for the Redis that keeps it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pinwire_pool::{Beat, Heard, Member, PoolError, RedisPool, Seen};
use pinwire_redis::Settings;
use pinwire_shed::{Demand, Leave, allot};
use tokio::task::JoinSet;

use super::standing::LEASE;
use super::{Pool, Reach};
use crate::cluster::{StartError, link_with};
use crate::config::RedisUrl;

/// How often a node tells how it is.
const EVERY: Duration = Duration::from_secs(2);
/// How long addresses of nodes that are gone are told: for longer than anybody takes to remove their records.
const RECALL: Duration = Duration::from_secs(24 * 3_600);
/// Bounds of the link: an answer that is later is of no use.
const LINK: Settings = Settings {
    deadline: Duration::from_millis(1_500),
    connect: Duration::from_millis(1_000),
    calls_max: 4,
    messages_max: 16,
    message_bytes_max: 1 << 16,
};

/// What a beat came to.
struct Answer {
    /// What was said.
    me: Member,
    asked: Instant,
    /// Unix time in microseconds in the middle of the call.
    middle_us: i64,
    outcome: Result<Heard, PoolError>,
}

/// Beats, one at a time.
pub(crate) struct Beats {
    /// `None` where a node is its own pool.
    pool: Option<Arc<RedisPool>>,
    under_way: JoinSet<Answer>,
    /// As it was told last, and when.
    told: Option<(Member, Instant)>,
    view: Pool,
    /// What was heard before that and when it was asked, the earliest first: all of the last [`EVERY`], and one that is older. A few,
    /// since a node looks at itself four times a second.
    before: VecDeque<(Arc<Heard>, Instant)>,
    /// It did not answer, and that was told: once, not with each beat.
    is_missed: bool,
    /// What it said when it heard that.
    said: Member,
}

/// News from the pool.
pub(crate) struct News {
    pub(crate) heard: Arc<Heard>,
    /// By how much this node's clock is ahead of the pool's, in milliseconds.
    pub(crate) ahead_ms: i64,
    pub(crate) is_doubled: bool,
}

impl Beats {
    /// Through the region's Redis, if there is one; on the thread of a runtime that is entered.
    ///
    /// # Errors
    /// A URL that cannot be used.
    pub(crate) fn new(url: Option<&RedisUrl>, region: &str) -> Result<Self, StartError> {
        let pool = url.map(|url| link_with(url, LINK).map(|link| Arc::new(RedisPool::new(link, region))));
        let pool = pool.transpose()?;
        let reach = match pool {
            None => Reach::Alone,
            Some(_) => Reach::Lost { why: "not asked yet".into() },
        };
        let view = Pool { reach, heard: None };
        Ok(Self {
            pool,
            under_way: JoinSet::new(),
            told: None,
            view,
            before: VecDeque::new(),
            is_missed: false,
            said: Member::default(),
        })
    }

    pub(crate) fn view(&self) -> &Pool {
        &self.view
    }

    /// Tells the pool how the node is, if it is time to: every other second, and at once when it wants something else.
    pub(crate) fn beat(&mut self, now: Instant, me: &Member, keep: u32) {
        let Some(pool) = self.pool.as_ref().filter(|_| self.under_way.is_empty()) else { return };
        let is_news = self.told.as_ref().is_none_or(|(told, _)| {
            told.wants_out != me.wants_out || told.is_able != me.is_able || told.addresses != me.addresses
        });
        if !is_news && self.told.as_ref().is_some_and(|(_, at)| now < *at + EVERY) {
            return;
        }
        self.told = Some((me.clone(), now));
        let (pool, me) = (Arc::clone(pool), me.clone());
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.under_way.spawn(async move {
            let before = unix_us();
            let beat = Beat { me, lease_us: micros(LEASE), keep, recall_us: micros(RECALL) };
            let outcome = pool.beat(&beat).await;
            Answer { me: beat.me, asked: now, middle_us: i64::midpoint(before, unix_us()), outcome }
        });
    }

    /// Waits for the answer to a beat that is under way; for ever if none is.
    pub(crate) async fn next(&mut self) -> Option<News> {
        let Some(joined) = self.under_way.join_next().await else { return std::future::pending().await };
        let Answer { me, asked, middle_us, outcome } = crate::cluster::came_to(joined);
        match outcome {
            Ok(heard) => {
                if std::mem::take(&mut self.is_missed) {
                    tracing::info!(members = heard.members.len(), "the pool of the region's nodes answers");
                }
                let ahead_us = middle_us - i64::try_from(heard.now_us).unwrap_or(i64::MAX);
                let is_doubled = heard.is_doubled && knows_life(&self.view, &me);
                let heard = Arc::new(heard);
                let view = Pool { reach: Reach::Reached, heard: Some((Arc::clone(&heard), asked)) };
                self.before.extend(std::mem::replace(&mut self.view, view).heard);
                self.forget(asked);
                self.said = me;
                Some(News { heard, ahead_ms: ahead_us / 1_000, is_doubled })
            }
            Err(error) => {
                let why: Arc<str> = error.to_string().into();
                if !std::mem::replace(&mut self.is_missed, true) {
                    tracing::warn!(error = &*why, "the pool of the region's nodes is out of reach");
                }
                self.view.reach = Reach::Lost { why };
                None
            }
        }
    }

    /// What was heard at a time counts until all others have heard as much: they beat each [`EVERY`].
    fn forget(&mut self, now: Instant) {
        while self.before.get(1).is_some_and(|(_, asked)| *asked + EVERY <= now) {
            self.before.pop_front();
        }
    }

    /// What the pool says to a node that wants out. One that hears nothing takes itself for the last.
    pub(crate) fn leave(&self, now: Instant) -> Leave {
        match self.view.fresh(now) {
            Some(_) if !self.said.wants_out => Leave::Unasked,
            Some(heard) if heard.may_leave => Leave::May,
            _ => Leave::Stay,
        }
    }

    /// Another node takes clients, as far as that is known.
    pub(crate) fn others_serve(&self, now: Instant) -> bool {
        let takes = |seen: &Seen| seen.is_in && !seen.member.wants_out && seen.member.name != self.said.name;
        self.view.fresh(now).is_some_and(|heard| heard.members.iter().any(takes))
    }

    /// Handshakes a second that this node may let in, of `region` that all may, and of `most` that it can serve. One that told the
    /// others that it takes none has no part in what they share: its rung refuses, and whom that lets in is for itself to bound.
    pub(crate) fn share(&self, now: Instant, region: f64, most: f64) -> f64 {
        let has_part = region > 0.0 && self.said.most > 0;
        let Some(heard) = self.view.fresh(now).filter(|_| has_part) else { return most };
        // What it has more than before it takes a beat later, when whoever has less for it has heard so.
        let before = self.before.iter().map(|(before, _)| &**before);
        let parts = before.chain([heard]).filter_map(|heard| self.part(heard, region));
        // One that is no member yet has no part.
        if self.part(heard, region).is_some() { parts.fold(most, f64::min) } else { most }
    }

    /// Its part of what the members share.
    fn part(&self, heard: &Heard, region: f64) -> Option<f64> {
        let demand =
            |seen: &Seen| Demand { asked: f64::from(seen.member.asked), most: f64::from(seen.member.most) };
        let demands: Vec<Demand> = heard.members.iter().map(demand).collect();
        let mine = heard.members.iter().position(|seen| seen.member.name == self.said.name)?;
        allot(region, &demands).get(mine).copied()
    }

    /// As if a beat had told `me` and heard that.
    #[cfg(test)]
    pub(super) fn after(me: Member, heard: Heard, at: Instant) -> Self {
        let mut beats = Self::new(None, "eu").unwrap();
        beats.view = Pool { reach: Reach::Reached, heard: Some((Arc::new(heard), at)) };
        beats.said = me;
        beats
    }

    /// The node ends in good order: the others need not wait for it.
    pub(crate) async fn retire(&mut self) {
        self.under_way.abort_all();
        if let (Some(pool), Some((me, _))) = (&self.pool, &self.told)
            && let Err(error) = pool.retire(&me.name, me.life).await
        {
            tracing::warn!(%error, "the pool of the region's nodes was not told that this one ends");
        }
    }
}

/// The pool knew this life of the node already: another one is no former life, but another node of the same name.
fn knows_life(before: &Pool, me: &Member) -> bool {
    let heard = before.heard.as_ref().map(|(heard, _)| heard);
    heard.is_some_and(|heard| heard.members.iter().any(|seen| seen.member.life == me.life))
}

fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(asked: &[(u32, u32)], may_leave: bool, wants_out: bool) -> Beats {
        let seen = |(number, (asked, most)): (usize, &(u32, u32))| Seen {
            member: Member {
                name: number.to_string().into(),
                asked: *asked,
                most: *most,
                ..Member::default()
            },
            is_in: true,
        };
        let members = asked.iter().enumerate().map(seen).collect();
        let heard = Heard { now_us: 0, may_leave, is_doubled: false, members, gone: Vec::new() };
        let most = asked.first().map_or(0, |(_, most)| *most);
        let me = Member { name: "0".into(), wants_out, most, ..Member::default() };
        Beats::after(me, heard, Instant::now())
    }

    #[test]
    fn a_pool_is_believed_for_a_while_and_then_the_node_is_the_last() {
        let now = Instant::now();
        assert_eq!(beats(&[], true, true).leave(now), Leave::May);
        assert_eq!(beats(&[], false, true).leave(now), Leave::Stay);
        assert_eq!(beats(&[], false, false).leave(now), Leave::Unasked);
        assert_eq!(beats(&[], true, true).leave(now + 2 * LEASE), Leave::Stay);
        assert_eq!(Beats::new(None, "eu").unwrap().leave(now), Leave::Stay, "it is its own pool");
    }

    #[test]
    fn others_serve_if_they_are_in_and_want_to_be() {
        let now = Instant::now();
        assert!(beats(&[(0, 0), (0, 0)], false, false).others_serve(now));
        assert!(!beats(&[(0, 0)], false, false).others_serve(now), "oneself is no other");
        assert!(!beats(&[(0, 0), (0, 0)], false, false).others_serve(now + 2 * LEASE));
    }

    #[test]
    fn a_herd_is_shared_out_by_what_each_is_asked_for() {
        let now = Instant::now();
        let share = |beats: &Beats, region| beats.share(now, region, 1_000.0);
        let two = beats(&[(500, 1_000), (100, 1_000)], false, false);
        assert_eq!((share(&two, 300.0), share(&two, 0.0)), (200.0, 1_000.0));
        assert_eq!(share(&beats(&[(0, 1_000), (0, 0)], false, false), 300.0), 150.0);
        assert_eq!(share(&Beats::new(None, "eu").unwrap(), 300.0), 1_000.0);
    }

    #[test]
    fn a_share_grows_when_whoever_has_less_for_it_has_heard_and_shrinks_at_once() {
        let share = |before: &[(u32, u32)], heard: &[(u32, u32)]| {
            let mut beats = beats(heard, false, false);
            beats.before = self::beats(before, false, false).view.heard.into_iter().collect();
            beats.share(Instant::now(), 300.0, 1_000.0)
        };
        let (little, much) = ([(100, 1_000), (500, 1_000)], [(500, 1_000), (500, 1_000)]);
        assert_eq!((share(&little, &little), share(&little, &much)), (100.0, 100.0));
        assert_eq!(share(&much, &much), 150.0);
        assert_eq!(share(&[(500, 1_000), (100, 1_000)], &much), 150.0);
    }

    #[test]
    fn beats_that_follow_each_other_at_once_let_no_share_grow_before_the_others_have_heard() {
        let (began, heard) = (Instant::now(), |asked| beats(&[asked, (500, 1_000)], false, false).view.heard);
        let mut beats = beats(&[(500, 1_000), (500, 1_000)], false, false);
        let at = |ms| began + Duration::from_millis(ms);
        for (asked, ms) in [((100, 1_000), 0), ((500, 1_000), 2_000), ((500, 1_000), 2_250)] {
            beats.before.extend(heard(asked).map(|(heard, _)| (heard, at(ms))));
        }
        beats.forget(at(2_500));
        assert_eq!(beats.share(began, 300.0, 1_000.0), 100.0, "some have heard nothing since");
        beats.forget(at(4_000));
        assert_eq!(beats.share(began, 300.0, 1_000.0), 150.0);
    }

    #[test]
    fn who_takes_none_of_what_others_share_and_who_hears_nothing_goes_by_its_own_budget() {
        let now = Instant::now();
        // It drains, or is the last and full.
        for others in [&[(0, 0), (500, 1_000)][..], &[(900, 0)]] {
            assert_eq!(beats(others, false, true).share(now, 300.0, 1_000.0), 1_000.0);
        }
        let lost = now + 2 * LEASE;
        assert_eq!(beats(&[(500, 1_000), (100, 1_000)], false, false).share(lost, 300.0, 1_000.0), 1_000.0);
        assert_eq!(beats(&[(900, 0), (0, 1_000)], true, true).share(lost, 300.0, 1_000.0), 1_000.0);
    }
}
