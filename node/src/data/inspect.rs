//! What the admin thread asks a data thread, and has done there.
//!
//! An answer goes through a bounded number of places and holds a bounded number of things, so that a turn takes no longer for
//! it than for a burst of messages; whoever wants more asks again, from where the answer ended.

use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;

use pinwire_protocol::close::Close;
use pinwire_shard::{
    ConnId, ConnRef, ConnectionFilter, ConnectionState, ConnectionView, Dialect, DocumentFacts,
    DocumentFilter, DocumentName, DocumentView, Ended, MemberView, Place, Shard, Told,
};
use tokio::sync::oneshot::Sender;

/// Places that one question goes through.
const PLACES: u32 = 2048;
/// Names of documents that are told of one connection.
const DOCUMENTS_OF_A_CONNECTION: usize = 16;

/// A question, and the way back. Whoever asked may have gone.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Documents in no order.
    Documents { from: u32, filter: Arc<DocumentFilter>, limit: usize, reply: Sender<Piece<DocumentRow>> },
    /// The documents at the top of an order, behind `after` if that is given.
    Top {
        from: u32,
        filter: Arc<DocumentFilter>,
        order: Order,
        after: Option<Rank>,
        limit: usize,
        reply: Sender<Piece<DocumentRow>>,
    },
    /// One document, and members of it behind the session `after`.
    Document { name: DocumentName, after: Option<u32>, limit: usize, reply: Sender<Option<DocumentAnswer>> },
    /// Connections.
    Connections {
        from: u32,
        filter: Arc<ConnectionFilter>,
        limit: usize,
        reply: Sender<Piece<ConnectionRow>>,
    },
    /// What these are, in order.
    Holders { connections: Vec<ConnRef>, reply: Sender<Vec<Option<Holder>>> },
    /// Close a connection; was it there?
    Close { connection: ConnRef, close: Close, reply: Sender<bool> },
    /// End a document, if it is here.
    End { name: DocumentName, close: Close, reply: Sender<Option<Ended>> },
    /// Tell the members of a document, if it is here.
    Tell { name: DocumentName, payload: Box<str>, reply: Sender<Option<Told>> },
}

impl Ask {
    /// What the answer says of claims holds at one moment with what the leases are then.
    pub(crate) fn is_about_claims(&self) -> bool {
        matches!(self, Self::Documents { .. } | Self::Top { .. } | Self::Document { .. })
    }
}

/// Some of the things that a thread has, and where to go on, if there may be more.
#[derive(Debug)]
pub(crate) struct Piece<T> {
    pub(crate) rows: Vec<T>,
    pub(crate) next: Option<u32>,
}

/// A document on a thread.
#[derive(Clone, Debug)]
pub(crate) struct DocumentRow {
    pub(crate) thread: u16,
    pub(crate) name: DocumentName,
    pub(crate) facts: DocumentFacts,
    /// The node has no lease of its license region now.
    pub(crate) is_adrift: bool,
}

/// Who is asked: a thread, and the license regions, a bit for each number, of which the node has no lease now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    pub(crate) thread: u16,
    pub(crate) lapsed: u64,
}

impl Asking {
    fn row(self, name: DocumentName, facts: DocumentFacts) -> DocumentRow {
        let is_adrift = self.lapsed >> (facts.license & 63) & 1 == 1;
        DocumentRow { thread: self.thread, name, facts, is_adrift }
    }
}

/// A document and some members.
#[derive(Debug)]
pub(crate) struct DocumentAnswer {
    pub(crate) document: DocumentRow,
    pub(crate) members: Vec<MemberRow>,
    pub(crate) has_more: bool,
}

/// A member.
#[derive(Clone, Debug)]
pub(crate) struct MemberRow {
    pub(crate) session: u32,
    pub(crate) dialect: Dialect,
    pub(crate) read_only: bool,
    /// The `sub` of its token.
    pub(crate) subject: Option<String>,
    pub(crate) socket: Socket,
}

/// Where a member's socket is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Socket {
    /// A connection of this thread.
    Known(u16, ConnId),
    /// One that this thread has to be asked about.
    Unknown(u16, ConnRef),
    /// On a node of another region.
    OverLink,
}

