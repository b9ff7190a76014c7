//! The embedded server, asked by `dig`, through a real resolver, and by clients that mean ill.

use crate::rig::{DnsServer, NAME, addresses, dig, documented, resolve, wait_until};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use pinwire_dns::{
    Addresses, NameServer, PoolMember, RateLimit, Server, ServerCounts, ServerSettings, Standing, ZoneName,
    ZoneView,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server for the region's name as a zone of its own.
struct Bench {
    tell: watch::Sender<Arc<ZoneView>>,
    address: SocketAddr,
    counts: Arc<ServerCounts>,
    _task: JoinSet<()>,
}

fn member(number: u8, standing: Standing) -> PoolMember {
    let own = [format!("192.0.2.{number}"), format!("2001:db8::{number}")];
    PoolMember { addresses: addresses(&[&own[0], &own[1]]), standing, occupancy_permille: 300 }
}

fn view(members: Vec<PoolMember>) -> Arc<ZoneView> {
    let server =
        |name: &str, at: &str| NameServer { name: format!("{name}.{NAME}"), addresses: addresses(&[at]) };
    Arc::new(ZoneView {
        names: vec![ZoneName { name: NAME.to_owned(), members }],
        servers: vec![server("ns1", "127.0.0.2"), server("ns2", "127.0.0.3")],
    })
}

impl Bench {
    async fn start(listen: &str, change: impl FnOnce(&mut ServerSettings)) -> Self {
        let mut settings = ServerSettings::new(NAME, vec![listen.parse().expect("an address")]);
        change(&mut settings);
        let members = vec![member(1, Standing::In), member(2, Standing::In), member(3, Standing::Out)];
        let (tell, told) = watch::channel(view(members));
        let server = Server::bind(settings, told).await.expect("a server");
        let (address, counts) = (server.addresses()[0], server.counts());
        let mut task = JoinSet::new();
        task.spawn(server.run());
        Self { tell, address, counts, _task: task }
    }

    async fn usual() -> Self {
        Self::start("127.0.0.1:0", |_| {}).await
    }
}

fn both_families() -> Addresses {
    addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"])
}

#[tokio::test]
async fn dig_is_answered_over_udp_and_tcp_with_and_without_edns() {
    let bench = Bench::usual().await;
    assert_eq!(resolve(bench.address, NAME).await, both_families());
    for more in
        [&["+noedns"][..], &["+tcp"], &["+tcp", "+noedns"], &["+ednsopt=65001:00ff", "+nsid", "+cookie"]]
    {
        let printed = dig(bench.address, &[&["+nocmd", NAME, "A"], more].concat()).await;
        assert!(printed.contains("status: NOERROR") && printed.contains("flags: qr aa rd;"), "{printed}");
        assert!(printed.contains("ANSWER: 2, AUTHORITY: 0"), "{printed}");
        assert_eq!(
            printed.contains("EDNS: version: 0, flags:; udp: 1232"),
            !more.contains(&"+noedns"),
            "{printed}"
        );
        assert!(!printed.contains("Warning") && !printed.contains("COOKIE"), "{printed}");
    }
    let later = dig(bench.address, &["+edns=1", "+noednsnegotiation", NAME, "A"]).await;
    assert!(later.contains("status: BADVERS") && later.contains("EDNS: version: 0"), "{later}");
    let six = Bench::start("[::1]:0", |_| {}).await;
    assert_eq!(resolve(six.address, NAME).await, both_families());
}

#[tokio::test]
async fn dig_sees_a_zone() {
    let bench = Bench::usual().await;
    let at = bench.address;
    let soa = dig(at, &["+noall", "+answer", NAME, "SOA"]).await;
    assert!(soa.contains(&format!("ns1.{NAME}. hostmaster.{NAME}.")) && soa.trim().ends_with(" 5"), "{soa}");
    let servers = dig(at, &["+noall", "+answer", "+additional", NAME, "NS"]).await;
    assert!(servers.contains("127.0.0.2") && servers.contains("127.0.0.3"), "{servers}");
    for (name, kind, status) in [
        (NAME, "TXT", "NOERROR"),
        ("no.eu-central-1.example.net", "A", "NXDOMAIN"),
        ("example.net", "A", "REFUSED"),
        (NAME, "AXFR", "REFUSED"),
    ] {
        let printed = dig(at, &["+noall", "+comments", name, kind]).await;
        let is_refused_transfer = kind == "AXFR" && printed.contains("Transfer failed");
        assert!(printed.contains(&format!("status: {status}")) || is_refused_transfer, "{printed}");
    }
    let other = dig(at, &["+noall", "+comments", "+opcode=NOTIFY", NAME, "SOA"]).await;
    assert!(other.contains("status: NOTIMP"), "{other}");
    let any = dig(at, &["+noall", "+answer", "+notcp", NAME, "ANY"]).await;
    assert!(any.contains("HINFO") && any.contains("RFC8482"), "{any}");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_comes_over_tcp() {
    let bench = Bench::usual().await;
    let server = |number: u8| NameServer {
        name: format!("a-rather-long-name-of-a-server-{number}.{NAME}"),
        addresses: addresses(&[&format!("192.0.2.{number}")]),
    };
    let many = ZoneView { servers: (1..=60).map(server).collect(), ..ZoneView::clone(&bench.tell.borrow()) };
    bench.tell.send(Arc::new(many)).unwrap();
    let look = async || dig(bench.address, &[NAME, "NS"]).await;
    let printed = wait_until("the new servers", look, |printed| printed.contains("ANSWER: 60")).await;
    assert!(printed.contains("(TCP)"), "{printed}");
    assert!(bench.counts.truncated.load(Relaxed) > 0);
}

#[tokio::test]
async fn a_resolver_finds_the_zone_by_its_delegation() {
    let bench =
        Bench::start("127.0.0.2:0", |settings| (settings.ttl_s, settings.negative_ttl_s) = (1, 1)).await;
    // The second server is not there: the resolver goes on with the first.
    let delegation =
        documented("delegation").replace("192.0.2.1", "127.0.0.2").replace("192.0.2.2", "127.0.0.3");
    let delegation = delegation.replace(".example.net.", "");
    let resolver = DnsServer::resolver(bench.address.port(), &delegation).await;
    assert_eq!(resolve(resolver.address(), NAME).await, both_families());
    let none = dig(resolver.address(), &["+noall", "+comments", &format!("no.{NAME}"), "A"]).await;
    assert!(none.contains("status: NXDOMAIN"), "{none}");
    let empty = dig(resolver.address(), &["+noall", "+comments", NAME, "MX"]).await;
    assert!(empty.contains("status: NOERROR") && empty.contains("ANSWER: 0, AUTHORITY: 1"), "{empty}");
    // What becomes of the pool is seen once the TTL is over; without one that wants clients, those that live.
    let out = vec![member(1, Standing::Dead), member(2, Standing::Out), member(3, Standing::Dead)];
    bench.tell.send(view(out)).unwrap();
    let left = addresses(&["192.0.2.2", "2001:db8::2"]);
    wait_until("the new pool", async || resolve(resolver.address(), NAME).await, |seen| *seen == left).await;
    bench.tell.send(view(Vec::new())).unwrap();
    wait_until("an empty pool", async || resolve(resolver.address(), NAME).await, Addresses::is_empty).await;
}

fn query(kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(format!("{NAME}.")).unwrap(), kind));
    message.to_vec().unwrap()
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&u16::try_from(query.len()).unwrap().to_be_bytes(), query].concat()
}

