//! `/v1/documents`: which there are, and who is on one.

use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pinwire_admin_api::connections::Dialect;
use pinwire_admin_api::documents::{
    Document, DocumentDetail, DocumentPage, DocumentSort, DocumentState, Member,
};
use pinwire_registry::Claim;
use pinwire_shard::{DocumentFilter, DocumentName, Pinned};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Services;
use super::plane::Position;
use super::problem::Problem;
use super::request::{InPath, Parameters, page_size};
use super::routes::{Errors, NotFound, Shared};
use crate::data::inspect::{DocumentRow, MemberRow, Order, Rank, Socket};

/// Documents or members of a page.
const PAGE_MAX: usize = 500;

/// Which documents, in which order.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    /// Of this tenant.
    tenant: Option<String>,
    /// Of apps of this id.
    app: Option<String>,
    /// Whose names begin so.
    prefix: Option<String>,
    /// Those with the most of this first. In no order without it.
    #[param(inline)]
    sort: Option<DocumentSort>,
    /// `next` of the page before.
    #[param(pattern = "^([0-9a-f]{16}\\.)?[0-9]{1,4}\\.[0-9]{1,9}$")]
    cursor: Option<String>,
    /// Documents of the page, 100 without it.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// Active documents, a page at a time. Without `sort`, going from page to page finds each document that is there the whole time
/// exactly once. With it, each page is of its own moment, and a document that rises or falls meanwhile may be found twice
/// or not at all.
#[utoipa::path(
    get,
    path = "/v1/documents",
    operation_id = "documents",
    tag = "documents",
    params(ListParameters),
    responses((status = 200, body = DocumentPage, description = "A page."), Errors)
)]
pub(super) async fn list(
    State(services): Shared,
    Parameters(asked): Parameters<ListParameters>,
) -> Result<Json<DocumentPage>, Problem> {
    let limit = page_size(asked.limit, PAGE_MAX)?;
    let cursor = asked.cursor.as_deref().map(Cursor::from_str).transpose()?;
    let boxed = |text: Option<String>| text.map(String::into_boxed_str);
    let filter = Arc::new(DocumentFilter {
        tenant: boxed(asked.tenant),
        app: boxed(asked.app),
        prefix: boxed(asked.prefix),
    });
    let page = match (asked.sort, cursor) {
        (None, cursor) => {
            let from = cursor.map_or(Position::default(), |cursor| cursor.position);
            let part = services.plane.documents(from, &filter, limit).await;
            let next = part.next.map(|position| Cursor { value: None, position }.to_string());
            DocumentPage { documents: tell_all(&services, &part.rows), next, is_partial: part.is_partial }
        }
        (Some(sort), cursor) => {
            let order = order(sort);
            let after = cursor.and_then(|cursor| cursor.rank());
            let (rows, is_whole) = services.plane.top(&filter, order, after, limit).await;
            let last = rows.last().filter(|_| rows.len() == limit);
            let next = last.map(|row| Cursor::behind(Rank::of(order, row)).to_string());
            DocumentPage { documents: tell_all(&services, &rows), next, is_partial: !is_whole }
        }
    };
    Ok(Json(page))
}

/// Which document.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct DocumentPath {
    /// Whose it is.
    tenant: String,
    /// Of which app.
    app: String,
    /// Its name within the app.
    name: String,
}

impl From<DocumentPath> for DocumentName {
    fn from(path: DocumentPath) -> Self {
        Self { tenant: path.tenant.into(), app: path.app.into(), name: path.name.into() }
    }
}

/// Which members.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct MembersParameters {
    /// `next` of the page before.
    #[param(maximum = 4294967295_u32)]
    cursor: Option<u32>,
    /// Members of the page, 100 without it.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// An active document, and some of its members.
#[utoipa::path(
    get,
    path = "/v1/documents/{tenant}/{app}/{name}",
    operation_id = "document",
    tag = "documents",
    params(DocumentPath, MembersParameters),
    responses((status = 200, body = DocumentDetail, description = "The document."), NotFound, Errors)
)]
pub(super) async fn one(
    State(services): Shared,
    InPath(path): InPath<DocumentPath>,
    Parameters(asked): Parameters<MembersParameters>,
) -> Result<Json<DocumentDetail>, Problem> {
    let limit = page_size(asked.limit, PAGE_MAX)?;
    let found = services.plane.document(&path.into(), asked.cursor, limit).await;
    let found = found.map_err(|_| Problem::unavailable("a data thread did not answer in time"))?;
    let Some((answer, is_whole)) = found else { return Err(not_open()) };
    let last = answer.members.last().filter(|_| answer.has_more);
    Ok(Json(DocumentDetail {
        next: last.map(|member| member.session.to_string()),
        document: tell(&services, &answer.document),
        members: answer.members.iter().map(|member| tell_member(&services, member)).collect(),
        is_partial: !is_whole,
    }))
}

