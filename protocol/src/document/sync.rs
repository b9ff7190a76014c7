//! The Yjs sync messages, which both dialects carry: step 1, step 2, update.

use super::Malformed;
use super::varint::{Reader, var_bytes_len, write_var_bytes, write_var_uint};

pub(super) const STEP_1: u64 = 0;
pub(super) const STEP_2: u64 = 1;
pub(super) const UPDATE: u64 = 2;

/// One sync message; its bytes are not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMessage<'a> {
    /// "This is what I have": an encoded state vector.
    Step1 {
        /// See [`StateVector`](super::state_vector::StateVector).
        state_vector: &'a [u8],
    },
    /// "This is what you lack": the answer to step 1.
    Step2 {
        /// See [`update`](super::update).
        update: &'a [u8],
    },
    /// An edit as it happens.
    Update {
        /// See [`update`](super::update).
        update: &'a [u8],
    },
}

impl<'a> SyncMessage<'a> {
    /// Reads one message; what follows it is left in `reader`.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        match reader.var_uint()? {
            STEP_1 => Ok(Self::Step1 { state_vector: reader.var_bytes()? }),
            STEP_2 => Ok(Self::Step2 { update: reader.var_bytes()? }),
            UPDATE => Ok(Self::Update { update: reader.var_bytes()? }),
            _ => Err(Malformed::UnknownType),
        }
    }

    /// Appends the message.
    pub fn append(&self, out: &mut Vec<u8>) {
        let (kind, bytes) = self.parts();
        write_var_uint(out, kind);
        write_var_bytes(out, bytes);
    }

    /// Bytes [`append`](Self::append) appends.
    pub fn encoded_len(&self) -> usize {
        1 + var_bytes_len(self.parts().1.len())
    }

    fn parts(&self) -> (u64, &'a [u8]) {
        match *self {
            Self::Step1 { state_vector } => (STEP_1, state_vector),
            Self::Step2 { update } => (STEP_2, update),
            Self::Update { update } => (UPDATE, update),
        }
    }
}
