//! What this node may admit of an app's limit, and would.
//!
//! A node asks with a renewal and hears with its answer; what is wanted may have changed meanwhile, and other nodes give up what
//! they have to spare with renewals of their own. So an answer is compared with what it is the answer to, and a share that is
//! too small is only all that there is once everybody has renewed since.

use pinwire_registry::{AppName, AppUse};
use pinwire_shard::App;

/// A node asks to be able to admit one part in so many of an app's limit beyond what it has.
const HEADROOM: u32 = 16;

/// What is said and heard of an app that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allotment {
    connections: u32,
    /// Connections that this node would be able to admit; none if the app is not used any more.
    wanted: u32,
    limit: u32,
    /// The registry has answered to that.
    is_answered: bool,
    /// The last answer gave less than was asked for: what, and since when all answers did.
    short: Option<(u32, u64)>,
}

impl Allotment {
    /// What is wanted now. Clients that were refused count until the registry has heard of them. An app that is not used any more
    /// wants nothing: its entry in the registry goes with the renewal that says so, and its share goes here, before.
    pub(super) fn wish(app: &App, before: Option<Self>) -> Self {
        let (connections, limit) = (app.connections(), app.limits().max_connections);
        if connections == 0 && !app.is_short() {
            app.await_share();
            return Self { connections, wanted: 0, limit, is_answered: true, short: None };
        }
        let unheard = before.as_ref().filter(|before| !before.is_answered).map_or(0, |before| before.wanted);
        let wanted = app.wanted().max(connections.saturating_add(limit / HEADROOM)).max(unheard);
        let wanted = wanted.min(limit.max(connections));
        let is_answered = before.as_ref().is_some_and(|before| before.is_answered && before.wanted == wanted);
        let short = before.and_then(|before| before.short);
        Self { connections, wanted, limit, is_answered, short }
    }

    /// It is not used any more.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted == 0
    }

    /// What the next renewal says.
    pub(super) fn usage(&self, app: AppName) -> AppUse {
        let Self { connections, wanted, limit, .. } = *self;
        AppUse { app, connections, wanted, max_connections: limit }
    }

    /// The registry gave `share` when it was asked for `asked`, all nodes renewing each `renew_us`. What it says of an app that was
    /// not used then, or is not now, is no share to go by.
    pub(super) fn answered(&mut self, app: &App, share: u32, asked: u32, now_us: u64, renew_us: u64) {
        if asked == 0 || self.is_idle() {
            return;
        }
        self.is_answered |= asked >= self.wanted;
        let since_us = match self.short {
            _ if share >= asked => None,
            Some((before, since_us)) if before == share => Some(since_us),
            _ => Some(now_us),
        };
        self.short = since_us.map(|since_us| (share, since_us));
        let is_all = since_us.is_some_and(|since_us| now_us >= since_us + renew_us);
        app.set_share(share, is_all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinwire_shard::Unadmitted;

    const RENEW_US: u64 = 5_000_000;
    const UNLIMITED: u32 = u32::MAX;

    /// An app with so many connections, of a node that was told no share yet.
    fn app(connections: u32) -> App {
        let app = App::new("t", "a");
        (0..connections).for_each(|_| app.admit_connection(UNLIMITED).unwrap());
        app.await_share();
        app
    }

    #[test]
    fn an_app_that_is_not_used_wants_nothing_and_awaits_a_share_again() {
        let app = app(1);
        let mut allotment = Allotment::wish(&app, None);
        assert!(!allotment.is_idle());
        let wanted = allotment.wanted;
        allotment.answered(&app, 100, wanted, 0, RENEW_US);
        assert_eq!(app.share(), Some(100));
        app.release_connection();
        let mut allotment = Allotment::wish(&app, Some(allotment));
        assert_eq!((allotment.is_idle(), app.share()), (true, None));
        // The answer to that, whether or not somebody has come back meanwhile; and one to what was said before.
        allotment.answered(&app, 0, 0, 0, RENEW_US);
        allotment.answered(&app, 100, wanted, 0, RENEW_US);
        assert_eq!((app.share(), app.admit_connection(16)), (None, Ok(())));
        let mut allotment = Allotment::wish(&app, Some(allotment));
        allotment.answered(&app, 0, 0, 0, RENEW_US);
        assert_eq!(app.share(), None);
        allotment.answered(&app, 7, allotment.wanted, 0, RENEW_US);
        assert_eq!(app.share(), Some(7));
    }

    #[test]
    fn who_was_refused_counts_until_the_registry_has_heard_of_it() {
        let app = app(8);
        app.set_share(8, false);
        let calm = Allotment::wish(&app, None);
        // As it is when three more were refused.
        let busy = Allotment { wanted: calm.wanted + 3, ..calm.clone() };
        let mut later = Allotment::wish(&app, Some(busy));
        assert_eq!(later.wanted, calm.wanted + 3, "not heard yet");
        later.answered(&app, 8, calm.wanted, 0, RENEW_US);
        let mut later = Allotment::wish(&app, Some(later));
        assert_eq!(later.wanted, calm.wanted + 3, "an answer to an older question");
        later.answered(&app, 30, calm.wanted + 3, 0, RENEW_US);
        assert_eq!(Allotment::wish(&app, Some(later)).wanted, calm.wanted);
    }

    #[test]
    fn a_share_is_all_once_it_stayed_too_small_while_all_others_renewed() {
        let app = app(8);
        let mut allotment = Allotment::wish(&app, None);
        let wanted = allotment.wanted;
        let mut refusal = |share, asked, now_us| {
            allotment.answered(&app, share, asked, now_us, RENEW_US);
            app.admit_connection(1_000)
        };
        assert_eq!(refusal(4, wanted, 0), Err(Unadmitted::Share), "others have something to spare, maybe");
        assert_eq!(refusal(4, wanted, RENEW_US - 1), Err(Unadmitted::Share), "not all have renewed");
        assert_eq!(refusal(6, wanted, RENEW_US), Err(Unadmitted::Share), "they do give up something");
        assert_eq!(refusal(6, wanted, 2 * RENEW_US), Err(Unadmitted::Limit));
        // All that was asked for, though more is wanted since.
        assert_eq!(refusal(6, 6, 3 * RENEW_US), Err(Unadmitted::Share));
        assert_eq!(refusal(6, wanted, 4 * RENEW_US), Err(Unadmitted::Share), "too small only now");
        assert_eq!(refusal(6, wanted, 5 * RENEW_US), Err(Unadmitted::Limit));
    }
}