async fn read_answer(stream: &mut TcpStream) -> Option<Message> {
    let reading = async {
        let mut bytes = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut bytes).await.ok()?;
        Some(Message::from_vec(&bytes).expect("a message"))
    };
    timeout(PATIENCE, reading).await.expect("an answer, or the end")
}

#[tokio::test]
async fn many_queries_may_come_at_once_on_a_connection() {
    let bench = Bench::usual().await;
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let queries: Vec<Vec<u8>> = (0..200).map(|_| query(RecordType::A)).collect();
    let all: Vec<u8> = queries.iter().flat_map(|query| framed(query)).collect();
    // In pieces that are no whole messages.
    for piece in all.chunks(1000) {
        stream.write_all(piece).await.unwrap();
    }
    for query in &queries {
        let answer = read_answer(&mut stream).await.expect("an answer");
        assert_eq!(answer.id.to_be_bytes(), query[..2]);
        assert_eq!(answer.answers.len(), 2);
    }
    assert_eq!(bench.counts.tcp.load(Relaxed), 200);
}

#[tokio::test]
async fn a_connection_that_is_silent_or_sends_rubbish_ends() {
    let bench = Bench::start("127.0.0.1:0", |settings| settings.idle = Duration::from_millis(300)).await;
    let mut silent = TcpStream::connect(bench.address).await.unwrap();
    let mut slow = TcpStream::connect(bench.address).await.unwrap();
    slow.write_all(&framed(&query(RecordType::A))[..9]).await.unwrap();
    assert_eq!(read_answer(&mut silent).await, None);
    assert_eq!(read_answer(&mut slow).await, None);
    let mut long = TcpStream::connect(bench.address).await.unwrap();
    long.write_all(&[0xff; 2]).await.unwrap();
    assert_eq!(read_answer(&mut long).await, None);
    let mut rubbish = TcpStream::connect(bench.address).await.unwrap();
    rubbish.write_all(&framed(&[0x7f; 40])).await.unwrap();
    assert_eq!(read_answer(&mut rubbish).await.unwrap().metadata.response_code, ResponseCode::NotImp);
}

