//! Who is present in a document: the latest awareness state of each client id, and whose connection it came on.
//!
//! Every change gets a version, and a member has a cursor into the versions: a slow reader gets the latest state of what
//! changed meanwhile, never a queue. The rules keep a returning user visible:
//! - An id belongs to the connection that last raised its clock, and only that connection's end removes it.
//! - Removal is null at the *same* clock, remembered as a tombstone: the stock client answers a null of its own id by
//!   raising its clock, so null at clock + 1 would hide a user who comes back for up to 30 s.
//! - An announcement that raises no clock is dropped (stock clients echo every remote change), unless it is the one entry of
//!   the first awareness message on its connection, which stock clients send of themselves: that is a user who came back,
//!   and is *challenged* with (id, clock, null) and a query, upon which the client raises its clock.
//!
//! Nodes that share a document tell each other the states that came on connections of their own, and nothing that they were told:
//! so nothing goes round. To an entry a node is an owner like a connection, whose end is that of all its users. Clocks
//! decide between nodes, too; who comes to a node with a clock that another one buried is challenged by its own ([`Foreign`]).

use crate::slab::reserve_one;
use pinwire_protocol::document::awareness;

/// Milliseconds after which a state that nobody renewed is dropped (clients renew every 15 s).
pub const EXPIRY_MS: u64 = 30_000;
/// Milliseconds for which a removal is remembered.
pub const TOMBSTONE_MS: u64 = 60_000;
/// Milliseconds for which renewals without a change may be collected into one frame.
pub const RENEWAL_DELAY_MS: u64 = 5_000;
/// Ids that one connection may own.
pub const IDS_PER_SESSION_MAX: usize = 32;
/// Ids, tombstones included, that one document remembers of another node.
pub const IDS_PER_NODE_MAX: usize = 32_768;
/// Milliseconds for which renewals without a change that another node told of may be collected: it collected them already.
pub const FOREIGN_RENEWAL_DELAY_MS: u64 = 1_000;
/// Ids, tombstones included, that one document remembers.
pub const IDS_PER_DOCUMENT_MAX: usize = 65_536;
/// Bytes of all states of one document.
pub const STATES_MAX: usize = 4 << 20;
/// Bytes of one state's JSON.
pub const STATE_MAX: usize = 64 << 10;

/// How far a connection may raise the clock of an id that another owns. A client that comes back has counted on meanwhile;
/// a clock at the end of its range would keep the owner from ever being heard again.
pub const CLOCK_JUMP_MAX: u32 = 1 << 16;

/// Set in an owner that is another node; its number makes up the rest.
pub const FOREIGN: u32 = 1 << 31;

const _: () = assert!(FOREIGN < super::log::STORED, "the writer of what is stored is no session");

/// Number of a change. A member that has seen version `n` lacks every entry with a higher one.
pub type Version = u32;

/// The awareness of one document.
#[derive(Debug, Default)]
pub struct Awareness {
    /// Ascending by client id.
    entries: Vec<Entry>,
    version: Version,
    /// Bytes of all states.
    held: usize,
    /// When renewals that changed no state go out at the latest, or 0.
    renewals_due_ms: u64,
}

#[derive(Debug)]
struct Entry {
    client: u64,
    clock: u32,
    version: Version,
    /// Tag of the session that last raised the clock, or the node that said so ([`FOREIGN`]).
    owner: u32,
    /// Second of the last renewal or of the removal; the top bit says that a renewal waits for its frame.
    seen: u32,
    /// None is a tombstone.
    state: Option<Box<str>>,
}

const RENEWED: u32 = 1 << 31;

impl Entry {
    fn seen_ms(&self) -> u64 {
        u64::from(self.seen & !RENEWED) * 1000
    }

    fn is_own(&self) -> bool {
        self.owner & FOREIGN == 0
    }
}

/// What became of one announced entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Raised no clock, or passed a bound: dropped.
    Dropped,
    /// Members are told in this turn.
    Changed,
    /// The clock rose, the state is the same: members are told within [`RENEWAL_DELAY_MS`].
    Renewed,
    /// A user came back with a clock that is not news: answer with null at this clock, and a query.
    Challenge(u32),
}

/// What became of one entry that another node told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// As for a session's.
    Applied(Applied),
    /// The other node shows a user who is gone here at this clock or a lower one: it is told of that in turn.
    Buried(u32),
    /// The other node buried a user who is here at the same clock, on the connection with this session tag: it is to be
    /// challenged, so that its user is seen there, too.
    Contested(u32),
}

