//! A node beside one of the version before: what they tell each other over a link, whichever of them dialled.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use pinwire_peer::{
    Assembler, Fragments, Handshake, Join, Message, Moving, Named, Secret, decode, encode, pack, unpack,
};
use pinwire_protocol::close::Close;
use pinwire_protocol::document::ywebsocket;
use pinwire_registry::{
    Answer, AppName, Claim, Claimed, DocumentName, Node, NodeView, Pin, RedisRegistry, Registry, Request,
};
use pinwire_shard::{Access, AppLimits, Pinned};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::admin;
use crate::member::{Member, Told};
use crate::regions::{System, holds, insertion, until, write};
use crate::rig::{PATIENCE, Serving};

/// The version before.
const OLDER: u8 = pinwire_peer::HOLDERS_SINCE - 1;
const NAME: &str = "there-1/old";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const LINKED: &str = "peer_listen = \"127.0.0.1:0\"\npeer_secret_file = \"secret\"\n";
const GRACE_US: u64 = 60_000_000;
const STREAM: u32 = 7;

/// The end of a link that a node of the version before would have.
struct Link {
    stream: TcpStream,
    assembler: Assembler,
}

impl Link {
    fn dial(address: &str, whom: &str) -> Self {
        let (handshake, _) = Handshake::dial(secret(), NAME, whom, [3; 32]);
        let (handshake, hello) = handshake.of_version(OLDER);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&hello).unwrap();
        Self::prove(stream, handshake)
    }

    fn accept(listener: &TcpListener) -> Self {
        let (handshake, _) = Handshake::listen(secret(), NAME, [4; 32]).of_version(OLDER);
        Self::prove(listener.accept().unwrap().0, handshake)
    }

    fn prove(mut stream: TcpStream, mut handshake: Handshake) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut chunk = [0; 512];
        loop {
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the other end closed it");
            let step = handshake.feed(&chunk[..read]).unwrap();
            stream.write_all(&step.send).unwrap();
            if let Some((_, version, behind)) = step.established {
                assert_eq!(version, OLDER);
                let mut assembler = Assembler::default();
                assembler.feed(&behind);
                return Self { stream, assembler };
            }
        }
    }

    fn say(&mut self, message: &Message) {
        let (mut bytes, mut fragments, mut out) = (Vec::new(), Fragments::default(), Vec::new());
        encode(message, &mut bytes);
        fragments.push(STREAM, bytes);
        fragments.fill(&mut out, usize::MAX);
        self.stream.write_all(&out).unwrap();
    }

    fn moving(&mut self, moving: Moving) {
        self.say(&Message::Moving(Box::new(moving)));
    }

    /// The next that is no ping.
    fn heard(&mut self) -> Message {
        loop {
            let Some(message) = self.assembler.next_message().unwrap() else {
                let mut chunk = [0; 4096];
                let read = self.stream.read(&mut chunk).unwrap();
                assert!(read > 0, "the other end closed it");
                self.assembler.feed(&chunk[..read]);
                continue;
            };
            match decode(&message).unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    fn heard_of_a_move(&mut self) -> Moving {
        match self.heard() {
            Message::Moving(moving) => *moving,
            other => panic!("{other:?}"),
        }
    }
}

fn secret() -> Secret {
    Secret::new(SECRET.as_bytes()).unwrap()
}

/// The registry, as the older node uses it.
struct Desk {
    runtime: Runtime,
    registry: RedisRegistry,
}

fn document() -> DocumentName {
    DocumentName { app: AppName("dev::dev".into()), name: "d".into() }
}

fn named() -> Named {
    Named { tenant: "dev".into(), app: "dev".into(), document: "d".into() }
}

fn pinned(claim: Claim) -> Pinned {
    Pinned { epoch: claim.epoch, nonce: claim.nonce }
}

impl Desk {
    fn of(system: &System) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let registry = runtime.block_on(async { RedisRegistry::new(system.registry.link()) });
        Self { runtime, registry }
    }

    fn ask(&self, request: Request) -> Answer {
        self.runtime.block_on(self.registry.ask(request)).unwrap()
    }

    /// The older node lives, and others reach it there.
    fn register(&self, peer_address: &str) -> Node {
        let node = Node { region: "there-1".into(), name: "old".into(), life: 1 };
        let (ws_url, version) = ("ws://there.invalid".into(), "0.0.9".into());
        let peer_address = peer_address.into();
        let view = NodeView { node: node.clone(), ws_url, peer_address, version, admin_url: "".into() };
        self.ask(Request::Register { node: view, lease_us: 600_000_000 });
        node
    }

    fn claim(&self, node: &Node) {
        let (document, node) = (document(), node.clone());
        let claim =
            Request::Claim { document, node, nonce: 5, hold: 1, max_documents: 9, grace_us: GRACE_US };
        assert!(matches!(self.ask(claim), Answer::Claimed(Claimed::Held { .. })));
    }

    fn pin(&self) -> Pin {
        let Answer::Located(Some(pin)) = self.ask(Request::Locate { document: document() }) else {
            panic!("the document is idle")
        };
        pin
    }

    /// Where a node listens for others.
    fn peer_address(&self) -> String {
        let Answer::Nodes(nodes) = self.ask(Request::Nodes) else { panic!("no list of nodes") };
        let here = nodes.iter().find(|view| &*view.node.region == "here-1").unwrap();
        here.peer_address.to_string()
    }
}

