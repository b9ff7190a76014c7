//! Notices of a node.

use super::wire;
use crate::Notice;
use pinwire_redis::{Event, Subscription};

/// Something that came without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A notice, for [`Sessions::notice`](crate::Sessions::notice).
    Notice(Notice),
    /// Some may have been missed before, for [`Sessions::missed`](crate::Sessions::missed): the subscription begins to stand, was
    /// interrupted, or another server has taken over.
    Missed,
}

/// A node's notices, in the order in which each partition sent them. Ends when dropped.
pub struct Listener {
    subscription: Subscription,
}

impl Listener {
    pub(super) fn new(subscription: Subscription) -> Self {
        Self { subscription }
    }

    /// The next. May be dropped and called again.
    pub async fn next(&mut self) -> Heard {
        heard(self.subscription.next().await)
    }

    /// One that is there already.
    pub fn try_next(&mut self) -> Option<Heard> {
        self.subscription.try_next().map(heard)
    }
}

fn heard(event: Event) -> Heard {
    match event {
        Event::Interrupted => Heard::Missed,
        Event::Message { payload, .. } => wire::notice(&payload).map_or_else(
            || {
                tracing::warn!(bytes = payload.len(), "a notice makes no sense: another version?");
                Heard::Missed
            },
            Heard::Notice,
        ),
    }
}