impl Awareness {
    /// Takes one entry that came on the connection with session tag `from`. `first` is there while the client may speak of
    /// itself for the first time: the version that it was sent, since only of that what it says can be an echo.
    pub fn apply(
        &mut self,
        entry: &awareness::Entry<'_>,
        from: u32,
        first: Option<Version>,
        now_ms: u64,
    ) -> Applied {
        let clock = entry.clock;
        let state = (!entry.is_null()).then_some(entry.json);
        if state.is_some_and(|json| json.len() > STATE_MAX) {
            return Applied::Dropped;
        }
        let bytes = state.map_or(0, str::len);
        if self.held + bytes > STATES_MAX {
            return Applied::Dropped;
        }
        let at = match self.entries.binary_search_by_key(&entry.client, |known| known.client) {
            Ok(at) => at,
            Err(at) => return self.insert(at, entry.client, clock, state, from, now_ms),
        };
        let known = &self.entries[at];
        let is_removal_by_owner = clock == known.clock && state.is_none() && known.owner == from;
        if clock <= known.clock && !(is_removal_by_owner && known.state.is_some()) {
            let challenge = known.clock;
            let is_anothers = known.owner != from || known.state.is_none();
            let is_no_echo = first.is_some_and(|sent| known.state.is_none() || known.version > sent);
            let came_back = state.is_some() && is_anothers && is_no_echo && !self.owns_any(from);
            return if came_back { Applied::Challenge(challenge) } else { Applied::Dropped };
        }
        self.raise(at, clock, state, from, now_ms, RENEWAL_DELAY_MS)
    }

    /// Takes one entry that another node told of, [`FOREIGN`] set in `node`. `room`: ids that it may still add.
    pub fn apply_foreign(
        &mut self,
        entry: &awareness::Entry<'_>,
        node: u32,
        room: &mut usize,
        now_ms: u64,
    ) -> Foreign {
        let clock = entry.clock;
        let state = (!entry.is_null()).then_some(entry.json);
        let bytes = state.map_or(0, str::len);
        if bytes > STATE_MAX || self.held + bytes > STATES_MAX {
            return Foreign::Applied(Applied::Dropped);
        }
        let at = match self.entries.binary_search_by_key(&entry.client, |known| known.client) {
            Ok(at) => at,
            Err(_) if *room == 0 || self.entries.len() >= IDS_PER_DOCUMENT_MAX => {
                return Foreign::Applied(Applied::Dropped);
            }
            Err(at) => {
                *room -= 1;
                self.put(at, entry.client, clock, state, node, now_ms);
                return Foreign::Applied(if state.is_some() { Applied::Changed } else { Applied::Dropped });
            }
        };
        let known = &self.entries[at];
        let is_removal_by_owner = clock == known.clock && state.is_none() && known.owner == node;
        if clock > known.clock || is_removal_by_owner && known.state.is_some() {
            return Foreign::Applied(self.raise(at, clock, state, node, now_ms, FOREIGN_RENEWAL_DELAY_MS));
        }
        match (state, &known.state) {
            (Some(_), None) => Foreign::Buried(known.clock),
            (None, Some(_)) if clock == known.clock && known.is_own() => Foreign::Contested(known.owner),
            _ => Foreign::Applied(Applied::Dropped),
        }
    }

    /// Takes what is news of a known id.
    fn raise(
        &mut self,
        at: usize,
        clock: u32,
        state: Option<&str>,
        from: u32,
        now_ms: u64,
        renewal_delay_ms: u64,
    ) -> Applied {
        let Some(known) = self.entries.get_mut(at) else { return Applied::Dropped };
        let is_anothers = known.owner != from && known.state.is_some();
        if is_anothers && clock - known.clock > CLOCK_JUMP_MAX {
            return Applied::Dropped;
        }
        let is_renewal = known.state.is_some() && known.state.as_deref() == state;
        known.clock = clock;
        known.owner = from;
        known.seen = seconds(now_ms);
        if is_renewal {
            known.seen |= RENEWED;
            let due_ms = now_ms + renewal_delay_ms;
            if self.renewals_due_ms == 0 || due_ms < self.renewals_due_ms {
                self.renewals_due_ms = due_ms;
            }
            return Applied::Renewed;
        }
        self.held -= known.state.as_deref().map_or(0, str::len);
        self.held += state.map_or(0, str::len);
        known.state = state.map(Box::from);
        self.version += 1;
        known.version = self.version;
        Applied::Changed
    }