impl Socket {
    /// The data thread that has it, if it is on this node.
    pub(crate) fn thread(self) -> Option<u16> {
        match self {
            Self::Known(thread, _) | Self::Unknown(thread, _) => Some(thread),
            Self::OverLink => None,
        }
    }
}

/// Who holds a session.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) id: ConnId,
    pub(crate) subject: Option<String>,
}

/// A connection on a thread.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionRow {
    pub(crate) thread: u16,
    pub(crate) at: ConnRef,
    pub(crate) holder: Holder,
    pub(crate) state: ConnectionState,
    /// Tenant and app.
    pub(crate) app: Option<(String, String)>,
    pub(crate) dialect: Option<Dialect>,
    pub(crate) documents: Vec<String>,
    pub(crate) document_count: usize,
    pub(crate) is_compressed: bool,
    pub(crate) last_received: u32,
    pub(crate) backlog: u32,
}

/// What documents are ordered by, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    Members,
    Edits,
    Bytes,
    Log,
}

impl Order {
    fn value(self, facts: &DocumentFacts) -> f64 {
        match self {
            Self::Members => facts.members as f64,
            Self::Edits => facts.rates.edits,
            Self::Bytes => facts.rates.bytes,
            Self::Log => facts.log_bytes as f64,
        }
    }

    /// The same, of a document that is being looked at.
    fn value_of(self, view: &DocumentView<'_>) -> f64 {
        match self {
            Self::Members => view.members() as f64,
            Self::Edits => view.rates().edits,
            Self::Bytes => view.rates().bytes,
            Self::Log => view.log_bytes() as f64,
        }
    }
}

/// A place in an order: whoever has more comes first, and of equals the one on the lower thread and place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rank {
    pub(crate) value: f64,
    pub(crate) thread: u16,
    pub(crate) index: u32,
}

impl Rank {
    pub(crate) fn of(order: Order, row: &DocumentRow) -> Self {
        Self { value: order.value(&row.facts), thread: row.thread, index: row.facts.index }
    }
}

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_place = (self.thread, self.index).cmp(&(other.thread, other.index));
        other.value.total_cmp(&self.value).then(by_place)
    }
}

/// Answers a question.
pub(crate) fn answer(ask: Ask, shard: &mut Shard, asked: Asking) {
    match ask {
        Ask::Documents { from, filter, limit, reply } => {
            let _ = reply.send(documents(shard, asked, from, &filter, limit));
        }
        Ask::Top { from, filter, order, after, limit, reply } => {
            let _ = reply.send(top(shard, asked, from, &filter, order, (after, limit)));
        }
        Ask::Document { name, after, limit, reply } => {
            let _ = reply.send(document(shard, asked, name, after, limit));
        }
        Ask::Connections { from, filter, limit, reply } => {
            let _ = reply.send(connections(shard, asked.thread, from, &filter, limit));
        }
        Ask::Holders { connections, reply } => {
            let holder = |conn: ConnRef| shard.inspect_connection(conn).map(|view| holder(&view));
            let _ = reply.send(connections.into_iter().map(holder).collect());
        }
        Ask::Close { connection, close, reply } => {
            let _ = reply.send(shard.close_connection(connection, &close));
        }
        Ask::End { name, close, reply } => {
            let _ = reply.send(shard.end_document(&name, &close));
        }
        Ask::Tell { name, payload, reply } => {
            let _ = reply.send(shard.tell_members(&name, &payload));
        }
    }
}

fn documents(
    shard: &Shard,
    asked: Asking,
    from: u32,
    filter: &DocumentFilter,
    limit: usize,
) -> Piece<DocumentRow> {
    let mut rows = Vec::new();
    let next = shard.inspect_documents(from, PLACES, filter, |view| {
        rows.push(asked.row(view.name().clone(), view.facts()));
        until(rows.len() >= limit)
    });
    Piece { rows, next }
}