pub(super) fn not_open() -> Problem {
    Problem::not_found("nobody has this document open here")
}

pub(super) fn order(sort: DocumentSort) -> Order {
    match sort {
        DocumentSort::Members => Order::Members,
        DocumentSort::Edits => Order::Edits,
        DocumentSort::Bytes => Order::Bytes,
        DocumentSort::Log => Order::Log,
    }
}

pub(super) fn tell_all(services: &Services, rows: &[DocumentRow]) -> Vec<Document> {
    rows.iter().map(|row| tell(services, row)).collect()
}

fn tell(services: &Services, row: &DocumentRow) -> Document {
    let DocumentRow { thread, name, facts, is_adrift } = row;
    Document {
        tenant: name.tenant.to_string(),
        app: name.app.to_string(),
        name: name.name.to_string(),
        state: match facts.state {
            pinwire_shard::DocumentState::Loading => DocumentState::Loading,
            pinwire_shard::DocumentState::Live => DocumentState::Live,
            pinwire_shard::DocumentState::Grace => DocumentState::Grace,
        },
        claim: facts.claim.map(|Pinned { epoch, nonce }| Claim { epoch, nonce }.to_string()),
        is_adrift: *is_adrift,
        since: services.clock.at_tick(facts.opened),
        members: facts.members as u64,
        present: facts.present as u64,
        edits_per_second: rounded(facts.rates.edits),
        bytes_per_second: rounded(facts.rates.bytes),
        log_bytes: facts.log_bytes as u64,
        unstored_bytes: facts.unstored_bytes as u64,
        is_rejecting: facts.is_rejecting,
        thread: *thread,
    }
}

/// To hundredths: a rate has no more meaning than that.
fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

fn tell_member(services: &Services, member: &MemberRow) -> Member {
    let id = match member.socket {
        Socket::Known(_, id) => Some(id),
        Socket::Unknown(..) | Socket::OverLink => None,
    };
    Member {
        connection: id.map(|id| id.to_string()),
        subject: member.subject.clone(),
        dialect: dialect(member.dialect),
        since: id.map(|id| services.clock.at_tick(id.opened)),
        is_read_only: member.read_only,
        thread: member.socket.thread(),
    }
}

pub(super) fn dialect(dialect: pinwire_shard::Dialect) -> Dialect {
    match dialect {
        pinwire_shard::Dialect::YWebsocket => Dialect::YWebsocket,
        pinwire_shard::Dialect::Hocuspocus => Dialect::Hocuspocus,
    }
}

/// Where a page begins: `THREAD.PLACE`, and in an order what the last document before it had, as the bits of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cursor {
    value: Option<f64>,
    pub(super) position: Position,
}

impl Cursor {
    pub(super) fn at(position: Position) -> Self {
        Self { value: None, position }
    }

    fn behind(rank: Rank) -> Self {
        let position = Position { thread: rank.thread.into(), at: rank.index };
        Self { value: Some(rank.value), position }
    }

    fn rank(self) -> Option<Rank> {
        let thread = u16::try_from(self.position.thread).ok()?;
        Some(Rank { value: self.value?, thread, index: self.position.at })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(value) = self.value {
            write!(f, "{:016x}.", value.to_bits())?;
        }
        write!(f, "{}.{}", self.position.thread, self.position.at)
    }
}

impl FromStr for Cursor {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let parse = || {
            let mut parts = text.rsplitn(3, '.');
            let (at, thread) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let value = match parts.next() {
                Some(bits) => Some(f64::from_bits(u64::from_str_radix(bits, 16).ok()?)),
                None => None,
            };
            Some(Self { value, position: Position { thread, at } })
        };
        parse().ok_or_else(|| Problem::malformed("cursor is not the `next` of a page of these"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written() {
        for cursor in [
            Cursor::at(Position { thread: 3, at: 4_000_000 }),
            Cursor::behind(Rank { value: 0.1 + 0.2, thread: 1, index: 0 }),
        ] {
            assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }
        for none in ["", "1", "1.", ".1", "x.1", "1.x", "g.1.1", "1.1.1.1", "1.4294967296"] {
            assert!(none.parse::<Cursor>().is_err(), "{none}");
        }
    }
}
