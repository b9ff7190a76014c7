//! URLs of servers, with secrets that are never shown.
//!
//! `redis://[user:password@]host[:port][/db]`, `redis+sentinel://[user:password@]h1:p,h2:p/master`,
//! `redis+cluster://[user:password@]h1:p,h2:p`, and the same with `rediss` for TLS. Options after `?`: `ca` (file with
//! certificates that are trusted instead of the system's), `password_file`, `db`; for Sentinel itself `sentinel_user`,
//! `sentinel_password`, `sentinel_password_file`.

use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// Name or address.
    pub name: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(out, "[{}]:{}", self.name, self.port)
        } else {
            write!(out, "{}:{}", self.name, self.port)
        }
    }
}

/// How the servers of an endpoint belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One server.
    Single,
    /// A master that sentinels name; hosts are the sentinels.
    Sentinel {
        /// What the sentinels call it.
        master: String,
    },
    /// A Cluster; hosts are some of its nodes.
    Cluster,
}

/// Who we are to a server.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// Servers that belong together, and how to reach them.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) kind: Kind,
    pub(crate) hosts: Vec<Host>,
    pub(crate) login: Login,
    pub(crate) sentinel_login: Login,
    pub(crate) db: u32,
    pub(crate) is_tls: bool,
    pub(crate) ca: Option<PathBuf>,
}

/// What is wrong with the URL of a server, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(pub(crate) String);

fn wrong<T>(text: impl Into<String>) -> Result<T, EndpointError> {
    Err(EndpointError(text.into()))
}

impl Endpoint {
    /// How the servers belong together.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Servers to begin with.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Who we are to the servers.
    pub fn user(&self) -> &str {
        self.login.user.as_deref().unwrap_or("default")
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(url: &str) -> Result<Self, EndpointError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return wrong("this is no URL of a Redis server; write redis://host:port, for example");
        };
        let (is_tls, mut kind) = scheme_of(scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (login_of(login)?, hosts),
            None => (Login::default(), authority),
        };
        let default_port =
            if matches!(kind, Kind::Sentinel { .. }) { DEFAULT_SENTINEL_PORT } else { DEFAULT_PORT };
        let hosts = hosts_of(hosts, default_port)?;
        let mut db = 0;
        match &mut kind {
            Kind::Single if hosts.len() > 1 => {
                return wrong("several servers: write redis+sentinel:// or redis+cluster://");
            }
            Kind::Single if !path.is_empty() => db = db_of(path)?,
            Kind::Sentinel { .. } if path.is_empty() => {
                return wrong(
                    "which master? Write its name behind the sentinels, as in redis+sentinel://h1:26379,h2:26379/mymaster",
                );
            }
            Kind::Sentinel { master } => *master = decoded(path, "the master's name")?,
            Kind::Cluster if !path.is_empty() => {
                return wrong(format!("a Cluster has one database only: take away `/{path}`"));
            }
            Kind::Single | Kind::Cluster => {}
        }
        let (sentinel_login, ca) = (Login::default(), None);
        let mut endpoint = Self { kind, hosts, login, sentinel_login, db, is_tls, ca };
        endpoint.read_options(query)?;
        Ok(endpoint)
    }
}

impl Endpoint {
    fn read_options(&mut self, query: &str) -> Result<(), EndpointError> {
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(value, name)?;
            let is_sentinel = matches!(self.kind, Kind::Sentinel { .. });
            match name {
                "ca" if self.is_tls => self.ca = Some(PathBuf::from(value)),
                "ca" => return wrong("`ca` is for TLS: write rediss:// instead of redis://"),
                "password_file" => self.login.password = Some(secret_of(name, &value)?),
                "db" if self.kind != Kind::Cluster => self.db = db_of(&value)?,
                "db" => return wrong("a Cluster has one database only: take away `db`"),
                "sentinel_user" if is_sentinel => self.sentinel_login.user = Some(value),
                "sentinel_password" if is_sentinel => self.sentinel_login.password = Some(value),
                "sentinel_password_file" if is_sentinel => {
                    self.sentinel_login.password = Some(secret_of(name, &value)?);
                }
                _ => {
                    return wrong(format!(
                        "unknown option `{name}`; known are ca, db, password_file, and with redis+sentinel:// sentinel_user, \
                         sentinel_password, sentinel_password_file"
                    ));
                }
            }
        }
        let names_user_alone = self.login.user.is_some() && self.login.password.is_none();
        if names_user_alone {
            return wrong("a user without a password: write user:password@, or add ?password_file=FILE");
        }
        Ok(())
    }
}

impl fmt::Display for Endpoint {
    /// As it was written, without secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.is_tls { "rediss" } else { "redis" })?;
        match self.kind {
            Kind::Single => out.write_str("://")?,
            Kind::Sentinel { .. } => out.write_str("+sentinel://")?,
            Kind::Cluster => out.write_str("+cluster://")?,
        }
        if let Some(user) = &self.login.user {
            write!(out, "{user}@")?;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            write!(out, "{}{host}", if index > 0 { "," } else { "" })?;
        }
        match &self.kind {
            Kind::Sentinel { master } => write!(out, "/{master}"),
            _ if self.db != 0 => write!(out, "/{}", self.db),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Endpoint({self})")
    }
}

fn scheme_of(scheme: &str) -> Result<(bool, Kind), EndpointError> {
    let (transport, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let is_tls = match transport {
        "redis" => false,
        "rediss" => true,
        _ => return wrong(format!("`{scheme}://` is not a Redis server: write redis:// or rediss:// (TLS)")),
    };
    match kind {
        "" => Ok((is_tls, Kind::Single)),
        "sentinel" => Ok((is_tls, Kind::Sentinel { master: String::new() })),
        "cluster" => Ok((is_tls, Kind::Cluster)),
        _ => wrong(format!(
            "`+{kind}` is unknown: write {transport}://, {transport}+sentinel:// or {transport}+cluster://"
        )),
    }
}

/// `user:password`, `:password`, or `user`.
fn login_of(text: &str) -> Result<Login, EndpointError> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password, "the password")?)),
        None => (text, None),
    };
    let user = decoded(user, "the user")?;
    Ok(Login {
        user: Some(user).filter(|user| !user.is_empty()),
        password: password.filter(|text| !text.is_empty()),
    })
}

fn hosts_of(text: &str, default_port: u16) -> Result<Vec<Host>, EndpointError> {
    text.split(',').map(|host| host_of(host.trim(), default_port)).collect()
}

fn host_of(text: &str, default_port: u16) -> Result<Host, EndpointError> {
    // IPv6 addresses stand in brackets.
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    if name.is_empty() {
        return wrong("a server without a name: write host:port");
    }
    let port = match port {
        None => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => {
                return wrong(format!(
                    "`{port}` is no port of {name}: write a number from 1 to 65535 (an IPv6 address stands in brackets)"
                ));
            }
        },
    };
    Ok(Host { name: name.to_owned(), port })
}

fn db_of(text: &str) -> Result<u32, EndpointError> {
    match text.parse() {
        Ok(db) => Ok(db),
        Err(_) => wrong(format!("`{text}` is no database: write its number, as in redis://host:6379/0")),
    }
}

fn decoded(text: &str, what: &str) -> Result<String, EndpointError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => wrong(format!("{what} is not UTF-8 once its percent signs are decoded")),
    }
}

fn secret_of(option: &str, file: &str) -> Result<String, EndpointError> {
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim_end().is_empty() => {
            wrong(format!("{option}: {file} is empty; write the password into it"))
        }
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => wrong(format!(
            "{option}: {file} cannot be read ({error}); name a file that this process may read"
        )),
    }
}
