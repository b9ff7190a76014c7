//! What an operator can have done, and the records of that.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How connections are closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseRequest {
    /// One of the node's close codes (`docs/close-codes.md`). 1000 where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1000, maximum = 4999)]
    pub code: Option<u16>,
    /// What the client is told, at most 123 bytes. The code's name where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 123)]
    pub reason: Option<String>,
}

/// A connection was told to close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionClosed {
    /// Which.
    pub connection: String,
}

/// A document was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentEnded {
    /// Sessions that it had.
    pub members: u64,
}

/// Documents were removed from the store for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Erased {
    /// How many.
    pub documents: u64,
}

/// A stateless message for the members of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageRequest {
    /// What they are sent, at most 64 KiB. The node gives it no meaning.
    #[schema(max_length = 65536)]
    pub payload: String,
}

/// A stateless message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageSent {
    /// Sessions that it was sent to.
    pub members: u64,
    /// Sessions that speak y-websocket, which has no such message.
    pub unable: u64,
}

/// Where a document is to be moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// A region, as in `eu-central-1`.
    pub region: String,
}

/// A document was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentMoved {
    /// The region that had it.
    pub from: String,
    /// The region that has it.
    pub region: String,
    /// The identity of its pin there: `{epoch}-{nonce}`, each 16 hexadecimal digits.
    pub claim: String,
}

/// What is to be logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    /// A level, or levels by module, as in `info,pinwire_node=debug`.
    #[schema(min_length = 1, max_length = 1024)]
    pub filter: String,
    /// Seconds after which what is configured holds again. Missing: until the configuration is read again, or the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86400)]
    pub for_seconds: Option<u32>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Log {
    /// Now.
    pub filter: String,
    /// By the configuration.
    pub configured: String,
    /// When what is configured holds again, if it does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub until: Option<String>,
}

/// Some records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The oldest first.
    pub records: Vec<AuditRecord>,
    /// The parameter `since` that gives what comes after these.
    pub next: u64,
    /// Records after `since` that are not kept in memory any more; the file has them.
    pub lost: u64,
}

/// What somebody had done, or tried to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// Counts from 1 since the node's start.
    pub sequence: u64,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// Who.
    pub who: Who,
    /// What.
    #[serde(flatten)]
    pub what: Action,
    /// How it ended.
    pub outcome: Outcome,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Who {
    /// The other end of the connection; missing on the Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The beginning of the SHA-256 of the bearer token, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The user of the process at the other end of the Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The client's certificate: its first name, and the beginning of its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Close a connection.
    CloseConnection {
        /// Its id.
        connection: String,
        /// With this code.
        code: u16,
        /// And reason.
        reason: String,
    },
    /// End a document.
    EndDocument {
        /// Whose.
        tenant: String,
        /// Of which app.
        app: String,
        /// Which.
        name: String,
        /// Its members are closed with this code.
        code: u16,
        /// And reason.
        reason: String,
    },
    /// Send a stateless message to a document's members. What it says is not recorded.
    SendMessage {
        /// Whose.
        tenant: String,
        /// Of which app.
        app: String,
        /// Which.
        name: String,
        /// How long it is.
        bytes: u64,
    },
    /// Remove a document from the store for good.
    EraseDocument {
        /// Whose.
        tenant: String,
        /// Of which app.
        app: String,
        /// Which.
        name: String,
    },
    /// Remove every document of an app from the store for good.
    EraseApp {
        /// Whose.
        tenant: String,
        /// Which.
        app: String,
    },
    /// Take a document away from its region.
    Unpin {
        /// Whose.
        tenant: String,
        /// Of which app.
        app: String,
        /// Which.
        name: String,
    },
    /// Write an app's record.
    PutAppRecord {
        /// Whose.
        tenant: String,
        /// Which.
        app: String,
        /// The version that it replaces; 0: there was none.
        version: u64,
    },
    /// Remove an app's record.
    DeleteAppRecord {
        /// Whose.
        tenant: String,
        /// Which.
        app: String,
        /// The version that is removed.
        version: u64,
    },
    /// Move a document to another region.
    MoveDocument {
        /// Whose.
        tenant: String,
        /// Of which app.
        app: String,
        /// Which.
        name: String,
        /// Where to.
        region: String,
    },
    /// Have the node leave, its clients by and by.
    Drain,
    /// Have it stay after all.
    CancelDrain,
    /// Have another process take over.
    Upgrade,
    /// Announce maintenance.
    AnnounceMaintenance {
        /// What it is called.
        title: String,
        /// Where.
        regions: Vec<String>,
    },
    /// Have an announcement say something else.
    ChangeMaintenance {
        /// Which.
        id: String,
        /// The revision that it replaces.
        revision: u64,
    },
    /// Call off what was announced.
    WithdrawMaintenance {
        /// Which.
        id: String,
    },
    /// Log something else.
    SetLog {
        /// What; missing: what is configured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filter: Option<String>,
        /// For how long; missing: for good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_seconds: Option<u32>,
    },
}

/// Another process has been started, and takes over once it is ready. What becomes of it is `upgrade` of `/v1/node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpgradeBegun {
    /// Which.
    pub pid: u32,
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not, for this reason.
    Failed(String),
}
