//! A device: one WebSocket and the providers on it, as stock clients do it.

use super::member::{Context, Habits, Incoming, Member};
use super::replica::Replica;
use super::token::Token;
use fastrand::Rng;
use pinwire_protocol::document::hocuspocus::{self, Body, Frame};

/// Stock clients close a socket on which no data frame came for so long.
pub(super) const NO_DATA_MS: u64 = 30_000;
/// Stock clients look at their clocks this often.
pub(super) const TICK_MS: u64 = 3_000;

/// From here on a token comes late: past, or near, the deadline for it.
const LATE_MS: u64 = 5_000;

pub(super) enum Dialect {
    YWebsocket,
    Hocuspocus(Vec<Provider>),
}

/// What a Hocuspocus provider has beside its [`Member`].
pub(super) struct Provider {
    pub(super) key: String,
    pub(super) token: Option<Token>,
    pub(super) version: Option<&'static str>,
    /// How long the app takes to come up with a token after the socket opened.
    pub(super) token_delay_ms: u64,
    /// Its user types before the token is there.
    pub(super) types_early: bool,
    /// When Auth is to be sent, if it is still to come.
    auth_at: Option<u64>,
    /// The user left the document, and comes back at this time.
    pub(super) away_until: Option<u64>,
    pub(super) authenticated: bool,
    /// Keys of sessions that ended on this socket; frames for them may be under way.
    former: Vec<String>,
}

impl Provider {
    pub(super) fn new(key: String, token: Option<Token>, token_delay_ms: u64) -> Self {
        Self {
            key,
            token,
            version: None,
            token_delay_ms,
            types_early: true,
            auth_at: None,
            away_until: None,
            authenticated: false,
            former: Vec::new(),
        }
    }
}

pub(super) struct Device {
    pub(super) app: usize,
    pub(super) dialect: Dialect,
    /// One in y-websocket, as many as there are providers in Hocuspocus.
    pub(super) members: Vec<Member>,
    /// What the handshake carries.
    pub(super) document: Option<String>,
    pub(super) token: Option<Token>,
    pub(super) deflate: bool,
    pub(super) last_data_ms: u64,
}

impl Device {
    pub(super) fn ywebsocket(app: usize, replica: Replica, name: &str, token: Token, echoes: bool) -> Self {
        let habits = Habits { echoes, is_acknowledged: false, read_only: token.is_read_only() };
        let member = Member::new((app, name.to_owned()), replica, habits);
        Self {
            app,
            dialect: Dialect::YWebsocket,
            members: vec![member],
            document: Some(name.to_owned()),
            token: Some(token),
            deflate: false,
            last_data_ms: 0,
        }
    }

    pub(super) fn hocuspocus(app: usize, token: Option<Token>) -> Self {
        Self {
            app,
            dialect: Dialect::Hocuspocus(Vec::new()),
            members: Vec::new(),
            document: None,
            token,
            deflate: false,
            last_data_ms: 0,
        }
    }

    pub(super) fn add_provider(&mut self, name: &str, replica: Replica, echoes: bool, provider: Provider) {
        let Dialect::Hocuspocus(providers) = &mut self.dialect else { return };
        let tokens = [provider.token, self.token];
        let read_only = tokens.contains(&Some(Token::ReadOnly));
        let habits = Habits { echoes, is_acknowledged: true, read_only };
        self.members.push(Member::new((self.app, name.to_owned()), replica, habits));
        providers.push(provider);
    }

    pub(super) fn is_hocuspocus(&self) -> bool {
        matches!(self.dialect, Dialect::Hocuspocus(_))
    }

    /// The upgrade is done.
    pub(super) fn opened(&mut self, now_ms: u64) {
        self.last_data_ms = now_ms;
        let is_sure = self.token.is_none_or(Token::is_good);
        match &mut self.dialect {
            Dialect::YWebsocket => {
                for member in &mut self.members {
                    member.connect();
                    member.start_sync();
                }
            }
            Dialect::Hocuspocus(providers) => {
                for (provider, member) in providers.iter_mut().zip(&mut self.members) {
                    provider.authenticated = false;
                    if provider.away_until.is_none() {
                        member.connect();
                        // Whether what is typed before Auth is kept, or refused at the deadline, for the handshake's bad
                        // token, or because the document could not be had at that moment, is a race that users lose now
                        // and then; here they wait.
                        member.attached =
                            is_sure && provider.token_delay_ms < LATE_MS && provider.types_early;
                        provider.auth_at = Some(now_ms + provider.token_delay_ms);
                    }
                }
            }
        }
        self.pass_time(now_ms);
    }

    /// The socket is gone.
    pub(super) fn closed(&mut self) {
        for member in &mut self.members {
            member.disconnect();
        }
        if let Dialect::Hocuspocus(providers) = &mut self.dialect {
            for provider in providers {
                provider.authenticated = false;
                provider.auth_at = None;
            }
        }
    }

    /// What is due at this time: tokens, renewals, users that come back to a document.
    pub(super) fn pass_time(&mut self, now_ms: u64) {
        if let Dialect::Hocuspocus(providers) = &mut self.dialect {
            for (provider, member) in providers.iter_mut().zip(&mut self.members) {
                if provider.away_until.is_some_and(|back| now_ms >= back) {
                    provider.away_until = None;
                    // A new provider, and so a new session.
                    let new_key = format!("{}i", provider.key);
                    provider.former.push(std::mem::replace(&mut provider.key, new_key));
                    member.connect();
                    provider.auth_at = Some(now_ms);
                }
            }
        }
    }

