//! What each type looks like in JSON: a file that consoles of every version have to be able to read. `PINWIRE_UPDATE_PAGES=1`
//! writes the files anew; within `/v1/` that may only add to them.

use std::fmt::Debug;
use std::fs;

use pinwire_admin_api::actions::*;
use pinwire_admin_api::apps::*;
use pinwire_admin_api::cluster::*;
use pinwire_admin_api::connections::*;
use pinwire_admin_api::documents::*;
use pinwire_admin_api::events::*;
use pinwire_admin_api::log::{LogLevel, LogLine, LogPage};
use pinwire_admin_api::maintenance::*;
use pinwire_admin_api::node::*;
use pinwire_admin_api::problem::Problem;
use pinwire_admin_api::standing::*;
use pinwire_admin_api::stream::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `values` are what the file says, and the file says `values`.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, values: &[T]) {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let written = serde_json::to_string_pretty(values).unwrap() + "\n";
    if std::env::var_os("PINWIRE_UPDATE_PAGES").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let file = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(written, file, "PINWIRE_UPDATE_PAGES=1 writes {path} anew");
    assert_eq!(serde_json::from_str::<Vec<T>>(&file).unwrap(), values);
    // Consoles of today read what later nodes add.
    let more = file.replacen("\n  {", "\n  {\n    \"added_later\": 1,", 1);
    if file.contains("\n  {") && !name.ends_with("_request") {
        assert_eq!(
            serde_json::from_str::<Vec<T>>(&more).unwrap(),
            values,
            "{name} minds what it does not know"
        );
    }
}

const AT: &str = "2026-11-27T12:24:47.125Z";

fn text(text: &str) -> String {
    text.to_owned()
}

fn counts() -> Counts {
    Counts {
        connections: 1,
        documents: 2,
        handshakes_pending: 3,
        messages_received: 4,
        messages_sent: 5,
        fan_out_frames: 6,
        updates: 7,
        updates_known: 8,
        refusals: 9,
        closes: 10,
        closes_slow_reader: 11,
        closes_idle: 12,
        closes_invalid: 13,
        compactions: 14,
        log_entries_dropped: 15,
    }
}

fn node(status: Status) -> Node {
    Node {
        version: text("0.1.0"),
        region: text("eu-central-1"),
        name: Some(text("eu-1a")),
        started: text(AT),
        uptime_seconds: 3600,
        status,
        standing: Some(standing(Reach::Reached)),
        driver: Some(Driver::IoUring),
        config_digest: Some("0f".repeat(32)),
        max_connections: 100_000,
        threads: 2,
        totals: counts(),
        drain: Some(drain()),
        upgrade: Some(upgrades()[0].clone()),
        dns: Some(dns()),
        flow: Some(Flow {
            upgraded: 100,
            redirected: 20,
            turned_away: vec![TurnedAway { at: text("handshake"), reason: text("overloaded"), count: 3 }],
            carried_out: 4,
            carried_in: 5,
        }),
        process: Process {
            resident_bytes: Some(50_000_000),
            cpu_seconds: Some(12.5),
            open_files: Some(33),
            max_files: Some(20_000),
        },
        is_partial: false,
    }
}

fn upgrades() -> [Upgrade; 4] {
    let upgrade =
        |state, error: Option<&str>| Upgrade { pid: 4711, state, since: text(AT), error: error.map(text) };
    [
        upgrade(UpgradeState::Starting, None),
        upgrade(UpgradeState::Succeeded, None),
        upgrade(UpgradeState::Failed, Some("process 4711 does not take over: it is not ready within 45 s")),
        upgrade(UpgradeState::Lost, Some("signal: 9 (SIGKILL)")),
    ]
}

fn drain() -> Drain {
    Drain {
        stage: DrainStage::Closing,
        since: text(AT),
        carried: 7,
        connections_before: 10_000,
        deadline: Some(text(AT)),
    }
}