fn until(is_enough: bool) -> ControlFlow<()> {
    if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The first documents of an order, behind a place in it if that is given.
#[derive(Debug)]
pub(crate) struct Top<T> {
    after: Option<Rank>,
    limit: usize,
    /// The last of them lies on top.
    best: BinaryHeap<Ranked<T>>,
}

#[derive(Debug)]
struct Ranked<T> {
    rank: Rank,
    what: T,
}

impl<T> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl<T> Eq for Ranked<T> {}

impl<T> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Ranked<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl<T> Top<T> {
    pub(crate) fn new(after: Option<Rank>, limit: usize) -> Self {
        Self { after, limit, best: BinaryHeap::new() }
    }

    /// Takes in what belongs there.
    pub(crate) fn offer(&mut self, rank: Rank, what: T) {
        let is_behind = self.after.is_none_or(|after| rank > after);
        let is_among = self.best.len() < self.limit || self.best.peek().is_some_and(|last| rank < last.rank);
        if is_behind && is_among {
            self.best.push(Ranked { rank, what });
            if self.best.len() > self.limit {
                self.best.pop();
            }
        }
    }

    /// In order.
    pub(crate) fn into_sorted(self) -> impl Iterator<Item = T> {
        self.best.into_sorted_vec().into_iter().map(|ranked| ranked.what)
    }
}

fn top(
    shard: &Shard,
    asked: Asking,
    from: u32,
    filter: &DocumentFilter,
    order: Order,
    (after, limit): (Option<Rank>, usize),
) -> Piece<DocumentRow> {
    let mut top = Top::new(after, limit);
    let thread = asked.thread;
    let next = shard.inspect_documents(from, PLACES, filter, |view| {
        // The rest is found out once it is known to be wanted: this goes through all there are.
        let rank = Rank { value: order.value_of(&view), thread, index: view.index() };
        top.offer(rank, view);
        ControlFlow::Continue(())
    });
    let row = |view: DocumentView<'_>| asked.row(view.name().clone(), view.facts());
    Piece { rows: top.into_sorted().map(row).collect(), next }
}

fn document(
    shard: &Shard,
    asked: Asking,
    name: DocumentName,
    after: Option<u32>,
    limit: usize,
) -> Option<DocumentAnswer> {
    let facts = shard.inspect_document(&name)?;
    let (members, has_more) = shard.inspect_members(facts.index, after, limit);
    let member = |member: MemberView<'_>| {
        let socket = match member.place {
            Place::Here(view) => Socket::Known(asked.thread, view.id),
            Place::Elsewhere(thread, conn) => Socket::Unknown(thread, conn),
            Place::OverLink(_) => Socket::OverLink,
        };
        let (session, dialect, read_only) = (member.session, member.dialect, member.read_only);
        MemberRow { session, dialect, read_only, subject: member.subject(), socket }
    };
    let members = members.into_iter().map(member).collect();
    Some(DocumentAnswer { document: asked.row(name, facts), members, has_more })
}

fn connections(
    shard: &Shard,
    thread: u16,
    from: u32,
    filter: &ConnectionFilter,
    limit: usize,
) -> Piece<ConnectionRow> {
    let mut rows = Vec::new();
    let next = shard.inspect_connections(from, PLACES, filter, |view| {
        rows.push(connection(thread, &view));
        until(rows.len() >= limit)
    });
    Piece { rows, next }
}

fn connection(thread: u16, view: &ConnectionView<'_>) -> ConnectionRow {
    let (documents, document_count) = view.documents(DOCUMENTS_OF_A_CONNECTION);
    ConnectionRow {
        thread,
        at: view.at,
        holder: holder(view),
        state: view.state(),
        app: view.app.map(|app| (app.tenant().to_owned(), app.id().to_owned())),
        dialect: view.dialect(),
        documents,
        document_count,
        is_compressed: view.is_compressed(),
        last_received: view.last_received(),
        backlog: view.backlog(),
    }
}

fn holder(view: &ConnectionView<'_>) -> Holder {
    Holder { id: view.id, subject: view.subject() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_the_same_in_pages_as_in_one() {
        let ranks: Vec<Rank> = (0..200_u32)
            .map(|n| Rank { value: f64::from(n * 7919 % 23), thread: (n % 3) as u16, index: n })
            .collect();
        let page = |after, limit| {
            let mut top = Top::new(after, limit);
            ranks.iter().for_each(|rank| top.offer(*rank, *rank));
            top.into_sorted().collect::<Vec<Rank>>()
        };
        let whole = page(None, ranks.len());
        assert!(whole.is_sorted_by(|one, next| one.value >= next.value));
        let mut in_pages = Vec::new();
        loop {
            let next = page(in_pages.last().copied(), 7);
            if next.is_empty() {
                break;
            }
            in_pages.extend(next);
        }
        assert_eq!(in_pages, whole);
    }
}