    /// When [`Self::pass_time`] or [`Self::messages`] has something to do.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let Dialect::Hocuspocus(providers) = &self.dialect else { return None };
        providers.iter().filter_map(|provider| provider.auth_at.or(provider.away_until)).min()
    }

    pub(super) fn tick(&mut self, now_ms: u64) {
        for member in &mut self.members {
            member.tick(now_ms);
        }
    }

    /// The messages to send now, whole frames' payloads.
    pub(super) fn messages(&mut self, now_ms: u64) -> Vec<Vec<u8>> {
        match &mut self.dialect {
            Dialect::YWebsocket => self.members.iter_mut().flat_map(Member::take_outgoing).collect(),
            Dialect::Hocuspocus(providers) => {
                let mut messages = Vec::new();
                for (provider, member) in providers.iter_mut().zip(&mut self.members) {
                    keyed(&provider.key, member.take_outgoing(), &mut messages);
                    if provider.auth_at.is_some_and(|at| now_ms >= at) {
                        provider.auth_at = None;
                        let token = provider.token.map_or_else(String::new, |token| token.encode(self.app));
                        let mut auth = Vec::new();
                        hocuspocus::append_auth(&mut auth, &provider.key, &token, provider.version);
                        messages.push(auth);
                        member.attached = true;
                        member.start_sync();
                        keyed(&provider.key, member.take_outgoing(), &mut messages);
                    }
                }
                messages
            }
        }
    }

    /// A binary message of the server.
    pub(super) fn receive(&mut self, payload: &[u8], context: &mut Context<'_>) {
        self.last_data_ms = context.now_ms;
        match &mut self.dialect {
            Dialect::YWebsocket => match Incoming::of_ywebsocket(payload) {
                Ok(message) => self.members[0].receive(&message, context),
                Err(error) => context.model.violate(format!("y-websocket: {error}")),
            },
            Dialect::Hocuspocus(providers) => match hocuspocus::decode(payload) {
                Ok(Frame::Message { key, body }) => {
                    if providers.iter().any(|provider| provider.former.iter().any(|former| former == key.raw))
                    {
                        return;
                    }
                    let Some(at) = providers.iter().position(|provider| provider.key == key.raw) else {
                        return context.model.violate(format!("a frame for an unknown key {:?}", key.raw));
                    };
                    receive_keyed(&mut providers[at], &mut self.members[at], &body, context);
                }
                other => context.model.violate(format!("Hocuspocus: {other:?}")),
            },
        }
    }

    /// The user leaves one document for a while; the provider says so.
    pub(super) fn leave_document(&mut self, at: usize, until_ms: u64) -> Option<Vec<u8>> {
        let Dialect::Hocuspocus(providers) = &mut self.dialect else { return None };
        let provider = &mut providers[at];
        let has_session = provider.key.contains('\0');
        if provider.auth_at.is_some() || !provider.authenticated || !has_session {
            // Under a plain key, what is under way to the session that ended could not be told from what is for the next.
            return None;
        }
        self.members[at].disconnect();
        provider.authenticated = false;
        provider.away_until = Some(until_ms);
        let mut close = Vec::new();
        hocuspocus::append_close(&mut close, &provider.key, None);
        Some(close)
    }

    /// Whether everything that should be open is open and in step.
    pub(super) fn is_settled(&self) -> bool {
        let members = self.members.iter().all(|member| member.synced && member.unsynced() == 0);
        match &self.dialect {
            Dialect::YWebsocket => members,
            Dialect::Hocuspocus(providers) => members && providers.iter().all(|p| p.authenticated),
        }
    }

    /// A member that may type now.
    pub(super) fn pick(&mut self, rng: &mut Rng) -> &mut Member {
        let at = rng.usize(0..self.members.len());
        &mut self.members[at]
    }
}

fn keyed(key: &str, bodies: Vec<Vec<u8>>, messages: &mut Vec<Vec<u8>>) {
    for body in bodies {
        let mut message = Vec::new();
        hocuspocus::append_key(&mut message, key);
        message.extend(body);
        messages.push(message);
    }
}

fn receive_keyed(provider: &mut Provider, member: &mut Member, body: &Body<'_>, context: &mut Context<'_>) {
    if provider.away_until.is_some() {
        // Under way when the user left.
        return;
    }
    let message = match *body {
        Body::Authenticated { scope } => {
            provider.authenticated = true;
            if (scope == "readonly") != member.habits.read_only {
                context.model.violate(format!("{}: scope {scope}", provider.key));
            }
            return;
        }
        Body::PermissionDenied { .. } => {
            provider.authenticated = false;
            member.refused();
            // The app finds a better token and tries again.
            provider.token = Some(Token::replacing(provider.token, member.habits.read_only));
            if provider.auth_at.is_none() {
                provider.auth_at = Some(context.now_ms + context.rng.u64(200..3_000));
            }
            return;
        }
        Body::Sync(ref sync) => Incoming::of_sync(sync),
        Body::Awareness(body) => Incoming::Awareness(body),
        Body::QueryAwareness => Incoming::QueryAwareness,
        Body::SyncStatus { applied } => Incoming::SyncStatus(applied),
        ref other => return context.model.violate(format!("a server never sends {other:?}")),
    };
    member.receive(&message, context);
}