fn dns() -> Dns {
    Dns {
        name: text("eu-central-1.example.net"),
        provider: text("rfc2136"),
        addresses: vec![text("192.0.2.1"), text("2001:db8::1")],
        wants_in: false,
        why: text("SIGTERM"),
        since: text(AT),
        is_in: Some(true),
        is_kept: false,
        has: vec![text("192.0.2.1"), text("192.0.2.2")],
        seen: Some(text(AT)),
        failing: Some(DnsTrouble {
            since: Some(text(AT)),
            attempts: 3,
            error: text("ns1.example.net:53: no answer within 5 s"),
        }),
    }
}

fn standing(reach: Reach) -> Standing {
    let part = |resource: &str, share, used, limit| Part { resource: text(resource), share, used, limit };
    let member = PoolMember {
        name: text("eu-1a"),
        in_dns: true,
        wants_out: false,
        occupancy: 0.5,
        addresses: vec![text("192.0.2.1"), text("2001:db8::1")],
    };
    Standing {
        change: text("3f2a9c1d-12"),
        cause: text("memory at 81 %"),
        rung: Rung::NoNewConnections,
        in_dns: false,
        is_last: false,
        occupancy: 0.81,
        parts: vec![part("memory", 0.81, Some(81), Some(100)), part("cpu", 0.25, None, None)],
        high_water: 0.8,
        low_water: 0.7,
        handshakes_per_second: 12_000.0,
        pool: Pool {
            reach,
            error: (reach == Reach::Lost).then(|| text("the server does not answer")),
            age_seconds: (reach != Reach::Alone).then_some(1.5),
            members: if reach == Reach::Alone { Vec::new() } else { vec![member] },
        },
    }
}

fn thread() -> Thread {
    let turn = Some(Times { count: 100, mean_seconds: 0.000_25, p99_seconds: 0.001_024 });
    Thread { thread: 0, is_up: true, driver: Some(Driver::Epoll), counts: Some(counts()), turn }
}

fn silent() -> Thread {
    Thread { thread: 1, is_up: false, driver: None, counts: None, turn: None }
}

fn document(state: DocumentState) -> Document {
    Document {
        tenant: text("acme"),
        app: text("notes"),
        name: text("minutes"),
        state,
        claim: (state != DocumentState::Loading).then(|| text("0005f2a1c3d4e5f8-8c1f0b6f2a9d4e17")),
        is_adrift: state == DocumentState::Grace,
        since: text(AT),
        members: 3,
        present: 2,
        edits_per_second: 1.5,
        bytes_per_second: 42.25,
        log_bytes: 1234,
        unstored_bytes: 10,
        is_rejecting: false,
        thread: 1,
    }
}

fn name() -> DocumentName {
    DocumentName { tenant: text("acme"), app: text("notes"), name: text("minutes") }
}

#[test]
fn the_node_and_its_threads() {
    let bare = Node {
        name: None,
        standing: None,
        drain: None,
        upgrade: None,
        dns: None,
        driver: None,
        config_digest: None,
        process: Process::default(),
        is_partial: true,
        ..node(Status::Draining)
    };
    check("node", &[node(Status::Healthy), node(Status::Degraded), node(Status::Overloaded), bare]);
    check("standing", &[standing(Reach::Alone), standing(Reach::Lost)]);
    check("rung", &[Rung::Serving, Rung::Thrifty, Rung::NoNewDocuments, Rung::NoNewConnections]);
    check("threads", &[Threads { threads: vec![thread(), silent()], is_partial: true }]);
}

#[test]
fn lines_of_the_log() {
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let line = |(number, level): (usize, LogLevel)| LogLine {
        sequence: number as u64 + 1,
        at: text(AT),
        level,
        target: text("pinwire_node::node"),
        text: text("data thread number=0 driver=Uring"),
    };
    let lines = levels.into_iter().enumerate().map(line).collect();
    check(
        "log_lines",
        &[LogPage { lines, next: 5, lost: 0 }, LogPage { lines: Vec::new(), next: 5, lost: 2 }],
    );
}

