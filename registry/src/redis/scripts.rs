//! The scripts, each with the common part in front.

/// What this node knows of data in Redis. A node of a later revision writes what this one would not understand only once no node
/// of an earlier revision lives; then this one is refused ([`crate::OutOfReach`] says so).
pub(super) const REVISION: u32 = 1;

pinwire_redis::scripts! {
    pub(super) struct Scripts after "lua/prelude.lua" {
        register: "lua/register.lua",
        renew: "lua/renew.lua",
        retire: "lua/retire.lua",
        claim: "lua/claim.lua",
        release: "lua/release.lua",
        assert: "lua/assert.lua",
        locate: "lua/locate.lua",
        move_to: "lua/move.lua",
        usage: "lua/usage.lua",
        app: "lua/app.lua",
        put_app: "lua/put_app.lua",
        nodes: "lua/nodes.lua",
        pins: "lua/pins.lua",
        sweep: "lua/sweep.lua",
    }
}
