//! Queries and their answers, without a socket.

use super::{Answered, Transport, answer, truncated};
use crate::embedded::zone::{Fixed, NameServer, PoolMember, Zone, ZoneName, ZoneView};
use crate::keeper::Standing;
use crate::provider::Addresses;
use fastrand::Rng;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, RecordType};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

fn member(number: u8, standing: Standing) -> PoolMember {
    let mut addresses = Addresses::from([IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))]);
    if number == 1 {
        addresses.insert("2001:db8::1".parse().unwrap());
    }
    PoolMember { addresses, standing, occupancy_permille: 100 }
}

fn view() -> ZoneView {
    ZoneView {
        names: vec![ZoneName {
            name: "eu.rt.example.net".to_owned(),
            members: vec![member(1, Standing::In), member(2, Standing::In), member(3, Standing::Dead)],
        }],
        servers: vec![NameServer {
            name: "ns1.example.net".to_owned(),
            addresses: member(1, Standing::In).addresses,
        }],
    }
}

fn fixed() -> Fixed {
    Fixed {
        apex: LowerName::new(&Name::from_ascii("example.net.").unwrap()),
        contact: Name::from_ascii("hostmaster.example.net.").unwrap(),
        ttl_s: 30,
        negative_ttl_s: 5,
        addresses_max: 8,
    }
}

fn zone() -> Zone {
    let (zone, faults) = Zone::new(fixed(), &view(), None);
    assert_eq!(faults, []);
    zone
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn raw(bytes: &[u8], zone: &Zone, transport: Transport) -> Option<Answered> {
    answer(bytes, zone, transport, &mut Rng::with_seed(1))
}

fn asked(message: &Message) -> Message {
    let answered = raw(&message.to_vec().unwrap(), &zone(), Transport::Udp).expect("an answer");
    let response = Message::from_vec(&answered.bytes).unwrap();
    assert_eq!(response.id, message.id);
    assert_eq!(response.metadata.message_type, MessageType::Response);
    assert!(!response.metadata.recursion_available);
    response
}

fn of(name: &str, kind: RecordType) -> Message {
    asked(&query(name, kind))
}

fn addresses(message: &Message) -> Addresses {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}

#[test]
fn a_name_has_the_addresses_of_its_living_nodes() {
    let response = of("eu.rt.example.net.", RecordType::A);
    assert!(response.metadata.authoritative && response.metadata.recursion_desired);
    let expected: Addresses = [1, 2].map(|number| IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))).into();
    assert_eq!(addresses(&response), expected);
    assert!(response.answers.iter().all(|record| record.ttl == 30));
    assert!(response.authorities.is_empty() && response.additionals.is_empty());
    let six = of("eu.rt.example.net.", RecordType::AAAA);
    assert_eq!(addresses(&six), Addresses::from(["2001:db8::1".parse().unwrap()]));
}

#[test]
fn upper_and_lower_case_come_back_as_they_were() {
    let response = of("eU.Rt.exAMPle.NeT.", RecordType::A);
    assert_eq!(response.queries[0].name().to_ascii(), "eU.Rt.exAMPle.NeT.");
    assert_eq!(response.answers[0].name.to_ascii(), "eU.Rt.exAMPle.NeT.");
}

fn negative(name: &str, kind: RecordType) -> ResponseCode {
    let response = of(name, kind);
    assert!(response.answers.is_empty() && response.metadata.authoritative, "{name}");
    let [soa] = response.authorities.as_slice() else { panic!("{response:?}") };
    let RData::SOA(data) = &soa.data else { panic!("{soa:?}") };
    assert_eq!((soa.name.to_ascii().as_str(), soa.ttl, data.minimum), ("example.net.", 5, 5));
    response.metadata.response_code
}

#[test]
fn a_name_that_is_not_there_is_told_from_one_without_such_records() {
    assert_eq!(negative("no.rt.example.net.", RecordType::A), ResponseCode::NXDomain);
    assert_eq!(negative("x.eu.rt.example.net.", RecordType::A), ResponseCode::NXDomain);
    assert_eq!(negative("eu.rt.example.net.", RecordType::TXT), ResponseCode::NoError);
    // There are names below these.
    assert_eq!(negative("rt.example.net.", RecordType::A), ResponseCode::NoError);
    assert_eq!(negative("example.net.", RecordType::A), ResponseCode::NoError);
    assert_eq!(negative("rt.example.net.", RecordType::ANY), ResponseCode::NoError);
    assert_eq!(negative("eu.rt.example.net.", RecordType::NS), ResponseCode::NoError);
    assert_eq!(negative("ns1.example.net.", RecordType::MX), ResponseCode::NoError);
}