#[test]
fn documents() {
    let all = [DocumentState::Loading, DocumentState::Live, DocumentState::Grace].map(document).to_vec();
    let first = DocumentPage { documents: all, next: Some(text("1.500")), is_partial: false };
    check("documents", &[first, DocumentPage { documents: Vec::new(), next: None, is_partial: true }]);
    check(
        "document_sort",
        &[DocumentSort::Members, DocumentSort::Edits, DocumentSort::Bytes, DocumentSort::Log],
    );
    let member = Member {
        connection: Some(text("13b-2a")),
        subject: Some(text("ann")),
        dialect: Dialect::YWebsocket,
        since: Some(text(AT)),
        is_read_only: true,
        thread: Some(1),
    };
    let unknown = Member {
        connection: None,
        subject: None,
        dialect: Dialect::Hocuspocus,
        since: None,
        is_read_only: false,
        thread: None,
    };
    let detail = DocumentDetail {
        document: document(DocumentState::Live),
        members: vec![member, unknown],
        next: Some(text("17")),
        is_partial: true,
    };
    let last = DocumentDetail { members: Vec::new(), next: None, is_partial: false, ..detail.clone() };
    check("document", &[detail, last]);
}

#[test]
fn connections() {
    let open = Connection {
        id: text("13b-2a"),
        thread: 1,
        state: ConnectionState::Open,
        since: text(AT),
        tenant: Some(text("acme")),
        app: Some(text("notes")),
        subject: Some(text("ann")),
        dialect: Some(Dialect::Hocuspocus),
        documents: vec![text("minutes"), text("plan")],
        document_count: 2,
        is_compressed: true,
        idle_seconds: 0.25,
        backlog_bytes: 4096,
    };
    let waiting = Connection {
        state: ConnectionState::Waiting,
        tenant: None,
        app: None,
        subject: None,
        dialect: None,
        documents: Vec::new(),
        document_count: 0,
        ..open.clone()
    };
    let moving = Connection { state: ConnectionState::Moving, ..open.clone() };
    let closing = Connection { state: ConnectionState::Closing, ..open.clone() };
    let all = vec![open, waiting, moving, closing];
    let page = ConnectionPage { connections: all, next: Some(text("0.100")), is_partial: false };
    check("connections", &[page, ConnectionPage { connections: Vec::new(), next: None, is_partial: true }]);
}

#[test]
fn apps() {
    let limited = Use { used: 3, limit: Some(100) };
    let app = App {
        tenant: text("acme"),
        app: text("notes"),
        connections: limited,
        documents: limited,
        operations: Use { used: 12, limit: None },
        max_users_per_document: Some(50),
    };
    let unlimited = App { max_users_per_document: None, ..app.clone() };
    let page = AppPage { apps: vec![app, unlimited], next: Some(text("acme::notes")) };
    check("apps", &[page, AppPage { apps: Vec::new(), next: None }]);
}

