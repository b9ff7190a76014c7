//! The scripts, each with the common part in front.

use pinwire_redis::Script;

/// What this node knows of data in Redis. A node of a later revision writes what this one would not understand only once no node
/// of an earlier revision lives; then this one is refused ([`crate::OutOfReach`] says so).
pub const REVISION: u32 = 1;

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(
            include_str!("lua/prelude.lua"),
            "\n",
            include_str!(concat!("lua/", $file, ".lua"))
        ))
    };
}

pub(super) struct Scripts {
    pub(super) register: Script,
    pub(super) renew: Script,
    pub(super) retire: Script,
    pub(super) claim: Script,
    pub(super) release: Script,
    pub(super) assert: Script,
    pub(super) locate: Script,
    pub(super) move_to: Script,
    pub(super) unpin: Script,
    pub(super) usage: Script,
    pub(super) app: Script,
    pub(super) put_app: Script,
    pub(super) nodes: Script,
    pub(super) pins: Script,
    pub(super) sweep: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            register: script!("register"),
            renew: script!("renew"),
            retire: script!("retire"),
            claim: script!("claim"),
            release: script!("release"),
            assert: script!("assert"),
            locate: script!("locate"),
            move_to: script!("move"),
            unpin: script!("unpin"),
            usage: script!("usage"),
            app: script!("app"),
            put_app: script!("put_app"),
            nodes: script!("nodes"),
            pins: script!("pins"),
            sweep: script!("sweep"),
        }
    }
}