fn move_here(node: &Serving) -> (u16, Value) {
    let (status, body) = admin::ask(
        admin::tcp(node),
        "POST",
        "/v1/pins/dev/dev/d/move",
        &admin::bearer(&admin::token()),
        "{\"region\":\"here-1\"}",
    );
    (status, serde_json::from_str(&body).unwrap())
}

/// Takes a link on a thread of its own.
fn accepted(listener: TcpListener) -> Receiver<Link> {
    let (told, links) = channel();
    std::thread::spawn(move || {
        // The test may have ended.
        let _ = told.send(Link::accept(&listener));
    });
    links
}

#[test]
fn what_older_nodes_hold_is_moved_from_them_once_nobody_holds_it() {
    let system = System::start();
    let here = system.node_with("here-a", "here-1", LINKED);
    let (desk, listener) = (Desk::of(&system), TcpListener::bind("127.0.0.1:0").unwrap());
    let old = desk.register(&listener.local_addr().unwrap().to_string());
    desk.claim(&old);
    let links = accepted(listener);
    let (status, problem) = move_here(&here);
    let detail = problem["detail"].as_str().unwrap();
    assert!(status == 409 && detail.contains("of an older version"), "{status} {detail}");
    let mut link = links.recv_timeout(PATIENCE).unwrap();

    // Its clients have left; it is the first that it hears of a move.
    let (document, node) = (document(), old);
    desk.ask(Request::Release { document, node, hold: 1, grace_us: GRACE_US });
    let before = desk.pin().owner.claim;
    let moved = std::thread::scope(|scope| {
        let moving = scope.spawn(|| move_here(&here));
        let Moving::HandOver(number, asked, claim, fence) = link.heard_of_a_move() else { panic!("no move") };
        assert_eq!((asked, claim), (named(), pinned(before)));
        assert!(fence.epoch > claim.epoch);
        link.moving(Moving::Piece(number, pack(None, &[insertion(1, "from-there").into()]).into()));
        link.moving(Moving::Handed(number, 0, None));
        let mut ends = vec![link.heard_of_a_move(), link.heard_of_a_move()];
        ends.sort_by_key(|end| matches!(end, Moving::Settle(_)));
        assert_eq!(ends, [Moving::More(number), Moving::Settle(number)]);
        moving.join().unwrap()
    });
    assert_eq!(moved.0, 200, "{}", moved.1);
    assert_eq!((&*desk.pin().owner.region, desk.pin().owner.claim > before), ("here-1", true));
    let mut ann = Member::join(&here, &system.token);
    ann.until(|payload| payload.starts_with(&[0, 1]) && holds(payload, "from-there")).unwrap();
}