    fn insert(
        &mut self,
        at: usize,
        client: u64,
        clock: u32,
        state: Option<&str>,
        from: u32,
        now_ms: u64,
    ) -> Applied {
        if state.is_none()
            || self.entries.len() >= IDS_PER_DOCUMENT_MAX
            || self.owned(from) >= IDS_PER_SESSION_MAX
        {
            return Applied::Dropped;
        }
        self.put(at, client, clock, state, from, now_ms);
        Applied::Changed
    }

    /// Enters an id that was not known; nobody need be told of a tombstone.
    fn put(&mut self, at: usize, client: u64, clock: u32, state: Option<&str>, owner: u32, now_ms: u64) {
        self.version += u32::from(state.is_some());
        self.held += state.map_or(0, str::len);
        let (version, seen) = (self.version, seconds(now_ms));
        reserve_one(&mut self.entries);
        self.entries.insert(at, Entry { client, clock, version, owner, seen, state: state.map(Box::from) });
    }

    fn owned(&self, tag: u32) -> usize {
        self.entries.iter().filter(|entry| entry.owner == tag && entry.state.is_some()).count()
    }

    /// Ids that another node may still add.
    #[must_use]
    pub fn room_of(&self, node: u32) -> usize {
        let has = self.entries.iter().filter(|entry| entry.owner == node).count();
        IDS_PER_NODE_MAX.saturating_sub(has)
    }

    /// Removes the states that another node owned and that are not among `present`, ascending; true if members must be told.
    pub fn keep_only(&mut self, node: u32, present: &[u64], now_ms: u64) -> bool {
        self.bury(now_ms, |entry| entry.owner == node && present.binary_search(&entry.client).is_err())
    }

    fn owns_any(&self, tag: u32) -> bool {
        self.entries.iter().any(|entry| entry.owner == tag && entry.state.is_some())
    }

    /// Removes the states that a session owned, or another node, when it ended; true if members must be told.
    pub fn session_ended(&mut self, tag: u32, now_ms: u64) -> bool {
        self.bury(now_ms, |entry| entry.owner == tag)
    }

