//! From the bytes of a query to the bytes of its answer: no I/O. Whatever comes in, what goes out is bounded, and is never an answer
//! to an answer.

use super::choose::choose;
use super::zone::{Found, Zone};
use fastrand::Rng;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};
use std::net::IpAddr;

/// Length of a header (RFC 1035, section 4.1.1).
const HEADER_BYTES: usize = 12;
/// An answer over UDP without EDNS (RFC 1035, section 4.2.1).
const PLAIN_BYTES: usize = 512;
/// An answer over UDP with EDNS: what passes every usual path in one piece (RFC 9715, appendix A).
const UDP_BYTES: u16 = 1232;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The sender's address proves nothing, and an answer has to fit.
    Udp,
    Tcp,
}

/// An answer, and what it says, for counters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) bytes: Vec<u8>,
    pub(crate) code: ResponseCode,
    pub(crate) is_truncated: bool,
}

/// The answer to a query. Nothing if it is none, or an answer itself.
pub(crate) fn answer(bytes: &[u8], zone: &Zone, transport: Transport, rng: &mut Rng) -> Option<Answered> {
    let header = bytes.get(..HEADER_BYTES)?;
    let is_response = header[2] & 0x80 != 0;
    if is_response {
        return None;
    }
    let op_code = OpCode::from_u8((header[2] >> 3) & 0x0f);
    if op_code != OpCode::Query {
        return bare(header, ResponseCode::NotImp);
    }
    // One question, and no records but in the additional section. Also before the parser makes room for more of them.
    let is_plain = header[4..10] == [0, 1, 0, 0, 0, 0];
    let Some(query) = is_plain.then(|| Message::from_vec(bytes).ok()).flatten() else {
        return bare(header, ResponseCode::FormErr);
    };
    let Some(question) = query.queries.first() else { return bare(header, ResponseCode::FormErr) };
    let mut response = begin(&query, question);
    if query.version() > 0 {
        response.metadata.response_code = ResponseCode::BADVERS;
    } else if query.signature().is_some() {
        // There are no keys here (RFC 8945, section 5.2.1).
        response.metadata.response_code = ResponseCode::NotAuth;
    } else {
        fill(&mut response, question, zone, rng);
    }
    let limit = match (transport, &query.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => PLAIN_BYTES,
        (Transport::Udp, Some(_)) => usize::from(query.max_payload().min(UDP_BYTES)),
    };
    within(response, limit)
}

/// Tells the sender to ask over TCP: an answer that is no larger than its query.
pub(crate) fn truncated(bytes: &[u8]) -> Option<Answered> {
    let header = bytes.get(..HEADER_BYTES)?;
    let mut answered = bare(header, ResponseCode::NoError)?;
    answered.bytes[2] |= 0x02;
    answered.is_truncated = true;
    Some(answered)
}

/// A header alone, for what cannot be answered with more.
fn bare(header: &[u8], code: ResponseCode) -> Option<Answered> {
    let id = u16::from_be_bytes([header[0], header[1]]);
    // The op code as it came, known or not; RD as it came.
    let flags = 0x80 | (header[2] & 0x79);
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes[2] = flags;
    bytes[3] = code.low();
    Some(Answered { bytes, code, is_truncated: false })
}

fn begin(query: &Message, question: &Query) -> Message {
    let mut response = Message::response(query.id, OpCode::Query);
    response.metadata.message_type = MessageType::Response;
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.checking_disabled = query.metadata.checking_disabled;
    // As it came, also in upper and lower case: resolvers compare.
    response.add_query(question.clone());
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_version(0).set_max_payload(UDP_BYTES);
        // RFC 3225, section 3.
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        response.set_edns(edns);
    }
    response
}

fn fill(response: &mut Message, question: &Query, zone: &Zone, rng: &mut Rng) {
    let name = LowerName::new(question.name());
    let is_served =
        matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) && zone.fixed.apex.zone_of(&name);
    let kind = question.query_type();
    response.metadata.response_code = match kind {
        _ if !is_served => ResponseCode::Refused,
        RecordType::AXFR | RecordType::IXFR => ResponseCode::Refused,
        RecordType::OPT | RecordType::TSIG => ResponseCode::FormErr,
        // Types of questions that nobody asks any more: MAILB, MAILA, and what is not assigned.
        _ if (128..255).contains(&u16::from(kind)) => ResponseCode::NotImp,
        _ => ResponseCode::NoError,
    };
    if response.metadata.response_code != ResponseCode::NoError {
        return;
    }
    response.metadata.authoritative = true;
    let found = zone.find(&name);
    if found == Found::Nothing {
        response.metadata.response_code = ResponseCode::NXDomain;
    } else {
        add_records(response, question, &name, &found, zone, rng);
    }
    if response.answers.is_empty() {
        let soa = RData::SOA(zone.soa());
        response.add_authority(Record::from_rdata(
            Name::from(&zone.fixed.apex),
            zone.fixed.negative_ttl_s,
            soa,
        ));
    }
}

fn add_records(
    response: &mut Message,
    question: &Query,
    name: &LowerName,
    found: &Found<'_>,
    zone: &Zone,
    rng: &mut Rng,
) {
    let is_apex = *name == zone.fixed.apex;
    let ttl_s = zone.fixed.ttl_s;
    // The owner as it was asked for: it is written as a pointer to the question then.
    let record = |data: RData| Record::from_rdata(question.name().clone(), ttl_s, data);
    match question.query_type() {
        kind @ (RecordType::A | RecordType::AAAA) => {
            let is_v4 = kind == RecordType::A;
            let addresses = match found {
                Found::Region(members) => choose(members, is_v4, zone.fixed.addresses_max, rng),
                Found::Server(addresses) => {
                    addresses.iter().filter(|address| address.is_ipv4() == is_v4).copied().collect()
                }
                Found::Bare | Found::Nothing => Vec::new(),
            };
            response.add_answers(addresses.into_iter().map(data).map(record));
        }
        RecordType::SOA if is_apex => _ = response.add_answer(record(RData::SOA(zone.soa()))),
        RecordType::NS if is_apex => {
            for (server, addresses) in &zone.servers {
                response.add_answer(record(RData::NS(NS(server.clone()))));
                if zone.fixed.apex.zone_of(&LowerName::new(server)) {
                    let glue = |address: &IpAddr| Record::from_rdata(server.clone(), ttl_s, data(*address));
                    response.add_additionals(addresses.iter().map(glue));
                }
            }
        }
        // One small record instead of all there are (RFC 8482, section 4.2).
        RecordType::ANY if is_apex || *found != Found::Bare => {
            let data = HINFO::new("RFC8482".to_owned(), String::new());
            response.add_answer(record(RData::HINFO(data)));
        }
        _ => {}
    }
}

fn data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// The answer in so many bytes: without what is only additional if need be; at last with nothing but the advice to use TCP.
fn within(mut response: Message, limit: usize) -> Option<Answered> {
    let code = response.metadata.response_code;
    let mut bytes = response.to_vec().ok()?;
    if bytes.len() > limit {
        response.additionals.clear();
        bytes = response.to_vec().ok()?;
    }
    let is_truncated = bytes.len() > limit;
    if is_truncated {
        response.answers.clear();
        response.authorities.clear();
        response.metadata.truncation = true;
        bytes = response.to_vec().ok()?;
    }
    Some(Answered { bytes, code, is_truncated })
}

#[cfg(test)]
mod tests;