#[test]
fn events() {
    let DocumentName { tenant, app, name } = name();
    let document = || (tenant.clone(), app.clone(), name.clone());
    let message = |subject, payload| {
        let (tenant, app, name) = document();
        What::Message { tenant, app, name, subject, payload, bytes: 5 }
    };
    let all = [
        What::Started { version: text("0.1.0") },
        What::Reloaded { changed: vec![text("log"), text("threads")], needs_restart: vec![text("threads")] },
        What::ReloadRefused { problems: vec![text("node.toml:1:1: colour: there is no such key")] },
        What::StandingChanged {
            change: text("3f2a9c1d-12"),
            before: Status::Degraded,
            status: Status::Overloaded,
            rung: Rung::NoNewConnections,
            in_dns: false,
            cause: text("memory at 81 %"),
            connections_percent: 12,
            memory_percent: Some(81),
            cpu_percent: None,
        },
        What::Pressure { thread: 1, of: text("descriptors") },
        What::Unauthenticated { address: text("192.0.2.1:5") },
        message(Some(text("ann")), Some(text("hello"))),
        message(None, None),
        What::ConnectionClosed { connection: text("13b-2a"), code: 1000 },
        {
            let (tenant, app, name) = document();
            What::DocumentEnded { tenant, app, name, members: 3 }
        },
        {
            let (tenant, app, name) = document();
            What::MessageSent { tenant, app, name, members: 3 }
        },
        {
            let (tenant, app, name) = document();
            What::DocumentMoved { tenant, app, name, from: text("eu-central-1") }
        },
        What::DocumentLost { document: text("acme::notes::plan"), region: text("us-east-1") },
        What::DocumentGivenUp { document: text("acme::notes::plan") },
        What::DocumentUnpinned { document: text("acme::notes::plan") },
        What::Unpinned { document: text("acme::notes::plan"), region: text("us-east-1") },
        What::LogChanged { filter: text("debug") },
        What::Draining { why: text("SIGTERM"), connections: 10_000 },
        What::DrainCancelled,
        What::Drained { connections: 0 },
        What::Succeeded { pid: 4711 },
        What::SuccessorLost { pid: 4711, how: text("signal: 9 (SIGKILL)") },
        What::SuccessionFailed { error: text("the node drains") },
        What::DnsJoined { why: text("all is well") },
        What::DnsLeft { why: text("connections at 80 %") },
        What::DnsFailing { error: text("ns1.example.net:53: no answer within 5 s") },
        What::DnsWorks,
        What::Stopping,
        What::IncidentBegan {
            id: text("us-east-1-1795820400"),
            region: text("us-east-1"),
            state: text("unavailable"),
        },
        What::IncidentEnded { id: text("us-east-1-1795820400"), region: text("us-east-1") },
        What::MaintenanceAnnounced {
            id: text("m-00000000000000ff"),
            revision: 1,
            title: text("New disks"),
            regions: vec![text("us-east-1")],
        },
        What::MaintenanceWithdrawn { id: text("m-00000000000000ff"), title: text("New disks") },
    ];
    let event = |(what, sequence)| Event { sequence, at: text(AT), what };
    let events = all.into_iter().zip(1..).map(event).collect();
    check("events", &[EventPage { events, next: 15, lost: 3 }]);
}