#[test]
fn the_zone_has_its_servers_with_glue_and_a_start_of_authority() {
    let servers = of("example.net.", RecordType::NS);
    assert_eq!(servers.answers.len(), 1);
    assert_eq!(servers.additionals.len(), 2);
    assert_eq!(addresses(&of("ns1.example.net.", RecordType::A)).len(), 1);
    let soa = of("example.net.", RecordType::SOA);
    assert!(matches!(&soa.answers[0].data, RData::SOA(data) if data.mname.to_ascii() == "ns1.example.net."));
}

#[test]
fn the_serial_changes_with_the_pool_and_not_with_how_full_it_is() {
    let first = zone();
    let mut fuller = view();
    fuller.names[0].members[0].occupancy_permille = 900;
    fuller.names[0].members.reverse();
    let (second, _) = Zone::new(fixed(), &fuller, Some(&first));
    assert_eq!(second.serial(), first.serial());
    fuller.names[0].members[0].standing = Standing::Out;
    let (third, _) = Zone::new(fixed(), &fuller, Some(&second));
    assert!(third.serial() > second.serial());
}

#[test]
fn what_cannot_be_used_of_a_view_is_left_out() {
    let mut view = view();
    view.names.push(ZoneName { name: "eu.example.org".to_owned(), members: Vec::new() });
    view.servers.push(NameServer { name: "not a name".to_owned(), addresses: Addresses::new() });
    let (zone, faults) = Zone::new(fixed(), &view, None);
    assert_eq!(faults.len(), 2);
    assert_eq!((zone.names.len(), zone.servers.len()), (1, 1));
}

