//! Asking the data threads, each a piece at a time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pinwire_shard::{ConnId, ConnRef, ConnectionFilter, DocumentFilter, DocumentName};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::data::Envelope;
use crate::data::inspect::{
    Ask, ConnectionRow, DocumentAnswer, DocumentRow, MemberRow, Order, Piece, Rank, Socket, Top,
};
use crate::metrics::{Report, Threads};

/// How long a data thread may take for one answer: far more than a turn.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long going through all that there is may take: then an answer ends where it is.
const WALK: Duration = Duration::from_secs(3);

/// A data thread did not answer in time, or its mailbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silent;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Plane(Arc<Threads>);

/// Where a walk through all threads stands: a thread, and a place on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) thread: usize,
    pub(super) at: u32,
}

/// A part of everything.
#[derive(Debug)]
pub(super) struct Part<T> {
    pub(super) rows: Vec<T>,
    /// Where the next part begins, if there may be one.
    pub(super) next: Option<Position>,
    /// A thread did not answer.
    pub(super) is_partial: bool,
}

impl Plane {
    pub(crate) fn new(threads: Arc<Threads>) -> Self {
        Self(threads)
    }

    pub(super) fn threads(&self) -> usize {
        self.0.mailboxes().len()
    }

    /// Every thread's numbers, of now or a moment ago.
    pub(super) async fn reports(&self) -> Arc<[Option<Report>]> {
        self.0.reports().await
    }