#[test]
fn actions_and_their_records() {
    let DocumentName { tenant, app, name } = name();
    let document = || (tenant.clone(), app.clone(), name.clone());
    let reason = || text("maintenance");
    let bare = || Who { address: None, token: None, uid: None, certificate: None };
    let all = [
        (
            Who { address: Some(text("192.0.2.1:5")), token: Some(text("2bb80d537b1da3e3")), ..bare() },
            Action::CloseConnection { connection: text("13b-2a"), code: 1001, reason: reason() },
            Outcome::Done,
        ),
        (
            Who { uid: Some(1000), ..bare() },
            {
                let (tenant, app, name) = document();
                Action::EndDocument { tenant, app, name, code: 1001, reason: reason() }
            },
            Outcome::Failed(text("nobody has this document open here")),
        ),
        (
            Who { certificate: Some(text("ann.example 2bb80d537b1da3e3")), ..bare() },
            {
                let (tenant, app, name) = document();
                Action::SendMessage { tenant, app, name, bytes: 5 }
            },
            Outcome::Done,
        ),
        (bare(), Action::SetLog { filter: Some(text("debug")), for_seconds: Some(60) }, Outcome::Done),
        (bare(), Action::SetLog { filter: None, for_seconds: None }, Outcome::Done),
        (
            bare(),
            {
                let (tenant, app, name) = document();
                Action::EraseDocument { tenant, app, name }
            },
            Outcome::Done,
        ),
        (
            bare(),
            {
                let (tenant, app, _) = document();
                Action::EraseApp { tenant, app }
            },
            Outcome::Done,
        ),
        (
            bare(),
            {
                let (tenant, app, name) = document();
                Action::Unpin { tenant, app, name }
            },
            Outcome::Failed(text("no region has this document")),
        ),
        (
            bare(),
            {
                let (tenant, app, _) = document();
                Action::PutAppRecord { tenant, app, version: 0 }
            },
            Outcome::Done,
        ),
        (
            bare(),
            {
                let (tenant, app, _) = document();
                Action::DeleteAppRecord { tenant, app, version: 7 }
            },
            Outcome::Failed(text("the registry did not answer in time")),
        ),
        (
            bare(),
            {
                let (tenant, app, name) = document();
                Action::MoveDocument { tenant, app, name, region: text("us-east-1") }
            },
            Outcome::Done,
        ),
        (
            bare(),
            Action::AnnounceMaintenance { title: text("New disks"), regions: vec![text("us-east-1")] },
            Outcome::Done,
        ),
        (bare(), Action::ChangeMaintenance { id: text("m-00000000000000ff"), revision: 1 }, Outcome::Done),
        (bare(), Action::WithdrawMaintenance { id: text("m-00000000000000ff") }, Outcome::Done),
        (bare(), Action::Drain, Outcome::Done),
        (bare(), Action::CancelDrain, Outcome::Done),
        (bare(), Action::Upgrade, Outcome::Failed(text("the node drains"))),
    ];
    let record =
        |((who, what, outcome), sequence)| AuditRecord { sequence, at: text(AT), who, what, outcome };
    let records = all.into_iter().zip(1..).map(record).collect();
    check("audit", &[AuditPage { records, next: 8, lost: 0 }]);
    check(
        "close_request",
        &[CloseRequest { code: Some(1001), reason: Some(reason()) }, CloseRequest::default()],
    );
    check("drain", &[drain()]);
    check("upgrade_begun", &[UpgradeBegun { pid: 4711 }]);
    check("upgrades", &upgrades());
    check("connection_closed", &[ConnectionClosed { connection: text("13b-2a") }]);
    check("document_ended", &[DocumentEnded { members: 3 }]);
    check("move_request", &[MoveRequest { region: text("us-east-1") }]);
    let claim = text("0005f2a1c3d4e5f8-8c1f0b6f2a9d4e17");
    check(
        "document_moved",
        &[DocumentMoved { from: text("eu-central-1"), region: text("us-east-1"), claim }],
    );
    check("erased", &[Erased { documents: 3 }]);
    check("message_request", &[MessageRequest { payload: text("hello") }]);
    check("message_sent", &[MessageSent { members: 2, unable: 1 }]);
    let request = LogRequest { filter: text("debug"), for_seconds: Some(60) };
    check("log_request", &[request.clone(), LogRequest { for_seconds: None, ..request }]);
    let log = Log { filter: text("debug"), configured: text("info"), until: Some(text(AT)) };
    check("log", &[log.clone(), Log { until: None, ..log }]);
}

#[test]
fn the_stream() {
    let event = || Event { sequence: 7, at: text(AT), what: What::Stopping };
    let snapshot = Snapshot {
        node: node(Status::Healthy),
        threads: vec![thread(), silent()],
        documents: vec![document(DocumentState::Live)],
        events: vec![event()],
    };
    check("snapshot", &[snapshot]);
    let change = Change {
        node: node(Status::Healthy),
        threads: vec![thread()],
        order: vec![name()],
        documents: vec![document(DocumentState::Grace)],
        events: vec![event()],
        events_lost: 2,
        skipped: 1,
    };
    check("change", &[change]);
}

#[test]
fn problems() {
    let problem = Problem {
        kind: text("about:blank"),
        title: text("Unprocessable Content"),
        status: 422,
        error: text("invalid_parameter"),
        detail: text("999 is no close code of the node"),
        parameter: Some(text("code")),
    };
    check("problem", &[problem.clone(), Problem { parameter: None, ..problem }]);
}

