//! What a test wants of its node, as it travels to the child process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinwire_node::admin::AdminToken;
use pinwire_node::config::{self, AddressLimits, Config};
use pinwire_node::store::{FileStoreConfig, StoreConfig};
use pinwire_token::{Key, KeySet};
use serde::{Deserialize, Serialize};

use super::admin::ADMIN_TOKEN;
use super::token::SECRET;

/// How the node talks to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driver {
    /// io_uring, or what the node falls back to.
    #[default]
    Uring,
    /// epoll.
    Epoll,
}

/// Changes to the configuration of `dev`; times in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Which engine.
    pub driver: Driver,
    /// Data threads.
    pub threads: usize,
    /// From accept to the whole request head.
    pub handshake_ms: u64,
    /// From the upgrade to the first frame.
    pub first_frame_ms: u64,
    /// Silence before a ping.
    pub ping_ms: u64,
    /// From a ping to any byte.
    pub pong_ms: u64,
    /// Time without a byte taken.
    pub slow_reader_ms: u64,
    /// How long a document outlives its last member.
    pub grace_ms: u64,
    /// Open sockets.
    pub max_connections: u32,
    /// Payload bytes of one message.
    pub max_message_bytes: usize,
    /// Fragments of one message.
    pub max_fragments: u32,
    /// Handshakes, discoveries and usages per minute and address.
    pub per_minute: Option<[u32; 3]>,
    /// Sockets that wait for the HTTP thread.
    pub http_queue: usize,
    /// Sockets that the HTTP thread serves at once.
    pub http_connections: usize,
    /// A public key (PEM) instead of the shared secret.
    pub public_key: Option<String>,
    /// Documents are kept here.
    pub store: Option<Store>,
    /// Whether the admin API is listened for.
    pub admin: bool,
}

/// A store on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Store {
    /// Its folder.
    pub folder: PathBuf,
    /// When it is on the disk.
    pub fsync: Fsync,
    /// How long a document outlives its session.
    pub retention_secs: u64,
    /// Bytes of the journal from which on a checkpoint is made.
    pub checkpoint_bytes: u64,
}

/// See `store.fsync` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fsync {
    /// When the system likes.
    Never,
    /// Every 100 ms.
    Interval,
    /// Before an acknowledgement.
    Always,
}

impl Store {
    /// In this folder, with checkpoints so small that there are many.
    #[must_use]
    pub fn busy(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), fsync: Fsync::Never, retention_secs: 0, checkpoint_bytes: 64 << 10 }
    }

    fn config(&self) -> StoreConfig {
        StoreConfig::File(FileStoreConfig {
            fsync: match self.fsync {
                Fsync::Never => pinwire_store::Fsync::Never,
                Fsync::Interval => pinwire_store::Fsync::Interval(Duration::from_millis(100)),
                Fsync::Always => pinwire_store::Fsync::Always,
            },
            retention: Duration::from_secs(self.retention_secs),
            checkpoint_bytes: self.checkpoint_bytes,
            ..FileStoreConfig::new(self.folder.clone())
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        let (deadlines, ws) = (config::Deadlines::default(), config::WebSocketLimits::default());
        let millis = |time: Duration| u64::try_from(time.as_millis()).expect("small");
        let http = config::HttpLimits::default();
        Self {
            driver: Driver::default(),
            threads: 1,
            handshake_ms: millis(deadlines.handshake),
            first_frame_ms: millis(deadlines.first_frame),
            ping_ms: millis(deadlines.ping),
            pong_ms: millis(deadlines.pong),
            slow_reader_ms: millis(deadlines.slow_reader),
            grace_ms: 200,
            max_connections: 20_000,
            max_message_bytes: ws.max_message_bytes,
            max_fragments: ws.max_fragments,
            per_minute: None,
            http_queue: http.queue,
            http_connections: http.max_connections,
            public_key: None,
            store: None,
            admin: false,
        }
    }
}

impl Options {
    /// The configuration.
    ///
    /// # Panics
    /// The key is none.
    #[must_use]
    pub fn config(&self) -> Config {
        let key = match &self.public_key {
            Some(pem) => Key::from_public_pem(pem),
            None => Key::from_secret(SECRET.as_bytes()),
        };
        let keys = KeySet::from_iter([key.expect("a good key")]);
        let millis = Duration::from_millis;
        let mut config = Config::dev(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), self.threads, keys);
        config.driver = match self.driver {
            Driver::Uring => config::Driver::Auto,
            Driver::Epoll => config::Driver::Epoll,
        };
        config.deadlines.handshake = millis(self.handshake_ms);
        config.deadlines.first_frame = millis(self.first_frame_ms);
        config.deadlines.ping = millis(self.ping_ms);
        config.deadlines.pong = millis(self.pong_ms);
        config.deadlines.slow_reader = millis(self.slow_reader_ms);
        config.deadlines.grace = millis(self.grace_ms);
        config.max_connections = self.max_connections;
        config.websocket.max_message_bytes = self.max_message_bytes;
        config.websocket.max_frame_bytes = self.max_message_bytes;
        config.websocket.max_fragments = self.max_fragments;
        config.address_limits = self.per_minute.map(|[connects, discoveries, usages]| AddressLimits {
            connects_per_minute: connects,
            discoveries_per_minute: discoveries,
            usages_per_minute: usages,
            ..AddressLimits::default()
        });
        config.store = self.store.as_ref().map_or(StoreConfig::Memory, Store::config);
        config.http.queue = self.http_queue;
        config.http.max_connections = self.http_connections;
        config.admin = self.admin.then(|| config::Admin {
            public_url: None,
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            socket: None,
            token: Some(AdminToken::new(ADMIN_TOKEN.as_bytes())),
            tls: None,
            audit_log: None,
        });
        config
    }
}
