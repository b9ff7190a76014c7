//! What happened on a node.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::node::Status;
use crate::standing::Rung;

/// Some events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The oldest first.
    pub events: Vec<Event>,
    /// The parameter `since` that gives what comes after these.
    pub next: u64,
    /// Events after `since` that are not kept any more.
    pub lost: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts from 1 since the node's start.
    pub sequence: u64,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// Documents were removed from the store for good.
    Erased {
        /// How many.
        documents: u64,
    },
    /// The node started.
    Started {
        /// Of the program.
        version: String,
    },
    /// The configuration was read again, and taken over.
    Reloaded {
        /// Keys with another value than before.
        changed: Vec<String>,
        /// Of these, those that keep their value until a restart.
        needs_restart: Vec<String>,
    },
    /// The configuration was read again, and cannot be used.
    ReloadRefused {
        /// What is wrong with it.
        problems: Vec<String>,
    },
    /// The node takes fewer clients than before, or more again.
    StandingChanged {
        /// Names this change; answers to clients that are refused for it have it, too.
        change: String,
        /// The status before.
        before: Status,
        /// The status from now on.
        status: Status,
        /// What the node still does.
        rung: Rung,
        /// Whether the region's name is to resolve to the node.
        in_dns: bool,
        /// Why, with numbers.
        cause: String,
        /// How full it was: of connections.
        connections_percent: u32,
        /// Of memory, where that is known and counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_percent: Option<u32>,
        /// Of processor time, where that is known and counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cpu_percent: Option<u32>,
    },
    /// A data thread takes no more connections for now. Told once in a while, however often it happens.
    Pressure {
        /// Which thread.
        thread: u16,
        /// What there is no more of.
        of: String,
    },
    /// Somebody asked with a bearer token that is not the node's, or none. Told once in a while, however often it happens.
    Unauthenticated {
        /// From where.
        address: String,
    },
    /// A stateless message came from a client.
    Message {
        /// On whose document.
        tenant: String,
        /// Of which app.
        app: String,
        /// Which.
        name: String,
        /// The `sub` of the sender's token; missing where the sender's socket is on another thread than the document.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// What it says; missing if that is more than 4 KiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<String>,
        /// How long it is.
        bytes: u64,
    },
    /// An operator closed a connection.
    ConnectionClosed {
        /// Its id.
        connection: String,
        /// With this code.
        code: u16,
    },
    /// Another region has a document that this node held; its clients were sent there.
    DocumentLost {
        /// `{tenant}::{app}::{name}`.
        document: String,
        /// Which region.
        region: String,
    },
    /// The region's Redis had no room for a document for too long: its clients were sent away for a while.
    DocumentGivenUp {
        /// `{tenant}::{app}::{name}`.
        document: String,
    },
    /// A document that this node held was taken away from its region ([`Self::Unpinned`]); its clients come again.
    DocumentUnpinned {
        /// `{tenant}::{app}::{name}`.
        document: String,
    },
    /// An operator took a document away from its region.
    Unpinned {
        /// `{tenant}::{app}::{name}`.
        document: String,
        /// The region that had it.
        region: String,
    },
    /// A document was moved to this node's region from another.
    DocumentMoved {
        /// Whose.
        tenant: String,
        /// Of which app.
        app: String,
        /// Which.
        name: String,
        /// The region that had it.
        from: String,
    },
    /// An operator ended a document.
    DocumentEnded {
        /// Whose.
        tenant: String,
        /// Of which app.
        app: String,
        /// Which.
        name: String,
        /// Sessions that it had.
        members: u64,
    },
    /// An operator sent a stateless message to a document's members.
    MessageSent {
        /// Whose.
        tenant: String,
        /// Of which app.
        app: String,
        /// Which.
        name: String,
        /// Sessions that it was sent to.
        members: u64,
    },
    /// A region is not as it should be, as seen from this node's region.
    IncidentBegan {
        /// Of the incident.
        id: String,
        /// Which region.
        region: String,
        /// `degraded` or `unavailable`.
        state: String,
    },
    /// A region is as it should be again, or its maintenance has begun.
    IncidentEnded {
        /// Of the incident.
        id: String,
        /// Which region.
        region: String,
    },
    /// An operator announced maintenance, or had an announcement say something else.
    MaintenanceAnnounced {
        /// Of the announcement.
        id: String,
        /// Counts from 1 with each change.
        revision: u64,
        /// What it is called.
        title: String,
        /// Where.
        regions: Vec<String>,
    },
    /// An operator called off what was announced.
    MaintenanceWithdrawn {
        /// Of the announcement.
        id: String,
        /// What it was called.
        title: String,
    },
    /// Something else is logged now.
    LogChanged {
        /// What.
        filter: String,
    },
    /// The node leaves: its clients go elsewhere, by and by.
    Draining {
        /// Who wants it to, and why.
        why: String,
        /// Connections that it has.
        connections: u64,
    },
    /// It does not leave after all.
    DrainCancelled,
    /// All of its clients are gone, or the time for that is over.
    Drained {
        /// Connections that are left.
        connections: u64,
    },
    /// Another process has been started, and takes the node's connections from now on.
    Succeeded {
        /// Its process id.
        pid: u32,
    },
    /// The process that had taken over has ended without having been told to: this one takes the node's connections again.
    SuccessorLost {
        /// Its process id.
        pid: u32,
        /// How it ended.
        how: String,
    },
    /// Another process was started to take over, and does not: this one goes on.
    SuccessionFailed {
        /// Why.
        error: String,
    },
    /// The node's addresses are in its region's name.
    DnsJoined {
        /// Why.
        why: String,
    },
    /// They are not in it any more.
    DnsLeft {
        /// Why.
        why: String,
    },
    /// The region's name cannot be kept.
    DnsFailing {
        /// What was said.
        error: String,
    },
    /// It can be kept again.
    DnsWorks,
    /// The node is about to stop.
    Stopping,
}