#[test]
fn slips_in_requests_are_told() {
    assert!(serde_json::from_str::<CloseRequest>(r#"{"cod":1000}"#).is_err());
    assert!(serde_json::from_str::<MessageRequest>(r#"{"payload":"a","to":"b"}"#).is_err());
    assert!(serde_json::from_str::<LogRequest>(r#"{"filter":"info","for":5}"#).is_err());
}

#[test]
fn records_of_apps() {
    let limits = RecordLimits {
        max_connections: Some(100),
        max_documents: Some(500),
        max_users_per_doc: Some(50),
        ops_per_minute: Some(10_000),
    };
    let key = serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let record = AppRecord {
        limits: Some(limits),
        regions: Some(vec![text("eu-central-1"), text("us-east-1")]),
        keys: Some(vec![key.as_object().unwrap().clone()]),
    };
    check("app_record_request", &[record.clone(), AppRecord::default()]);
    check(
        "app_record",
        &[RecordedApp { version: 7, record: Some(record) }, RecordedApp { version: 8, record: None }],
    );
}

#[test]
fn the_cluster() {
    let pin = Pin {
        tenant: text("acme"),
        app: text("notes"),
        name: text("plan"),
        region: text("eu-central-1"),
        ws_url: text("wss://eu-central-1.example.net"),
        claim: text("0005f5e1000000aa-00000000000000ff"),
        nodes: vec![text("eu-central-1/eu-1a/0000000000000001")],
        grace_seconds: None,
    };
    let idle = Pin { nodes: Vec::new(), grace_seconds: Some(7), ..pin.clone() };
    check("unpinned", &[Unpinned { pin: pin.clone(), idle_within_seconds: 20 }]);
    let next = Some(text("acme::notes::plan"));
    check(
        "pins",
        &[
            PinPage { db_code: Some(text("aws-eu-west-1")), pins: vec![pin, idle], next },
            PinPage { db_code: None, pins: Vec::new(), next: None },
        ],
    );
    let region = Region {
        name: text("us-east-1"),
        url: Some(text("wss://us-east-1.example.net")),
        status: text("live"),
        area: Some(text("Virginia")),
        round_trip_ms: Some(92.5),
        health: Some(text("healthy")),
        occupancy: Some(0.25),
    };
    let coming = Region {
        name: text("ap-south-1"),
        url: None,
        status: text("coming-soon"),
        area: None,
        round_trip_ms: None,
        health: None,
        occupancy: None,
    };
    check("regions", &[Regions { regions: vec![region, coming] }]);
    let node = ClusterNode {
        region: text("eu-central-1"),
        name: text("eu-1a"),
        life: text("0000000000000001"),
        ws_url: text("wss://eu-central-1.example.net"),
        peer_address: Some(text("10.0.0.7:7000")),
        admin_url: Some(text("https://10.0.0.7:9180")),
        version: text("0.1.0"),
        db_codes: vec![text("aws-eu-west-1")],
    };
    let bare = ClusterNode { peer_address: None, admin_url: None, db_codes: Vec::new(), ..node.clone() };
    check("nodes", &[Nodes { nodes: vec![node, bare], unanswered: vec![text("aws-us-east-1")] }]);
}

#[test]
fn maintenance() {
    let notice = |phase| Maintenance {
        id: text("m-00000000000000ff"),
        revision: 2,
        revised: text(AT),
        phase,
        regions: vec![text("eu-central-1"), text("us-east-1")],
        from: text(AT),
        to: text(AT),
        title: text("New disks"),
        text: text("Clients reconnect once."),
    };
    let phases = [
        MaintenancePhase::Planned,
        MaintenancePhase::Underway,
        MaintenancePhase::Over,
        MaintenancePhase::Withdrawn,
    ];
    let notices = phases.map(notice).to_vec();
    check("maintenance", &[MaintenanceList { notices, is_kept: true }]);
    let notice = notice(MaintenancePhase::Planned);
    check("announced_maintenance", &[AnnouncedMaintenance { notice, is_kept: false }]);
    let request = MaintenanceRequest {
        regions: vec![text("us-east-1")],
        from: text(AT),
        to: text(AT),
        title: text("New disks"),
        text: text("Clients reconnect once."),
    };
    check("maintenance_request", &[request.clone(), MaintenanceRequest { text: String::new(), ..request }]);
}