#[tokio::test]
async fn one_network_does_not_get_all_connections() {
    let bench = Bench::start("127.0.0.1:0", |settings| settings.connections_max = 16).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(&framed(&query(RecordType::A))).await.unwrap();
        assert!(read_answer(&mut stream).await.is_some());
        kept.push(stream);
    }
    let mut refused = TcpStream::connect(bench.address).await.unwrap();
    assert_eq!(read_answer(&mut refused).await, None);
    assert_eq!(bench.counts.connections_refused.load(Relaxed), 1);
    // A place that is given back is there for others.
    drop(kept);
    let again = async || {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        let _ = stream.write_all(&framed(&query(RecordType::A))).await;
        read_answer(&mut stream).await.is_some()
    };
    wait_until("a place", again, |is_answered| *is_answered).await;
}

#[tokio::test]
async fn a_flood_gets_little_and_who_uses_tcp_is_served() {
    let rate = RateLimit { per_second: 1, burst: 20 };
    let bench = Bench::start("127.0.0.1:0", |settings| settings.rate = rate).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(bench.address).await.unwrap();
    let (mut whole, mut short) = (0, 0);
    let mut buffer = [0; 4096];
    for round in 1..=300_u64 {
        socket.send(&query(RecordType::A)).await.unwrap();
        wait_until("the query", async || bench.counts.udp.load(Relaxed), |seen| *seen >= round).await;
    }
    let sent = async || {
        let counts = &bench.counts;
        counts.answered.load(Relaxed) + counts.limited.load(Relaxed)
    };
    wait_until("all of them", sent, |seen| *seen >= 300).await;
    while let Ok(length) = socket.try_recv(&mut buffer) {
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        match answer.answers.len() {
            0 if answer.metadata.truncation => short += 1,
            2 => whole += 1,
            _ => panic!("{answer}"),
        }
    }
    assert!((20..60).contains(&whole), "{whole}");
    assert!((80..200).contains(&short), "{short}");
    let printed = dig(bench.address, &["+short", "+tcp", NAME, "A"]).await;
    assert_eq!(printed.lines().count(), 2, "{printed}");
}

#[tokio::test]
async fn settings_and_addresses_that_are_not_to_be_had_are_named() {
    let (_tell, told) = watch::channel(view(Vec::new()));
    let bench = Bench::usual().await;
    let refused = async |change: fn(&mut ServerSettings)| {
        let mut settings = ServerSettings::new(NAME, vec![bench.address]);
        change(&mut settings);
        Server::bind(settings, told.clone()).await.unwrap_err()
    };
    let taken = refused(|_| {}).await.to_string();
    assert!(taken.contains(&bench.address.to_string()) && taken.contains("has it"), "{taken}");
    assert_eq!(refused(|settings| settings.listen.clear()).await.setting, "listen");
    assert_eq!(refused(|settings| settings.zone = "a b".to_owned()).await.setting, "zone");
    assert_eq!(refused(|settings| settings.contact = "a@b".to_owned()).await.setting, "contact");
    assert_eq!(refused(|settings| settings.ttl_s = 0).await.setting, "ttl");
    assert_eq!(refused(|settings| settings.addresses_max = 33).await.setting, "addresses_max");
}
