//! Messages of documents that move from one region to another, and their bytes.
//!
//! | kind | message | sent by |
//! | --- | --- | --- |
//! | 48 | move: number, tenant, app, license region, document | who was asked to have it moved, to a node of its new region |
//! | 49 | moved: number, what came of it, region, claim | that node |
//! | 50 | hand over: number, tenant, app, document, claim, the fence's claim | the new region, which dialled |
//! | 51 | piece: number, bytes of what the session has | the region that has it |
//! | 52 | handed: number, what came of it | that region, after the last piece |
//! | 53 | more: number | the new region: one more piece may come |
//! | 54 | settle: number | the new region: the registry has decided |
//! | 55 | in the place of 52, from version 3 on: number, what came of it, how many nodes held it and have stopped, their names | that region |
//! | 56 | give back, from version 4 on: number, tenant, app, license region, document | the new region, to a node that may hold the document for nobody |
//!
//! Numbers are the dialler's. What the session has is its base, if there is one, and its updates since: a byte that says whether
//! there is a base, and each with its length in front.

use crate::LinkError;
use crate::message::{eight, name, number};
use pinwire_protocol::document::Malformed;
use pinwire_protocol::document::varint::{
    Reader, var_bytes_len, write_var_bytes, write_var_string, write_var_uint,
};
use pinwire_shard::Pinned;
use std::sync::Arc;

/// Bytes of a piece at most.
pub const PIECE_MAX: usize = 128 << 10;
/// The first version in which it is told who has stopped.
pub const HOLDERS_SINCE: u8 = 3;
/// The first version in which a node can be told to give back what nobody has open there.
pub const GIVES_BACK_SINCE: u8 = 4;
/// Nodes of one region that hold a document, at most.
const NODES_MAX: u32 = 4_096;
/// Pieces that are on their way at once.
pub const PIECES_UNDER_WAY: u32 = 32;

/// Which document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Whose.
    pub tenant: Box<str>,
    /// Of which app.
    pub app: Box<str>,
    /// Its name.
    pub document: Box<str>,
}

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moving {
    /// The document is to be moved to the region of who is told; its license region.
    Move(u32, Named, Box<str>),
    /// What came of that: the code is the nodes' own; which region it was of, or is; its claim.
    Moved(u32, u8, Box<str>, Pinned),
    /// The document is to be frozen and handed over: its claim, and that of the fence.
    HandOver(u32, Named, Pinned, Pinned),
    /// Some of what its session has.
    Piece(u32, Box<[u8]>),
    /// That was all, and the names of the nodes that held the document and have stopped, from [`HOLDERS_SINCE`] on; or why there
    /// is nothing.
    Handed(u32, u8, Option<Box<[Box<str>]>>),
    /// A piece was taken.
    More(u32),
    /// What becomes of the document is decided.
    Settle(u32),
    /// The document of this license region is being moved: it is to be given back if nobody has it open. Not answered.
    GiveBack(u32, Named, Box<str>),
}

impl Moving {
    /// Which move it is about.
    #[must_use]
    pub fn number(&self) -> u32 {
        match self {
            Self::Move(number, ..)
            | Self::Moved(number, ..)
            | Self::HandOver(number, ..)
            | Self::Piece(number, _)
            | Self::Handed(number, ..)
            | Self::More(number)
            | Self::GiveBack(number, ..)
            | Self::Settle(number) => *number,
        }
    }

    /// Whether the end that dialled says so.
    #[must_use]
    pub fn is_of_dialler(&self) -> bool {
        !matches!(self, Self::Moved(..) | Self::Piece(..) | Self::Handed(..))
    }
}

fn write_name(named: &Named, out: &mut Vec<u8>) {
    for text in [&named.tenant, &named.app, &named.document] {
        write_var_string(out, text);
    }
}

fn read_name(reader: &mut Reader<'_>) -> Result<Named, LinkError> {
    Ok(Named { tenant: name(reader)?, app: name(reader)?, document: name(reader)? })
}

fn read_nodes(reader: &mut Reader<'_>) -> Result<Box<[Box<str>]>, LinkError> {
    let count = number(reader)?;
    if count > NODES_MAX {
        return Err(LinkError::TooMuch("nodes"));
    }
    (0..count).map(|_| name(reader)).collect()
}