    /// Drops states that nobody renewed and tombstones that are old; true if members must be told.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        self.entries.retain(|entry| entry.state.is_some() || now_ms < entry.seen_ms() + TOMBSTONE_MS);
        if self.entries.capacity() > 4 * self.entries.len() {
            self.entries.shrink_to_fit();
        }
        self.bury(now_ms, |entry| now_ms >= entry.seen_ms() + EXPIRY_MS)
    }

    fn bury(&mut self, now_ms: u64, which: impl Fn(&Entry) -> bool) -> bool {
        let before = self.version;
        for entry in &mut self.entries {
            if entry.state.is_some() && which(entry) {
                self.version += 1;
                self.held -= entry.state.as_deref().map_or(0, str::len);
                entry.state = None;
                entry.version = self.version;
                entry.seen = seconds(now_ms);
            }
        }
        self.version != before
    }

    /// Turns renewals whose time has come into changes; true if members must be told.
    pub fn release_renewals(&mut self, now_ms: u64) -> bool {
        if self.renewals_due_ms == 0 || now_ms < self.renewals_due_ms {
            return false;
        }
        self.renewals_due_ms = 0;
        let before = self.version;
        for entry in &mut self.entries {
            if entry.seen & RENEWED != 0 {
                entry.seen &= !RENEWED;
                if entry.state.is_some() {
                    self.version += 1;
                    entry.version = self.version;
                }
            }
        }
        self.version != before
    }

    /// When [`Self::expire`] or [`Self::release_renewals`] has something to do at the earliest.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        let due =
            |entry: &Entry| entry.seen_ms() + if entry.state.is_some() { EXPIRY_MS } else { TOMBSTONE_MS };
        let renewals = (self.renewals_due_ms != 0).then_some(self.renewals_due_ms);
        self.entries.iter().map(due).chain(renewals).min()
    }

    /// The newest version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Entries held, tombstones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nobody is or was present.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sessions, ascending, that own an entry newer than `seen`, which they need no copy of.
    #[must_use]
    pub fn owners_since(&self, seen: Version) -> Vec<u32> {
        let news = self.entries.iter().filter(|entry| entry.version > seen && entry.state.is_some());
        let mut owners: Vec<u32> = news.map(|entry| entry.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Whether there is something newer than `seen` to tell other nodes.
    #[must_use]
    pub fn has_own_since(&self, seen: Version) -> bool {
        self.version != seen && self.entries.iter().any(|entry| entry.version > seen && entry.is_own())
    }

    /// Appends the awareness body of everything newer than `seen` that sessions of this node own or owned, tombstones always
    /// included, and of these `buried`, at their clocks.
    pub fn write_own_since(&self, out: &mut Vec<u8>, seen: Version, buried: &[(u64, u32)]) {
        let is_news = |entry: &&Entry| entry.version > seen && entry.is_own();
        let count = self.entries.iter().filter(is_news).count();
        awareness::append_count(out, count + buried.len());
        for entry in self.entries.iter().filter(is_news) {
            let json = entry.state.as_deref().unwrap_or(awareness::NULL);
            awareness::append_entry(
                out,
                &awareness::Entry { client: entry.client, clock: entry.clock, json },
            );
        }
        for &(client, clock) in buried {
            awareness::append_entry(out, &awareness::Entry { client, clock, json: awareness::NULL });
        }
    }

    /// Appends the awareness body of everything newer than `seen` but what session `except` owns; false, and nothing
    /// written, if that is nothing. With `seen` 0, for a member that knows nobody, tombstones are left out.
    pub fn write_since(&self, out: &mut Vec<u8>, seen: Version, except: Option<u32>) -> bool {
        let is_wanted = |entry: &&Entry| {
            entry.version > seen
                && !(seen == 0 && entry.state.is_none())
                && !(except == Some(entry.owner) && entry.state.is_some())
        };
        let count = self.entries.iter().filter(is_wanted).count();
        if count == 0 {
            return false;
        }
        awareness::append_count(out, count);
        for entry in self.entries.iter().filter(is_wanted) {
            let json = entry.state.as_deref().unwrap_or(awareness::NULL);
            awareness::append_entry(
                out,
                &awareness::Entry { client: entry.client, clock: entry.clock, json },
            );
        }
        true
    }
}

fn seconds(now_ms: u64) -> u32 {
    (now_ms / 1000) as u32 & !RENEWED
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinwire_protocol::document::awareness::{Awareness as Body, Bounds, Entry as Wire};

    fn entry(client: u64, clock: u32, json: &str) -> Wire<'_> {
        Wire { client, clock, json }
    }

    fn told(awareness: &Awareness, seen: Version, except: Option<u32>) -> Vec<(u64, u32, String)> {
        let mut body = Vec::new();
        if !awareness.write_since(&mut body, seen, except) {
            return Vec::new();
        }
        let parsed = Body::parse(&body, &Bounds::default()).unwrap();
        parsed.iter().map(|e| (e.client, e.clock, e.json.to_owned())).collect()
    }

    #[test]
    fn an_id_is_removed_at_the_same_clock_by_the_end_of_its_session_alone() {
        let mut awareness = Awareness::default();
        assert_eq!(awareness.apply(&entry(1, 5, "{}"), 10, Some(0), 0), Applied::Changed);
        assert!(!awareness.session_ended(11, 0));
        let seen = awareness.version();
        assert!(awareness.session_ended(10, 0));
        assert_eq!(told(&awareness, seen, None), [(1, 5, "null".to_owned())]);
    }

    #[test]
    fn a_user_who_comes_back_at_the_tombstones_clock_is_challenged_and_then_visible() {
        let mut awareness = Awareness::default();
        awareness.apply(&entry(1, 5, "{}"), 10, Some(0), 0);
        awareness.session_ended(10, 1_000);
        assert_eq!(awareness.apply(&entry(1, 5, "{}"), 20, Some(0), 2_000), Applied::Challenge(5));
        assert_eq!(awareness.apply(&entry(1, 6, "{}"), 20, None, 2_000), Applied::Changed);
    }

    #[test]
    fn a_user_who_comes_back_before_the_old_connection_is_gone_is_challenged_too() {
        let mut awareness = Awareness::default();
        awareness.apply(&entry(1, 5, "{}"), 10, Some(0), 0);
        assert_eq!(awareness.apply(&entry(1, 5, "{}"), 20, Some(0), 0), Applied::Challenge(5));
        assert_eq!(awareness.apply(&entry(1, 6, "{}"), 20, None, 0), Applied::Renewed);
        assert!(!awareness.session_ended(10, 0), "the id belongs to the new connection");
    }

    #[test]
    fn an_echo_of_anothers_state_changes_nothing() {
        let mut awareness = Awareness::default();
        awareness.apply(&entry(1, 5, "{\"a\":1}"), 10, Some(0), 0);
        let seen = awareness.version();
        assert_eq!(awareness.apply(&entry(1, 5, "{\"a\":1}"), 20, None, 0), Applied::Dropped);
        assert_eq!(awareness.apply(&entry(1, 5, "null"), 20, None, 0), Applied::Dropped);
        assert_eq!(awareness.apply(&entry(1, 4, "{}"), 20, None, 0), Applied::Dropped);
        assert_eq!(awareness.version(), seen);
        assert_eq!(awareness.apply(&entry(1, 5, "null"), 10, None, 0), Applied::Changed);
    }

    #[test]
    fn a_viewer_whose_first_message_is_an_echo_does_not_lose_sight_of_anyone() {
        let mut awareness = Awareness::default();
        awareness.apply(&entry(1, 5, "{}"), 10, Some(0), 0);
        let sent = awareness.version();
        assert_eq!(awareness.apply(&entry(1, 5, "{}"), 20, Some(sent), 0), Applied::Dropped);
        awareness.session_ended(10, 1_000);
        assert_eq!(
            awareness.apply(&entry(1, 5, "{}"), 30, Some(awareness.version()), 2_000),
            Applied::Challenge(5)
        );
    }

    #[test]
    fn renewals_without_a_change_wait_and_leave_together() {
        let mut awareness = Awareness::default();
        awareness.apply(&entry(1, 1, "{}"), 10, Some(0), 0);
        awareness.apply(&entry(2, 1, "{}"), 20, Some(0), 0);
        let seen = awareness.version();
        assert_eq!(awareness.apply(&entry(1, 2, "{}"), 10, None, 1_000), Applied::Renewed);
        assert_eq!(awareness.apply(&entry(2, 2, "{}"), 20, None, 3_000), Applied::Renewed);
        assert_eq!(awareness.next_ms(), Some(6_000));
        assert!(!awareness.release_renewals(5_999));
        assert!(told(&awareness, seen, None).is_empty());
        assert!(awareness.release_renewals(6_000));
        assert_eq!(told(&awareness, seen, None).len(), 2);
        assert_eq!(told(&awareness, seen, Some(10)).len(), 1, "an owner needs no copy of its own");
    }

    #[test]
    fn what_nobody_renews_expires_and_tombstones_follow() {
        let mut awareness = Awareness::default();
        awareness.apply(&entry(1, 1, "{}"), 10, Some(0), 0);
        assert!(!awareness.expire(EXPIRY_MS - 1));
        assert!(awareness.expire(EXPIRY_MS));
        assert!(!awareness.expire(EXPIRY_MS + TOMBSTONE_MS - 1));
        assert_eq!(awareness.len(), 1);
        awareness.expire(EXPIRY_MS + TOMBSTONE_MS);
        assert!(awareness.is_empty());
    }

    #[test]
    fn a_member_that_knows_nobody_is_not_told_of_those_who_left() {
        let mut awareness = Awareness::default();
        awareness.apply(&entry(1, 1, "{}"), 10, Some(0), 0);
        awareness.apply(&entry(2, 1, "{}"), 20, Some(0), 0);
        awareness.session_ended(10, 0);
        assert_eq!(told(&awareness, 0, None), [(2, 1, "{}".to_owned())]);
    }

    #[test]
    fn another_connection_cannot_silence_an_id_by_a_clock_at_its_end() {
        let mut awareness = Awareness::default();
        awareness.apply(&entry(1, 5, "{}"), 10, Some(0), 0);
        assert_eq!(awareness.apply(&entry(1, u32::MAX, "{}"), 20, None, 0), Applied::Dropped);
        assert_eq!(awareness.apply(&entry(1, 6, "{\"a\":1}"), 10, None, 0), Applied::Changed);
        assert_eq!(
            awareness.apply(&entry(1, 500, "{}"), 20, None, 0),
            Applied::Changed,
            "a client that came back"
        );
    }

    #[test]
    fn the_states_of_a_document_are_bounded_together_and_room_comes_back() {
        let mut awareness = Awareness::default();
        let state = format!("\"{}\"", "x".repeat(STATE_MAX - 2));
        let fits = (STATES_MAX / STATE_MAX) as u64;
        let announce = |awareness: &mut Awareness, client: u64, owner: u32| {
            awareness.apply(&entry(client, 1, &state), owner, Some(0), 0)
        };
        for client in 0..fits {
            assert_eq!(announce(&mut awareness, client, client as u32 / 8), Applied::Changed);
        }
        assert_eq!(announce(&mut awareness, fits, 999), Applied::Dropped);
        awareness.session_ended(0, 0);
        assert_eq!(announce(&mut awareness, fits, 999), Applied::Changed);
    }

    #[test]
    fn one_connection_cannot_announce_ids_without_bound() {
        let mut awareness = Awareness::default();
        for client in 0..1_000 {
            awareness.apply(&entry(client, 1, "{}"), 10, Some(0), 0);
        }
        assert_eq!(awareness.len(), IDS_PER_SESSION_MAX);
    }
}