#[test]
fn an_older_node_is_handed_a_document_in_words_that_it_knows() {
    let system = System::start();
    let here = system.node_with("here-a", "here-1", LINKED);
    let (mut ann, mut ben) = (system.join(&here), system.join(&here));
    write(&mut ann, &insertion(1, "from-ann"));
    until(|| here.metric("pinwire_session_updates_total") == 1.0);
    let desk = Desk::of(&system);
    let claim = desk.pin().owner.claim;
    let fence = Pinned { epoch: claim.epoch + 1, nonce: 9 };
    let mut link = Link::dial(&desk.peer_address(), "here-1/here-a");
    link.moving(Moving::HandOver(5, named(), pinned(claim), fence));
    let (mut bytes, mut told) = (Vec::new(), link.heard_of_a_move());
    while let Moving::Piece(5, piece) = &told {
        bytes.extend_from_slice(piece);
        link.moving(Moving::More(5));
        told = link.heard_of_a_move();
    }
    assert_eq!(told, Moving::Handed(5, 0, None), "no names: it would cut the link");
    let (base, updates) = unpack(&bytes).unwrap();
    assert!(
        base.iter()
            .map(|base| &**base)
            .chain(updates.iter().map(|update| &**update))
            .any(|update| { holds(update, "from-ann") })
    );
    // It did not take it after all.
    link.moving(Moving::Settle(5));
    write(&mut ann, &insertion(2, "goes-on"));
    ben.until(|payload| holds(payload, "goes-on")).unwrap();
    until(|| here.metric("pinwire_session_updates_total") == 2.0);
    assert!(desk.pin().owner.claim > claim, "the region took the claim of the fence");
}

#[test]
fn sessions_are_carried_between_nodes_of_two_versions() {
    let system = System::start();
    let here = system.node_with("here-a", "here-1", &format!("{LINKED}wrong_region = \"relay\"\n"));
    let (desk, listener) = (Desk::of(&system), TcpListener::bind("127.0.0.1:0").unwrap());
    // Ours, to a document that is there.
    let old = desk.register(&listener.local_addr().unwrap().to_string());
    desk.claim(&old);
    let links = accepted(listener);
    let mut ann = Member::join(&here, &system.token);
    let mut link = links.recv_timeout(PATIENCE).unwrap();
    let Message::Join(join) = link.heard() else { panic!("nobody joins") };
    assert_eq!((&*join.document, join.claim), ("d", pinned(desk.pin().owner.claim)));
    link.say(&Message::Joined(join.session, Access::ReadWrite));
    assert!(matches!(link.heard(), Message::Frame(session, _) if session == join.session));
    link.say(&Message::Close(join.session, Close::try_again(1_000)));
    assert_eq!(ann.end(), (1013, "retry_ms=1000".to_owned()));
    drop(link);

    // Theirs, to one that is here.
    let (document, node) = (document(), old);
    desk.ask(Request::Release { document, node, hold: 1, grace_us: 0 });
    let deadline = Instant::now() + PATIENCE;
    let mut ann = loop {
        let mut ann = Member::join(&here, &system.token);
        match ann.told() {
            Told::Message(_) => break ann,
            // The way there is not forgotten yet.
            Told::Close(..) => assert!(Instant::now() < deadline, "it is not opened here"),
        }
    };
    let mut link = Link::dial(&desk.peer_address(), "here-1/here-a");
    let join = Join {
        session: 1,
        claim: pinned(desk.pin().owner.claim),
        limits: AppLimits::UNLIMITED,
        subject: Some("ben".into()),
        ..*join
    };
    link.say(&Message::Join(Box::new(join)));
    assert!(matches!(link.heard(), Message::Joined(1, Access::ReadWrite)));
    let mut frame = Vec::new();
    ywebsocket::append_update(&mut frame, &insertion(2, "from-ben"));
    link.say(&Message::Frame(1, frame.into()));
    ann.until(|payload| holds(payload, "from-ben")).unwrap();
}