fn write_claim(claim: Pinned, out: &mut Vec<u8>) {
    out.extend_from_slice(&claim.epoch.to_be_bytes());
    out.extend_from_slice(&claim.nonce.to_be_bytes());
}

fn read_claim(reader: &mut Reader<'_>) -> Result<Pinned, LinkError> {
    Ok(Pinned { epoch: eight(reader)?, nonce: eight(reader)? })
}

pub(crate) fn encode(moving: &Moving, out: &mut Vec<u8>) {
    let kind = match moving {
        Moving::Move(..) => 48,
        Moving::Moved(..) => 49,
        Moving::HandOver(..) => 50,
        Moving::Piece(..) => 51,
        Moving::Handed(_, _, None) => 52,
        Moving::Handed(_, _, Some(_)) => 55,
        Moving::More(_) => 53,
        Moving::Settle(_) => 54,
        Moving::GiveBack(..) => 56,
    };
    out.push(kind);
    write_var_uint(out, moving.number().into());
    match moving {
        Moving::Move(_, named, license) | Moving::GiveBack(_, named, license) => {
            write_name(named, out);
            write_var_string(out, license);
        }
        Moving::Moved(_, code, region, claim) => {
            out.push(*code);
            write_var_string(out, region);
            write_claim(*claim, out);
        }
        Moving::HandOver(_, named, claim, fence) => {
            write_name(named, out);
            write_claim(*claim, out);
            write_claim(*fence, out);
        }
        Moving::Piece(_, bytes) => out.extend_from_slice(bytes),
        Moving::Handed(_, code, nodes) => {
            out.push(*code);
            if let Some(nodes) = nodes {
                write_var_uint(out, nodes.len() as u64);
                nodes.iter().for_each(|node| write_var_string(out, node));
            }
        }
        Moving::More(_) | Moving::Settle(_) => {}
    }
}

/// Reads what follows the kind; `None`: there is no such kind.
pub(crate) fn decode(kind: u8, reader: &mut Reader<'_>) -> Option<Result<Moving, LinkError>> {
    if !(48..57).contains(&kind) {
        return None;
    }
    Some(decode_known(kind, reader))
}

fn decode_known(kind: u8, reader: &mut Reader<'_>) -> Result<Moving, LinkError> {
    let which = number(reader)?;
    let moving = match kind {
        48 => Moving::Move(which, read_name(reader)?, name(reader)?),
        49 => Moving::Moved(which, reader.u8()?, name(reader)?, read_claim(reader)?),
        50 => Moving::HandOver(which, read_name(reader)?, read_claim(reader)?, read_claim(reader)?),
        51 => {
            let bytes = reader.rest();
            if bytes.len() > PIECE_MAX {
                return Err(LinkError::TooMuch("a piece"));
            }
            return Ok(Moving::Piece(which, bytes.into()));
        }
        52 => Moving::Handed(which, reader.u8()?, None),
        53 => Moving::More(which),
        54 => Moving::Settle(which),
        56 => Moving::GiveBack(which, read_name(reader)?, name(reader)?),
        _ => Moving::Handed(which, reader.u8()?, Some(read_nodes(reader)?)),
    };
    reader.finish()?;
    Ok(moving)
}

/// What a session has, as it crosses the link in pieces.
#[must_use]
pub fn pack(base: Option<&[u8]>, updates: &[Box<[u8]>]) -> Vec<u8> {
    let parts = || base.into_iter().chain(updates.iter().map(|update| &**update));
    let mut bytes = Vec::with_capacity(1 + parts().map(|part| var_bytes_len(part.len())).sum::<usize>());
    bytes.push(u8::from(base.is_some()));
    parts().for_each(|part| write_var_bytes(&mut bytes, part));
    bytes
}

/// A base, if there is one, and the updates since.
pub type Unpacked = (Option<Arc<[u8]>>, Vec<Box<[u8]>>);