    pub(super) async fn ask<T>(
        &self,
        thread: usize,
        question: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, Silent> {
        let mailbox = self.0.mailboxes().get(thread).ok_or(Silent)?;
        let (reply, answer) = oneshot::channel();
        mailbox.push(Envelope::Ask(Box::new(question(reply)))).map_err(|_| Silent)?;
        timeout(PATIENCE, answer).await.map_err(|_| Silent)?.map_err(|_| Silent)
    }

    /// Documents in no order, `limit` at most.
    pub(super) async fn documents(
        &self,
        from: Position,
        filter: &Arc<DocumentFilter>,
        limit: usize,
    ) -> Part<DocumentRow> {
        let ask = |at, limit, reply| Ask::Documents { from: at, filter: Arc::clone(filter), limit, reply };
        self.walk(from, limit, ask).await
    }

    /// Connections, `limit` at most.
    pub(super) async fn connections(
        &self,
        from: Position,
        filter: &Arc<ConnectionFilter>,
        limit: usize,
    ) -> Part<ConnectionRow> {
        let ask = |at, limit, reply| Ask::Connections { from: at, filter: Arc::clone(filter), limit, reply };
        self.walk(from, limit, ask).await
    }

    /// Goes through one thread after the other until there is enough.
    async fn walk<T>(
        &self,
        from: Position,
        limit: usize,
        ask: impl Fn(u32, usize, oneshot::Sender<Piece<T>>) -> Ask,
    ) -> Part<T> {
        let mut part = Part { rows: Vec::new(), next: Some(from), is_partial: false };
        let until = Instant::now() + WALK;
        while let Some(position) = part.next {
            if position.thread >= self.threads() {
                part.next = None;
            } else if part.rows.len() >= limit || Instant::now() >= until {
                break;
            } else {
                let room = limit - part.rows.len();
                let piece = self.ask(position.thread, |reply| ask(position.at, room, reply)).await;
                part.is_partial |= piece.is_err();
                let (mut rows, at) = piece.map_or((Vec::new(), None), |piece| (piece.rows, piece.next));
                part.rows.append(&mut rows);
                let next_thread = Position { thread: position.thread + 1, at: 0 };
                part.next = Some(at.map_or(next_thread, |at| Position { at, ..position }));
            }
        }
        part
    }

    /// The documents at the top of an order, behind `after` if that is given; and whether all threads answered.
    pub(super) async fn top(
        &self,
        filter: &Arc<DocumentFilter>,
        order: Order,
        after: Option<Rank>,
        limit: usize,
    ) -> (Vec<DocumentRow>, bool) {
        let of_each = (0..self.threads()).map(|thread| self.top_of(thread, filter, order, after, limit));
        let mut top = Top::new(after, limit);
        let mut is_whole = true;
        for rows in join_all(of_each).await {
            is_whole &= rows.is_ok();
            rows.into_iter().flatten().for_each(|row| top.offer(Rank::of(order, &row), row));
        }
        (top.into_sorted().collect(), is_whole)
    }

    async fn top_of(
        &self,
        thread: usize,
        filter: &Arc<DocumentFilter>,
        order: Order,
        after: Option<Rank>,
        limit: usize,
    ) -> Result<Vec<DocumentRow>, Silent> {
        let mut top = Top::new(after, limit);
        let mut from = Some(0);
        let until = Instant::now() + WALK;
        while let Some(at) = from {
            if Instant::now() >= until {
                return Err(Silent);
            }
            let filter = Arc::clone(filter);
            let ask = |reply| Ask::Top { from: at, filter, order, after, limit, reply };
            let piece = self.ask(thread, ask).await?;
            piece.rows.into_iter().for_each(|row| top.offer(Rank::of(order, &row), row));
            from = piece.next;
        }
        Ok(top.into_sorted().collect())
    }

    /// Asks every thread the same; the first answer that is one.
    pub(super) async fn of_owner<T>(
        &self,
        ask: impl Fn(oneshot::Sender<Option<T>>) -> Ask,
    ) -> Result<Option<T>, Silent> {
        let answers = join_all((0..self.threads()).map(|thread| self.ask(thread, &ask))).await;
        let is_whole = answers.iter().all(Result::is_ok);
        match answers.into_iter().flatten().flatten().next() {
            None if !is_whole => Err(Silent),
            found => Ok(found),
        }
    }

    /// A document and some members, those told whose sockets are on other threads than it; and whether all of these
    /// answered.
    pub(super) async fn document(
        &self,
        name: &DocumentName,
        after: Option<u32>,
        limit: usize,
    ) -> Result<Option<(DocumentAnswer, bool)>, Silent> {
        let ask = |reply| Ask::Document { name: name.clone(), after, limit, reply };
        let Some(mut found) = self.of_owner(ask).await? else { return Ok(None) };
        let mut is_whole = true;
        for thread in 0..self.threads() {
            is_whole &= self.name_members(thread, &mut found.members).await.is_ok();
        }
        Ok(Some((found, is_whole)))
    }

    /// Asks a thread for those members of whom nobody but it knows who they are.
    async fn name_members(&self, thread: usize, members: &mut [MemberRow]) -> Result<(), Silent> {
        let unknown: Vec<(&mut Socket, u16, ConnRef)> = members
            .iter_mut()
            .filter_map(|member| match member.socket {
                Socket::Unknown(at, conn) if usize::from(at) == thread => {
                    Some((&mut member.socket, at, conn))
                }
                _ => None,
            })
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let connections = unknown.iter().map(|(.., conn)| *conn).collect();
        let holders = self.ask(thread, |reply| Ask::Holders { connections, reply }).await?;
        for ((socket, at, _), holder) in unknown.into_iter().zip(holders) {
            if let Some(holder) = holder {
                *socket = Socket::Known(at, holder.id);
            }
        }
        Ok(())
    }

    /// Looks a connection up on every thread; and whether all threads answered.
    pub(super) async fn connection(&self, id: ConnId) -> (Option<ConnectionRow>, bool) {
        let filter = Arc::new(ConnectionFilter { id: Some(id), ..ConnectionFilter::default() });
        let of_each = (0..self.threads()).map(|thread| self.find(thread, &filter));
        let found = join_all(of_each).await;
        let is_whole = found.iter().all(Result::is_ok);
        (found.into_iter().flatten().flatten().next(), is_whole)
    }

    async fn find(
        &self,
        thread: usize,
        filter: &Arc<ConnectionFilter>,
    ) -> Result<Option<ConnectionRow>, Silent> {
        let mut from = Some(0);
        let until = Instant::now() + WALK;
        while let Some(at) = from {
            if Instant::now() >= until {
                return Err(Silent);
            }
            let filter = Arc::clone(filter);
            let piece =
                self.ask(thread, |reply| Ask::Connections { from: at, filter, limit: 1, reply }).await?;
            if let Some(row) = piece.rows.into_iter().next() {
                return Ok(Some(row));
            }
            from = piece.next;
        }
        Ok(None)
    }
}
