//! What is sent to a server with dynamic updates.

use crate::RegionName;
use crate::provider::{Addresses, Change};
use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use std::net::IpAddr;

/// Asks for the records of a type, of a server that has the zone.
pub(crate) fn question(name: &RegionName, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name.name().clone(), kind));
    message
}

/// Changes addresses. Additions stand before removals, since they are carried out in this order (RFC 2136, section 3.4.2).
pub(crate) fn update(name: &RegionName, change: &Change) -> Message {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    // The sections of an update are those of a query under other names: zone, prerequisite, update (section 2).
    message.add_query(Query::query(name.zone().clone(), RecordType::SOA));
    if let Some(expected) = &change.only_if {
        for kind in [RecordType::A, RecordType::AAAA] {
            message.answers.extend(prerequisite(name, kind, expected));
        }
    }
    for address in &change.add {
        // A record that is there already takes its new TTL with BIND; with Knot it has to go first.
        message.add_authority(record(name, *address, 0, DNSClass::NONE));
        message.add_authority(record(name, *address, name.ttl_s(), DNSClass::IN));
    }
    for address in &change.remove {
        message.add_authority(record(name, *address, 0, DNSClass::NONE));
    }
    message
}

/// The name has exactly these addresses of the type: all of them, as one set (section 2.4.2), or no set at all (section 2.4.3).
fn prerequisite(name: &RegionName, kind: RecordType, expected: &Addresses) -> Vec<Record> {
    let is_of_kind = |address: &&IpAddr| address.is_ipv4() == (kind == RecordType::A);
    let records: Vec<Record> =
        expected.iter().filter(is_of_kind).map(|address| record(name, *address, 0, DNSClass::IN)).collect();
    if !records.is_empty() {
        return records;
    }
    let mut absent = Record::update0(name.name().clone(), 0, kind);
    absent.dns_class = DNSClass::NONE;
    vec![absent]
}

fn record(name: &RegionName, address: IpAddr, ttl_s: u32, class: DNSClass) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    let mut record = Record::from_rdata(name.name().clone(), ttl_s, data);
    record.dns_class = class;
    record
}
