//! What an operator can have done: in words, as a request, and what has to be typed for it.

use hyper::Method;
use pinwire_admin_api::stream::DocumentName;

use crate::client::{Address, name_path};

/// An action on a node, or on what it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A node takes no new clients, and sends away those that it has.
    Drain {
        /// Its label.
        node: String,
    },
    /// It takes clients again.
    Undrain {
        /// Its label.
        node: String,
    },
    /// A document goes to another region.
    Move {
        /// Which.
        name: DocumentName,
        /// Where to.
        region: String,
        /// Whose registry.
        db_code: Option<String>,
    },
    /// A connection is closed.
    Close {
        /// Its id.
        id: String,
    },
    /// A document is taken away from its region.
    Unpin {
        /// Which.
        name: DocumentName,
        /// Whose registry.
        db_code: Option<String>,
    },
    /// Something else is logged.
    Log {
        /// The node's label.
        node: String,
        /// What.
        filter: String,
        /// For how long.
        seconds: u32,
    },
}

impl Action {
    /// In a few words.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Drain { node } => format!("drain {node}"),
            Self::Undrain { node } => format!("undrain {node}"),
            Self::Move { name, region, .. } => format!("move {} to {region}", full(name)),
            Self::Close { id } => format!("close connection {id}"),
            Self::Unpin { name, .. } => format!("unpin {}", full(name)),
            Self::Log { node, filter, .. } => format!("log {filter} on {node}"),
        }
    }

    /// The same of so many, of which this is one.
    #[must_use]
    pub fn title_of(&self, count: usize) -> String {
        match self {
            Self::Drain { .. } => format!("drain {count} nodes"),
            Self::Undrain { .. } => format!("undrain {count} nodes"),
            Self::Move { region, .. } => format!("move {count} documents to {region}"),
            Self::Close { .. } => format!("close {count} connections"),
            Self::Unpin { .. } => format!("unpin {count} documents"),
            Self::Log { filter, .. } => format!("log {filter} on {count} nodes"),
        }
    }

    /// What will happen.
    #[must_use]
    pub fn effect(&self) -> String {
        match self {
            Self::Drain { .. } => "The node leaves its region's name, takes no new clients, and sends away those that it has, at a pace that other nodes can take. Documents open at other nodes as their clients come back.".into(),
            Self::Undrain { .. } => "The node takes new clients again, and comes back into its region's name. Clients that have left do not come back for that.".into(),
            Self::Move { region, .. } => format!("The region that has the document stops taking edits into it, hands over what is in it, and its clients are sent to {region}. Nothing that was acknowledged is lost; edits wait for about as long as a client takes to come back."),
            Self::Close { .. } => "The connection is closed with code 1000. A client that wants to be connected comes back at once.".into(),
            Self::Unpin { .. } => "The document is taken away from its region, even one that is stuck. Its clients are closed with 1012 and come again; what its nodes have not stored yet may be lost.".into(),
            Self::Log { filter, seconds, .. } => format!("The node logs {filter} for {seconds} s, then what is configured again."),
        }
    }

    /// What is done, in a word.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Drain { .. } => "drain",
            Self::Undrain { .. } => "undrain",
            Self::Move { .. } => "move",
            Self::Close { .. } => "close",
            Self::Unpin { .. } => "unpin",
            Self::Log { .. } => "log",
        }
    }

    /// What has to be typed, so that it is this one and no other.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Drain { node } | Self::Undrain { node } | Self::Log { node, .. } => node,
            Self::Move { name, .. } | Self::Unpin { name, .. } => &name.name,
            Self::Close { id } => id,
        }
    }

    /// As a request: method, path, body.
    #[must_use]
    pub fn request(&self) -> (Method, String, Option<String>) {
        let query = |db_code: &Option<String>| {
            db_code.as_ref().map_or_else(String::new, |code| {
                format!(
                    "?db_code={}",
                    percent_encoding::utf8_percent_encode(code, percent_encoding::NON_ALPHANUMERIC)
                )
            })
        };
        match self {
            Self::Drain { .. } => (Method::POST, "/v1/node/drain".into(), Some("{}".into())),
            Self::Undrain { .. } => (Method::DELETE, "/v1/node/drain".into(), None),
            Self::Move { name, region, db_code } => {
                let body = serde_json::json!({ "region": region }).to_string();
                (Method::POST, format!("/v1/pins/{}/move{}", name_path(name), query(db_code)), Some(body))
            }
            Self::Close { id } => (Method::POST, format!("/v1/connections/{id}/close"), Some("{}".into())),
            Self::Unpin { name, db_code } => {
                (Method::DELETE, format!("/v1/pins/{}{}", name_path(name), query(db_code)), None)
            }
            Self::Log { filter, seconds, .. } => {
                let body = serde_json::json!({ "filter": filter, "for_seconds": seconds }).to_string();
                (Method::PUT, "/v1/log".into(), Some(body))
            }
        }
    }

    /// The same with curl.
    #[must_use]
    pub fn curl(&self, address: &Address) -> String {
        let (method, path, body) = self.request();
        let body = body.map_or_else(String::new, |body| {
            format!(" -H 'Content-Type: application/json' -d '{}'", body.replace('\'', "'\\''"))
        });
        format!("{}{path} -X {method}{body}", address.curl())
    }
}

fn full(name: &DocumentName) -> String {
    format!("{}::{}::{}", name.tenant, name.app, name.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_is_sent() {
        let name = DocumentName { tenant: "acme".into(), app: "notes".into(), name: "a plan".into() };
        let action = Action::Move { name, region: "us-east-1".into(), db_code: Some("aws".into()) };
        let address = Address::parse("http://127.0.0.1:9180").unwrap();
        assert_eq!(
            action.curl(&address),
            "curl -H \"Authorization: Bearer $PINWIRE_ADMIN_TOKEN\" http://127.0.0.1:9180/v1/pins/acme/notes/a%20plan/move?db_code=aws \
             -X POST -H 'Content-Type: application/json' -d '{\"region\":\"us-east-1\"}'"
        );
        assert_eq!(action.name(), "a plan");
        let log = Action::Log { node: "n".into(), filter: "it's".into(), seconds: 60 };
        assert!(log.curl(&address).contains("'\\''"));
    }
}
