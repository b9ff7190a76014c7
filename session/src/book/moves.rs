//! Documents that move to another region: what they have is frozen and handed over, or begins here.

use super::{Book, Notices};
use crate::session::{Kept, Moving, Session};
use crate::{Head, Notice, Reply};
use pinwire_registry::{Claim, DocumentName, Node};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Book {
    pub(super) fn fence(
        &mut self,
        now_us: u64,
        document: &DocumentName,
        (claim, to): (Claim, Claim),
        for_us: u64,
        notices: &mut Notices,
    ) -> Reply {
        let keep_us = self.bounds.keep_us;
        let Some(session) = self.sessions.get_mut(document).filter(|session| session.claim >= claim) else {
            return Reply::Diverged;
        };
        if session.claim == claim && claim < to {
            session.claim = to;
            let until = now_us + for_us;
            session.moving = Some(Moving { until, agreed: BTreeSet::new() });
            let told = session.holders.iter().map(|(holder, hold)| {
                let (hold, document) = (*hold, document.clone());
                (holder.clone(), Notice::Moving { hold, document, claim: to })
            });
            notices.extend(told);
            if let Some(end) = &mut session.over_at {
                // Nobody may begin another one under the old claim while somebody may believe to have it.
                self.left.remove(&(*end, document.clone()));
                *end = now_us + keep_us;
                self.left.insert((*end, document.clone()));
            }
        }
        match &session.moving {
            Some(moving) if session.claim == to && now_us < moving.until => {
                let has_agreed = |holder: &Node| moving.agreed.contains(holder);
                let all = session.holders.keys().all(has_agreed);
                if all { Reply::Loaded(session.load()) } else { Reply::Waiting }
            }
            _ => Reply::Fenced(session.claim),
        }
    }

    pub(super) fn agree(
        &mut self,
        now_us: u64,
        document: &DocumentName,
        claim: Claim,
        node: &Node,
        known: Head,
    ) -> Reply {
        let Some(session) = self.sessions.get_mut(document) else { return Reply::Diverged };
        if session.claim > claim {
            return session.fenced(now_us);
        }
        let is_known = session.claim == claim && session.holders.contains_key(node) && session.knows(known);
        match &mut session.moving {
            Some(moving) if is_known => {
                moving.agreed.insert(node.clone());
                Reply::Done
            }
            _ => Reply::Diverged,
        }
    }

    pub(super) fn settle(&mut self, document: &DocumentName, claim: Claim, notices: &mut Notices) -> Reply {
        let session = self.sessions.get_mut(document).filter(|session| session.claim == claim);
        if let Some(session) = session
            && let Some(moving) = &mut session.moving
        {
            moving.until = 0;
            let told = session.holders.iter().map(|(holder, hold)| {
                let (hold, document) = (*hold, document.clone());
                (holder.clone(), Notice::Settled { hold, document, claim })
            });
            notices.extend(told);
        }
        Reply::Done
    }

    pub(super) fn import(
        &mut self,
        now_us: u64,
        document: &DocumentName,
        claim: Claim,
        base: Option<&Arc<[u8]>>,
        kept: Kept,
    ) -> Reply {
        match self.sessions.get(document) {
            Some(there) if there.claim > claim => return there.fenced(now_us),
            Some(there) if there.claim == claim => return Reply::Done,
            _ => {}
        }
        let mut session = Session::imported(claim, document, base, kept);
        if self.is_full() || session.bytes() > self.bounds.document_bytes {
            return Reply::Full;
        }
        self.remove(document);
        let end = now_us + self.bounds.keep_us;
        session.over_at = Some(end);
        self.left.insert((end, document.clone()));
        self.bytes += session.bytes();
        self.sessions.insert(document.clone(), session);
        Reply::Done
    }
}
