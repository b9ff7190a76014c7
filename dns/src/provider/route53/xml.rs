//! What Route 53 is sent, and what it answers. Names and addresses need no escapes: see `name::host_name`.

use crate::RegionName;
use quick_xml::DeError;
use serde::Deserialize;
use std::fmt::Write as _;
use std::net::IpAddr;

#[derive(Deserialize)]
struct Listing {
    #[serde(rename = "ResourceRecordSets")]
    sets: Sets,
}

#[derive(Deserialize)]
struct Sets {
    #[serde(rename = "ResourceRecordSet", default)]
    sets: Vec<RecordSet>,
}

/// All values that a name has of one type.
#[derive(Debug, Deserialize)]
pub(crate) struct RecordSet {
    #[serde(rename = "Name")]
    name: String,
    /// `A`, `AAAA`, and others.
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    #[serde(rename = "TTL", default)]
    pub(crate) ttl_s: u32,
    #[serde(rename = "ResourceRecords", default)]
    records: Records,
    #[serde(rename = "SetIdentifier")]
    identifier: Option<String>,
    #[serde(rename = "AliasTarget")]
    alias: Option<Alias>,
}

#[derive(Debug, Deserialize)]
struct Alias {}

#[derive(Debug, Default, Deserialize)]
struct Records {
    #[serde(rename = "ResourceRecord", default)]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
struct Record {
    #[serde(rename = "Value")]
    value: String,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "Error")]
    error: Option<Fault>,
    #[serde(rename = "Messages")]
    messages: Option<Messages>,
}

#[derive(Deserialize)]
struct Messages {
    #[serde(rename = "Message", default)]
    messages: Vec<String>,
}

/// Why a request was refused.
#[derive(Debug, Deserialize)]
pub(crate) struct Fault {
    #[serde(rename = "Code")]
    pub(crate) code: String,
    #[serde(rename = "Message", default)]
    pub(crate) message: String,
}

impl Fault {
    /// A set that was to be taken out is another one, or a set that was to be put in is there.
    pub(crate) fn is_conflict(&self) -> bool {
        let texts = ["not found", "already exists", "do not match the current values"];
        self.code == "InvalidChangeBatch" && texts.iter().any(|text| self.message.contains(text))
    }
}

impl RecordSet {
    pub(crate) fn is_of(&self, name: &RegionName) -> bool {
        self.name.trim_end_matches('.').eq_ignore_ascii_case(&name.name_text())
    }

    /// Its answer is not simply its values.
    pub(crate) fn is_routed(&self) -> bool {
        self.identifier.is_some() || self.alias.is_some()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.records.records.iter().filter_map(|record| record.value.trim().parse().ok())
    }
}

pub(crate) fn sets(text: &str) -> Result<Vec<RecordSet>, DeError> {
    let listing: Listing = quick_xml::de::from_str(text)?;
    Ok(listing.sets.sets)
}

/// A refusal: either `ErrorResponse`, or `InvalidChangeBatch` with messages of its own.
pub(crate) fn fault(text: &str) -> Option<Fault> {
    let refusal: Refusal = quick_xml::de::from_str(text).ok()?;
    let batch = |messages: Messages| Fault {
        code: "InvalidChangeBatch".to_owned(),
        message: messages.messages.join("; "),
    };
    refusal.error.or(refusal.messages.map(batch))
}

pub(crate) fn batch(changes: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ChangeResourceRecordSetsRequest xmlns=\"{NAMESPACE}\">\
         <ChangeBatch><Changes>{changes}</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    )
}

/// Takes a set out, if it is as it was.
pub(crate) fn deletion(name: &RegionName, set: &RecordSet) -> String {
    let values: Vec<&str> = set.records.records.iter().map(|record| record.value.trim()).collect();
    change("DELETE", name, &set.kind, set.ttl_s, &values)
}

/// Puts a set in, if there is none.
pub(crate) fn creation(name: &RegionName, kind: &str, addresses: &[IpAddr]) -> String {
    let values: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    change("CREATE", name, kind, name.ttl_s(), &values)
}

const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

fn change(action: &str, name: &RegionName, kind: &str, ttl_s: u32, values: &[&str]) -> String {
    let mut records = String::new();
    for value in values {
        let value = quick_xml::escape::escape(*value);
        let _ = write!(records, "<ResourceRecord><Value>{value}</Value></ResourceRecord>");
    }
    format!(
        "<Change><Action>{action}</Action><ResourceRecordSet><Name>{}.</Name><Type>{kind}</Type><TTL>{ttl_s}</TTL>\
         <ResourceRecords>{records}</ResourceRecords></ResourceRecordSet></Change>",
        name.name_text()
    )
}