/// What all pieces together say.
///
/// # Errors
/// They are not what [`pack`] makes.
pub fn unpack(bytes: &[u8]) -> Result<Unpacked, Malformed> {
    let mut reader = Reader::new(bytes);
    let base = match reader.u8()? {
        0 => None,
        1 => Some(reader.var_bytes()?.into()),
        _ => return Err(Malformed::Integer),
    };
    let mut updates = Vec::new();
    while !reader.is_empty() {
        updates.push(reader.var_bytes()?.into());
    }
    Ok((base, updates))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, decode as decode_message, encode as encode_message};
    use proptest::prelude::*;

    fn claims() -> impl Strategy<Value = Pinned> {
        any::<[u64; 2]>().prop_map(|[epoch, nonce]| Pinned { epoch, nonce })
    }

    fn names() -> impl Strategy<Value = Named> {
        ("[a-z]{0,9}", "[a-z]{0,9}", "[a-z]{0,99}").prop_map(|(tenant, app, document)| Named {
            tenant: tenant.into(),
            app: app.into(),
            document: document.into(),
        })
    }

    fn messages() -> impl Strategy<Value = Moving> {
        let number = any::<u32>();
        prop_oneof![
            (number, names(), "[a-z0-9-]{0,20}").prop_map(|(n, named, license)| Moving::Move(
                n,
                named,
                license.into()
            )),
            (number, any::<u8>(), "[a-z0-9-]{0,20}", claims())
                .prop_map(|(n, code, region, claim)| Moving::Moved(n, code, region.into(), claim)),
            (number, names(), claims(), claims())
                .prop_map(|(n, named, claim, fence)| Moving::HandOver(n, named, claim, fence)),
            (number, prop::collection::vec(any::<u8>(), 0..300))
                .prop_map(|(n, bytes)| Moving::Piece(n, bytes.into())),
            (number, any::<u8>(), prop::option::of(prop::collection::vec("[a-z0-9-]{0,20}", 0..5))).prop_map(
                |(n, code, nodes)| Moving::Handed(
                    n,
                    code,
                    nodes.map(|nodes| nodes.into_iter().map(Into::into).collect())
                )
            ),
            number.prop_map(Moving::More),
            number.prop_map(Moving::Settle),
            (number, names(), "[a-z]{0,9}").prop_map(|(number, named, license)| Moving::GiveBack(
                number,
                named,
                license.into()
            )),
        ]
    }

    #[test]
    fn what_is_handed_over_is_told_to_an_older_node_as_it_knows_it() {
        let mut bytes = Vec::new();
        encode(&Moving::Handed(7, 21, None), &mut bytes);
        assert_eq!(bytes, [52, 7, 21], "nothing behind, up to version 2");
        bytes.clear();
        encode(&Moving::Handed(7, 0, Some(["eu".into()].into())), &mut bytes);
        assert_eq!(bytes, [55, 7, 0, 1, 2, b'e', b'u']);
    }

    proptest! {
        #[test]
        fn a_message_of_a_move_is_read_as_it_was_written(moving in messages()) {
            let mut bytes = Vec::new();
            encode_message(&Message::Moving(Box::new(moving.clone())), &mut bytes);
            let read = decode_message(&bytes).expect("written by us");
            prop_assert!(matches!(&read, Message::Moving(read) if **read == moving), "{read:?}");
            if !matches!(moving, Moving::Piece(..)) {
                prop_assert!(decode_message(&bytes[..bytes.len() - 1]).is_err());
                bytes.push(0);
                prop_assert!(decode_message(&bytes).is_err());
            }
        }

        #[test]
        fn what_a_session_has_is_unpacked_as_it_was_packed(
            base in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
            updates in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..9),
        ) {
            let updates: Vec<Box<[u8]>> = updates.into_iter().map(Into::into).collect();
            let bytes = pack(base.as_deref(), &updates);
            let (read, since) = unpack(&bytes).expect("packed by us");
            prop_assert_eq!((read.as_deref(), since), (base.as_deref(), updates));
        }

        #[test]
        fn hostile_bytes_are_refused_or_unpacked(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((base, updates)) = unpack(&bytes) {
                prop_assert!(unpack(&pack(base.as_deref(), &updates)).is_ok());
            }
        }
    }
}
