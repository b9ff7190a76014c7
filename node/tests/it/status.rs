//! What regions publish of themselves and of each other.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pinwire_admin_api::actions::{Action, AuditPage};
use pinwire_admin_api::events::{EventPage, What};
use pinwire_admin_api::maintenance::{AnnouncedMaintenance, MaintenanceList, MaintenancePhase};
use pinwire_redis::rig::{Options, ServerRig};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::admin::{self, ask, bearer, good, refused, tcp};
use crate::regions::until;
use crate::rig::Serving;

/// Two regions, `here-1` and `there-1`, at ports that they keep.
struct Sites {
    folder: TempDir,
    /// The third is another node's of the first region.
    ports: [u16; 3],
    redis: Option<ServerRig>,
}

impl Sites {
    fn new(redis: Option<ServerRig>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("secret", "0123456789abcdef".repeat(2)), ("admin.token", admin::token())] {
            fs::write(folder.path().join(name), text).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let free = [0, 1, 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        Self { folder, ports: free.map(|free| free.local_addr().unwrap().port()), redis }
    }

    /// A node of a region, which looks at the other each second, with more settings of the table `status`.
    fn start(&self, name: &str, place: usize, port: u16, more: &str) -> Serving {
        let regions = ["here-1", "there-1"];
        let cluster = self.redis.as_ref().map(|redis| {
            let url = redis.url();
            format!("registry = \"redis\"\nsession = \"{url}\"\n[cluster.registries]\n\"aws-eu-west-1\" = \"{url}\"\n")
        });
        let entries: String = regions
            .iter()
            .zip(self.ports)
            .map(|(name, port)| {
                format!(
                    "[[regions]]\nname = \"{name}\"\nurl = \"ws://127.0.0.1:{port}\"\nstatus = \"live\"\n"
                )
            })
            .collect();
        let config = format!(
            "region = \"{}\"\n[tokens]\nsecret_file = \"secret\"\n[status]\nsettle = \"2s\"\n{more}\n[admin]\n\
             listen = [\"127.0.0.1:0\"]\ntoken_file = \"admin.token\"\n[cluster]\nnode = \"{name}\"\n\
             probe_interval = \"1s\"\n{}{entries}",
            regions[place],
            cluster.unwrap_or_default(),
        );
        let file: PathBuf = self.folder.path().join(format!("{name}.toml"));
        fs::write(&file, config).unwrap();
        Serving::start_with(
            &file,
            &[&format!("listen=127.0.0.1:{port}"), &format!("public_url=ws://127.0.0.1:{port}"), "threads=1"],
        )
    }

    fn both(&self) -> [Serving; 2] {
        [self.here(), self.there()]
    }

    fn here(&self) -> Serving {
        self.start("here", 0, self.ports[0], "")
    }

    fn there(&self) -> Serving {
        self.start("there", 1, self.ports[1], "")
    }
}

fn shown(node: &Serving) -> Value {
    let (status, body) = node.get("/status.json", "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// How a region is, as seen from a node.
fn state(node: &Serving, region: &str) -> Value {
    let shown = shown(node);
    let regions = shown["regions"].as_array().unwrap();
    regions.iter().find(|shown| shown["name"] == *region).unwrap()["state"].clone()
}

/// What somebody announces: from and to, in seconds from now.
fn request(regions: &[&str], from: i64, to: i64) -> String {
    let at = |seconds: i64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        OffsetDateTime::from_unix_timestamp(now + seconds).unwrap().format(&Rfc3339).unwrap()
    };
    json!({ "regions": regions, "from": at(from), "to": at(to), "title": "New <disks>", "text": "One & all.\nBriefly." })
        .to_string()
}

fn admin(node: &Serving, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    ask(tcp(node), method, path, &format!("{}{headers}", bearer(&admin::token())), body)
}

fn announce(node: &Serving, regions: &[&str], from: i64, to: i64) -> AnnouncedMaintenance {
    good(admin(node, "POST", "/v1/maintenance", "", &request(regions, from, to)))
}

fn notices(node: &Serving) -> MaintenanceList {
    good(admin(node, "GET", "/v1/maintenance", "", ""))
}

fn events(node: &Serving) -> Vec<What> {
    let page: EventPage = good(admin(node, "GET", "/v1/events", "", ""));
    page.events.into_iter().map(|event| event.what).collect()
}

#[test]
fn a_region_that_is_killed_is_an_incident_of_the_other_until_it_is_back_and_its_notices_stay() {
    let sites = Sites::new(None);
    let [here, there] = sites.both();
    until(|| state(&here, "here-1") == "operational" && state(&here, "there-1") == "operational");
    let announced = announce(&there, &["there-1"], 3600, 7200).notice;
    let called_off = announce(&there, &["there-1"], 3600, 7200).notice;
    let maintenance = |node: &Serving, id: &str| {
        let all = shown(node)["maintenance"].as_array().unwrap().clone();
        all.into_iter().find(|notice| notice["id"] == *id).map(|notice| notice["phase"].clone())
    };
    until(|| maintenance(&here, &called_off.id).is_some_and(|phase| phase == "planned"));
    there.signal("KILL");
    drop(there);
    until(|| state(&here, "there-1") == "unavailable");
    let told = shown(&here);
    assert_eq!(told["state"], "unavailable");
    let incident = &told["incidents"][0];
    assert_eq!((&incident["region"], &incident["impact"]), (&json!("there-1"), &json!("unavailable")));
    assert!(incident["ended"].is_null(), "{incident}");
    assert_eq!(maintenance(&here, &announced.id).unwrap(), "planned");
    // One of them is called off here, while the region that announced it is down.
    let path = format!("/v1/maintenance/{}", called_off.id);
    let off: AnnouncedMaintenance = good(admin(&here, "DELETE", &path, "", ""));
    assert_eq!((off.notice.phase, off.notice.revision), (MaintenancePhase::Withdrawn, 2));
    // It had everything in memory, and learns it from the other.
    let there = sites.there();
    until(|| maintenance(&there, &called_off.id).is_some_and(|phase| phase == "withdrawn"));
    until(|| maintenance(&there, &announced.id).is_some_and(|phase| phase == "planned"));
    until(|| state(&here, "there-1") == "operational");
    let told = shown(&here);
    let incidents = told["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1);
    assert!(incidents[0]["ended"].as_str() > incidents[0]["began"].as_str(), "{incidents:?}");
    let seen = events(&here);
    let position = |wanted: &dyn Fn(&What) -> bool| seen.iter().position(wanted).unwrap();
    let began = position(
        &|what| matches!(what, What::IncidentBegan { region, state, .. } if region == "there-1" && state == "unavailable"),
    );
    let ended = position(&|what| matches!(what, What::IncidentEnded { region, .. } if region == "there-1"));
    assert!(began < ended);
    assert_eq!(maintenance(&here, &called_off.id).unwrap(), "withdrawn");
}

#[test]
fn a_region_that_is_away_during_its_maintenance_is_an_incident_only_once_that_is_over() {
    let sites = Sites::new(None);
    let [here, there] = sites.both();
    until(|| state(&here, "there-1") == "operational");
    let announced = announce(&here, &["there-1"], -1, 12).notice;
    assert_eq!(state(&here, "there-1"), "maintenance");
    until(|| state(&there, "there-1") == "maintenance");
    drop(there);
    let incidents = || shown(&here)["incidents"].as_array().unwrap().clone();
    until(|| !incidents().is_empty());
    let incidents = incidents();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert!(incidents[0]["began"].as_str() >= Some(&announced.to), "{incidents:?} {announced:?}");
}

#[test]
fn nodes_of_a_region_share_what_they_know_and_outlive_each_other() {
    let mut sites = Sites::new(Some(ServerRig::start(&Options::default())));
    let first = sites.here();
    let other = sites.start("here-b", 0, sites.ports[2], "");
    until(|| shown(&first)["history"] == "shared" && shown(&other)["history"] == "shared");
    // Nobody has ever seen the other region: it is away, and both say so in the same words.
    until(|| shown(&first)["incidents"].as_array().unwrap().len() == 1);
    until(|| shown(&other)["incidents"] == shown(&first)["incidents"]);
    let announced = announce(&other, &["there-1"], 3600, 7200);
    assert!(announced.is_kept);
    assert_eq!(notices(&first).notices, std::slice::from_ref(&announced.notice));
    // Two change it: the second is told that it is late.
    let path = format!("/v1/maintenance/{}", announced.notice.id);
    let change = |node: &Serving, revision: u64| {
        let held = format!("If-Match: \"{revision}\"\r\n");
        admin(node, "PUT", &path, &held, &request(&["here-1", "there-1"], 3600, 9000))
    };
    let changed: AnnouncedMaintenance = good(change(&first, 1));
    assert_eq!((changed.notice.revision, changed.notice.regions.len()), (2, 2));
    assert_eq!(refused(change(&other, 1)).error, "version_mismatch");
    // The writer dies: the other goes on with the same history.
    let before = shown(&first)["incidents"].clone();
    first.signal("KILL");
    drop(first);
    let there = sites.there();
    until(|| state(&other, "there-1") == "operational");
    let incidents = shown(&other)["incidents"].clone();
    assert_eq!((incidents.as_array().unwrap().len(), &incidents[0]["id"]), (1, &before[0]["id"]));
    assert!(incidents[0]["ended"].is_string(), "{incidents}");
    // Without Redis the node goes on by itself, and says so.
    sites.redis.as_mut().unwrap().kill();
    until(|| shown(&other)["history"] == "apart");
    assert!(!notices(&other).is_kept);
    assert!(!announce(&other, &["here-1"], 3600, 7200).is_kept);
    until(|| other.get("/status", "").1.contains("\"degraded\""));
    sites.redis.as_mut().unwrap().restart();
    until(|| shown(&other)["history"] == "shared" && notices(&other).is_kept);
    drop((other, there));
    // All of it is there when all nodes have been away.
    let again = sites.here();
    until(|| shown(&again)["history"] == "shared");
    assert_eq!(notices(&again).notices.len(), 2);
    assert_eq!(shown(&again)["incidents"].as_array().unwrap().last().unwrap()["id"], before[0]["id"]);
}

#[test]
fn operators_announce_change_and_withdraw_with_a_record_of_it() {
    let sites = Sites::new(None);
    let here = sites.here();
    let announced = announce(&here, &["here-1", "here-1"], 60, 120).notice;
    assert_eq!((announced.phase, announced.regions.len()), (MaintenancePhase::Planned, 1));
    for (body, parameter) in [
        (request(&["nowhere-1"], 60, 120), "regions"),
        (request(&[], 60, 120), "regions"),
        (request(&["here-1"], 120, 60), "to"),
        (request(&["here-1"], -120, -60), "to"),
        (request(&["here-1"], 60, 400 * 86_400), "to"),
        (request(&["here-1"], 60, 120).replace("New", &"New".repeat(99)), "title"),
        (request(&["here-1"], 60, 120).replace("Z\"", "\""), "from"),
    ] {
        let problem = refused(admin(&here, "POST", "/v1/maintenance", "", &body));
        assert_eq!(
            (problem.status, problem.parameter.as_deref()),
            (422, Some(parameter)),
            "{body}: {problem:?}"
        );
    }
    let path = format!("/v1/maintenance/{}", announced.id);
    let body = request(&["here-1"], 60, 120);
    assert_eq!(refused(admin(&here, "PUT", &path, "", &body)).status, 428);
    assert_eq!(refused(admin(&here, "PUT", "/v1/maintenance/m-0", "If-Match: \"1\"\r\n", &body)).status, 404);
    assert_eq!(refused(admin(&here, "DELETE", "/v1/maintenance/m-0", "", "")).status, 404);
    let off: AnnouncedMaintenance = good(admin(&here, "DELETE", &path, "", ""));
    assert_eq!(off.notice.phase, MaintenancePhase::Withdrawn);
    assert_eq!(refused(admin(&here, "DELETE", &path, "", "")).status, 409);
    assert_eq!(refused(admin(&here, "PUT", &path, "If-Match: \"2\"\r\n", &body)).status, 409);
    let audit: AuditPage = good(admin(&here, "GET", "/v1/audit", "", ""));
    let named = |action: &Action| match action {
        Action::AnnounceMaintenance { .. } => "announce",
        Action::ChangeMaintenance { .. } => "change",
        Action::WithdrawMaintenance { .. } => "withdraw",
        _ => "other",
    };
    let actions: Vec<&str> = audit.records.iter().map(|record| named(&record.what)).collect();
    assert!(
        actions.starts_with(&["announce", "announce"])
            && actions.ends_with(&["withdraw", "withdraw", "change"]),
        "{actions:?}"
    );
    let told = events(&here);
    assert!(
        told.iter().any(|what| matches!(what, What::MaintenanceAnnounced { revision: 1, .. })),
        "{told:?}"
    );
    assert!(told.iter().any(|what| matches!(what, What::MaintenanceWithdrawn { .. })), "{told:?}");
}

/// Head and body of an answer.
fn raw(node: &Serving, method: &str, path: &str, headers: &str) -> (String, String) {
    let url = node.ready["regions"][0]["http_url"].as_str().unwrap();
    let mut socket = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("{name}: {head}"))
}

#[test]
fn browsers_get_a_page_readers_a_feed_and_programs_json() {
    let sites = Sites::new(None);
    let more = "title = \"Acme & Sons\"\ncontact = \"mailto:ops@acme.example\"\nurl = \"https://status.acme.example/\"";
    let here = sites.start("here", 0, sites.ports[0], more);
    announce(&here, &["there-1"], 3600, 7200);
    let (head, body) = raw(&here, "GET", "/status", "Accept: text/html,*/*;q=0.8\r\n");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(field(&head, "content-type"), "text/html; charset=utf-8");
    let policy = field(&head, "content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!((field(&head, "vary"), field(&head, "x-content-type-options")), ("accept", "nosniff"));
    assert!(field(&head, "cache-control").contains("max-age=5"));
    assert!(body.contains("Acme &amp; Sons") && body.contains("New &lt;disks&gt;"), "{body}");
    assert!(body.contains("href=\"mailto:ops@acme.example\""), "{body}");
    let (head, body) = raw(&here, "GET", "/status", "Accept: application/json\r\n");
    assert_eq!(
        (field(&head, "content-type"), field(&head, "access-control-allow-origin")),
        ("application/json", "*")
    );
    let (_, same) = raw(&here, "GET", "/status.json", "");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["title"],
        serde_json::from_str::<Value>(&same).unwrap()["title"]
    );
    let (head, feed) = raw(&here, "GET", "/status.atom", "");
    assert_eq!(field(&head, "content-type"), "application/atom+xml; charset=utf-8");
    assert_eq!(by_pythons_parser(&feed), ["Acme & Sons", "Maintenance: New <disks>"]);
    assert!(feed.contains("https://status.acme.example/status.atom"), "{feed}");
    // A feed changes when something does: who has it is told that in a few bytes.
    let known = format!("If-None-Match: {}\r\n", field(&head, "etag"));
    let (head, body) = raw(&here, "GET", "/status.atom", &known);
    assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
    let (head, body) = raw(&here, "HEAD", "/status.json", "");
    assert!(
        head.starts_with("http/1.1 200") && body.is_empty() && field(&head, "content-length") != "0",
        "{head}"
    );
    let (head, _) = raw(&here, "OPTIONS", "/status.json", "");
    assert!(head.starts_with("http/1.1 204"), "{head}");
    assert!(raw(&here, "POST", "/status", "").0.starts_with("http/1.1 405"));
    drop(here);
    let silent = sites.start("here", 0, sites.ports[0], "enabled = false");
    for path in ["/status", "/status.json", "/status.atom"] {
        assert_eq!(silent.get(path, "").0, 404, "{path}");
    }
    assert_eq!(refused(admin(&silent, "GET", "/v1/maintenance", "", "")).status, 409);
}

/// Titles of an Atom feed and its entries, by a parser that is not ours.
fn by_pythons_parser(feed: &str) -> Vec<String> {
    let program = "import sys, json, xml.etree.ElementTree as E\n\
                   a = '{http://www.w3.org/2005/Atom}'\n\
                   f = E.fromstring(sys.stdin.buffer.read())\n\
                   assert f.tag == a + 'feed' and f.find(a + 'id') is not None and f.find(a + 'updated') is not None\n\
                   es = f.findall(a + 'entry')\n\
                   assert all(e.find(a + n) is not None for e in es for n in ('id', 'updated', 'content'))\n\
                   print(json.dumps([e.find(a + 'title').text for e in [f] + es]))";
    let mut python = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(feed.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{feed}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_node_that_takes_no_clients_still_says_how_the_regions_are() {
    let sites = Sites::new(None);
    let file = sites.folder.path().join("small.toml");
    fs::write(
        &file,
        "region = \"here-1\"\n[tokens]\nsecret_file = \"secret\"\n[shedding]\nmax_memory = \"1MiB\"\n",
    )
    .unwrap();
    let here = Serving::start_with(&file, &["listen=127.0.0.1:0", "shedding.resources=memory"]);
    until(|| here.get("/health", "").0 == 503);
    until(|| state(&here, "here-1") == "degraded");
    assert!(here.get("/status", "").1.contains("takes no new clients"));
}

#[test]
fn a_node_by_itself_keeps_its_history_where_it_keeps_documents() {
    let sites = Sites::new(None);
    let start = || {
        let file = sites.folder.path().join("alone.toml");
        let config = "region = \"here-1\"\n[tokens]\nsecret_file = \"secret\"\n[store]\npath = \"documents\"\n[admin]\n\
                      listen = [\"127.0.0.1:0\"]\ntoken_file = \"admin.token\"\n";
        fs::write(&file, config).unwrap();
        Serving::start(&file)
    };
    let here = start();
    let announced = announce(&here, &["here-1"], 3600, 7200).notice;
    assert_eq!(here.end(), 0);
    assert_eq!(notices(&start()).notices, [announced]);
}
