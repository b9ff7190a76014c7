//! Answers of scripts, read.

use crate::{
    AppName, AppRecord, Asserted, Claim, Claimed, DocumentName, Grace, Node, NodeView, OutOfReach, Owner, Pin,
};
use pinwire_redis::Value;
use std::sync::Arc;

pub(super) type Read<T> = Result<T, OutOfReach>;

/// The parts of an answer, from the first on.
pub(super) struct Parts {
    parts: std::vec::IntoIter<Value>,
}

fn senseless<T>(what: &str) -> Read<T> {
    let reason = format!("the registry's answer makes no sense ({what}): another version's data?");
    Err(OutOfReach { reason: reason.into() })
}

impl Parts {
    pub(super) fn of(answer: Value) -> Read<Self> {
        match answer {
            Value::Array(parts) => Ok(Self { parts: parts.into_iter() }),
            _ => senseless("a list was expected"),
        }
    }

    fn next(&mut self) -> Read<Value> {
        self.parts.next().map_or_else(|| senseless("it is too short"), Ok)
    }

    pub(super) fn number(&mut self) -> Read<u64> {
        match self.next()? {
            Value::Int(number) => u64::try_from(number).or_else(|_| senseless("a negative number")),
            _ => senseless("a number was expected"),
        }
    }

    pub(super) fn count(&mut self) -> Read<u32> {
        Ok(u32::try_from(self.number()?).unwrap_or(u32::MAX))
    }

    pub(super) fn text(&mut self) -> Read<String> {
        self.text_or_nothing()?.map_or_else(|| senseless("a text was expected"), Ok)
    }

    fn text_or_nothing(&mut self) -> Read<Option<String>> {
        match self.next()? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => {
                String::from_utf8(bytes).map(Some).or_else(|_| senseless("a text is not UTF-8"))
            }
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(Some(text)),
            _ => senseless("a text was expected"),
        }
    }

    pub(super) fn parts(&mut self) -> Read<Self> {
        Self::of(self.next()?)
    }

    /// Every part that is left, as a list of its own.
    pub(super) fn each<T>(self, mut read: impl FnMut(Self) -> Read<T>) -> Read<Vec<T>> {
        self.parts.map(|part| read(Self::of(part)?)).collect()
    }

    fn shared(&mut self) -> Read<Arc<str>> {
        Ok(self.text()?.into())
    }

    fn claim(&mut self) -> Read<Claim> {
        Ok(Claim { epoch: self.hex()?, nonce: self.hex()? })
    }

    fn hex(&mut self) -> Read<u64> {
        u64::from_str_radix(&self.text()?, 16).or_else(|_| senseless("a hexadecimal number was expected"))
    }

    fn owner(&mut self) -> Read<Owner> {
        Ok(Owner { region: self.shared()?, ws_url: self.shared()?, claim: self.claim()? })
    }

    pub(super) fn document(&mut self) -> Read<DocumentName> {
        Ok(DocumentName { app: AppName(self.shared()?), name: self.text()?.into() })
    }

    pub(super) fn lost(mut self) -> Read<(DocumentName, Owner)> {
        Ok((self.document()?, self.owner()?))
    }

    /// `None`: asked again, more will be known.
    pub(super) fn claimed(mut self) -> Read<Option<Claimed>> {
        Ok(Some(match self.text()?.as_str() {
            "held" => Claimed::Held { claim: self.claim()?, is_new: self.number()? == 1 },
            "elsewhere" => Claimed::Elsewhere(self.owner()?),
            "limit" => Claimed::Limit { active: self.count()? },
            "again" => return Ok(None),
            "unknown" => Claimed::Unknown,
            "stale" => Claimed::Stale,
            _ => return senseless("an unknown outcome"),
        }))
    }

    pub(super) fn asserted(mut self) -> Read<Asserted> {
        match self.text()?.as_str() {
            "held" => Ok(Asserted::Held(self.claim()?)),
            "lost" => Ok(Asserted::Lost(self.owner()?)),
            _ => senseless("an unknown outcome"),
        }
    }

    pub(super) fn record(&mut self) -> Read<AppRecord> {
        let version = self.text()?.parse().or_else(|_| senseless("a version was expected"))?;
        Ok(AppRecord { version, record: self.text_or_nothing()?.map(Arc::from) })
    }

    pub(super) fn app_record(mut self) -> Read<(AppName, AppRecord)> {
        Ok((AppName(self.shared()?), self.record()?))
    }

    pub(super) fn node_view(mut self) -> Read<NodeView> {
        let node = node_of(&self.text()?)?;
        let (ws_url, peer_address, version) = (self.shared()?, self.shared()?, self.shared()?);
        // Nodes of earlier versions did not say.
        let admin_url = self.text_or_nothing()?.unwrap_or_default().into();
        Ok(NodeView { node, ws_url, peer_address, version, admin_url })
    }

    pub(super) fn pin(mut self, app: &AppName, now: u64) -> Read<Pin> {
        let name = self.text()?.into();
        let (owner, until) = (self.owner()?, self.number()?);
        let grace: Option<Grace> = (until > 0).then(|| until.saturating_sub(now));
        let mut nodes = Vec::new();
        while self.parts.len() > 0 {
            nodes.push(node_of(&self.text()?)?);
        }
        nodes.sort();
        Ok(Pin { document: DocumentName { app: app.clone(), name }, owner, nodes, grace })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.len() == 0
    }
}

/// `{region}/{name}/{life}`.
fn node_of(text: &str) -> Read<Node> {
    let read = || {
        let (rest, life) = text.rsplit_once('/')?;
        let (region, name) = rest.split_once('/')?;
        let life = u64::from_str_radix(life, 16).ok()?;
        Some(Node { region: region.into(), name: name.into(), life })
    };
    read().map_or_else(|| senseless("a node was expected"), Ok)
}

/// What tells a server and its data from another: fields of two sections of `INFO`.
pub(super) fn history_of(replication: &str, server: &str) -> String {
    let field = |info: &str, name: &str| {
        let value =
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim_end));
        value.unwrap_or_default().to_owned()
    };
    format!("{}:{}", field(replication, "master_replid"), field(server, "run_id"))
}