#[test]
fn names_and_classes_that_are_not_served_are_refused() {
    assert_eq!(of("example.org.", RecordType::A).metadata.response_code, ResponseCode::Refused);
    assert_eq!(of(".", RecordType::NS).metadata.response_code, ResponseCode::Refused);
    assert_eq!(of("example.net.", RecordType::AXFR).metadata.response_code, ResponseCode::Refused);
    assert_eq!(of("example.net.", RecordType::Unknown(253)).metadata.response_code, ResponseCode::NotImp);
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(asked(&chaos).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn other_operations_are_not_implemented() {
    for op_code in [OpCode::Update, OpCode::Notify, OpCode::Status, OpCode::Unknown(9)] {
        let mut message = query("example.net.", RecordType::SOA);
        message.metadata.op_code = op_code;
        let bytes = message.to_vec().unwrap();
        let answered = raw(&bytes, &zone(), Transport::Udp).unwrap();
        assert_eq!(answered.code, ResponseCode::NotImp);
        assert_eq!(answered.bytes[..2], bytes[..2]);
        assert_eq!(answered.bytes[2] & 0x78, bytes[2] & 0x78);
        assert_eq!(answered.bytes.len(), 12);
    }
}

#[test]
fn all_records_of_a_name_are_one_small_one() {
    let any = of("eu.rt.example.net.", RecordType::ANY);
    let [record] = any.answers.as_slice() else { panic!("{any:?}") };
    assert!(matches!(&record.data, RData::HINFO(data) if *data.cpu == *b"RFC8482"));
}

fn with_edns(version: u8, payload: u16) -> Message {
    let mut message = query("eu.rt.example.net.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(version).set_max_payload(payload).set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(65_001, vec![1, 2, 3]));
    message.set_edns(edns);
    message
}

#[test]
fn edns_is_answered_with_edns_and_without_options() {
    let response = asked(&with_edns(0, 4096));
    let edns = response.edns.as_ref().expect("edns");
    assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, 1232, true));
    assert!(edns.options().as_ref().is_empty());
    assert_eq!(addresses(&response).len(), 2);
    assert_eq!(of("eu.rt.example.net.", RecordType::A).edns, None);
}

#[test]
fn a_later_edns_is_answered_with_this_one() {
    let response = asked(&with_edns(1, 4096));
    // The number of BADVERS, which it shares with BADSIG.
    assert_eq!(u16::from(response.metadata.response_code), 16);
    assert_eq!(response.edns.as_ref().map(Edns::version), Some(0));
    assert!(response.answers.is_empty());
}

fn with_many_servers() -> Zone {
    let server = |number: u8| NameServer {
        name: format!("a-rather-long-name-of-a-server-{number}.example.net"),
        addresses: member(number, Standing::In).addresses,
    };
    let view = ZoneView { names: Vec::new(), servers: (1..=60).map(server).collect() };
    Zone::new(fixed(), &view, None).0
}

#[test]
fn what_does_not_fit_is_asked_for_over_tcp() {
    let zone = with_many_servers();
    for (payload, limit) in [(None, 512), (Some(100), 512), (Some(700), 700), (Some(65_000), 1232)] {
        let mut message = query("example.net.", RecordType::NS);
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let bytes = message.to_vec().unwrap();
        let short = raw(&bytes, &zone, Transport::Udp).unwrap();
        assert!(short.bytes.len() <= limit && short.is_truncated);
        assert!(Message::from_vec(&short.bytes).unwrap().metadata.truncation);
        let whole = raw(&bytes, &zone, Transport::Tcp).unwrap();
        let whole = Message::from_vec(&whole.bytes).unwrap();
        assert!(!whole.metadata.truncation);
        assert_eq!(whole.answers.len(), 60);
    }
}

#[test]
fn the_advice_to_use_tcp_is_no_larger_than_the_query() {
    let bytes = query("eu.rt.example.net.", RecordType::A).to_vec().unwrap();
    let answered = truncated(&bytes).unwrap();
    assert!(answered.bytes.len() <= bytes.len());
    let response = Message::from_vec(&answered.bytes).unwrap();
    assert!(response.metadata.truncation && response.answers.is_empty());
}

#[test]
fn an_answer_gets_no_answer() {
    let mut message = query("eu.rt.example.net.", RecordType::A);
    message.metadata.message_type = MessageType::Response;
    assert_eq!(raw(&message.to_vec().unwrap(), &zone(), Transport::Udp), None);
    assert_eq!(raw(&[0; 11], &zone(), Transport::Udp), None);
}

#[test]
fn other_numbers_of_questions_than_one_are_a_fault() {
    let mut none = query("eu.rt.example.net.", RecordType::A);
    none.queries.clear();
    let mut two = query("eu.rt.example.net.", RecordType::A);
    two.add_query(two.queries[0].clone());
    for message in [none, two] {
        let answered = raw(&message.to_vec().unwrap(), &zone(), Transport::Udp).unwrap();
        assert_eq!(answered.code, ResponseCode::FormErr);
    }
    // A header that promises what does not come.
    let mut promises = query("eu.rt.example.net.", RecordType::A).to_vec().unwrap();
    promises[4..12].fill(0xff);
    assert_eq!(raw(&promises, &zone(), Transport::Udp).unwrap().code, ResponseCode::FormErr);
}

/// Queries, and what becomes of them when some bytes are others, or missing.
fn nearly_queries() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof![
        Just("eu.rt.example.net."),
        Just("example.net."),
        Just("ns1.example.net."),
        Just("nothing.example.net."),
        Just("example.org."),
    ];
    let faults = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (names, 0..300_u16, any::<Option<u8>>(), faults, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(name, kind, version, faults, end, is_cut)| {
            let mut message = query(name, RecordType::from(kind));
            if let Some(version) = version {
                message.set_edns(with_edns(version, 1 + u16::from(version) * 16).edns.unwrap());
            }
            let mut bytes = message.to_vec().unwrap();
            for (index, byte) in faults {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            if is_cut {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn whatever_comes_what_goes_out_is_bounded_and_belongs_to_it(
        bytes in prop_oneof![nearly_queries(), proptest::collection::vec(any::<u8>(), 0..600)],
        is_large in any::<bool>(),
    ) {
        let zone = if is_large { with_many_servers() } else { zone() };
        for transport in [Transport::Udp, Transport::Tcp] {
            let Some(answered) = raw(&bytes, &zone, transport) else {
                prop_assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0);
                continue;
            };
            prop_assert_eq!(&answered.bytes[..2], &bytes[..2]);
            prop_assert!(answered.bytes[2] & 0x80 != 0);
            let response = Message::from_vec(&answered.bytes);
            prop_assert!(response.is_ok(), "{response:?}");
            if transport == Transport::Udp {
                prop_assert!(answered.bytes.len() <= 1232);
                let has_edns = Message::from_vec(&bytes).is_ok_and(|query| query.edns.is_some());
                prop_assert!(has_edns || answered.bytes.len() <= 512);
            }
        }
    }
}
