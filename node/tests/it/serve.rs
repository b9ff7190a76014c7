//! `serve` and `config` as operators use them: the program itself, its files, its signals.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::rig::{Home, Serving, run};

#[test]
fn what_init_writes_serves_at_once_with_the_secret_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    assert_eq!(fs::metadata(home.secret()).unwrap().permissions().mode() & 0o777, 0o600);
    let (status, told) = home.config_command("check");
    assert!(status == 0 && told.starts_with("good: region eu-central-1, 1 key for tokens\n"), "{told}");
    for line in
        ["listens on: 127.0.0.1:1234 in plain text", "connections: at most 100000", "license regions: "]
    {
        assert!(told.contains(&format!("\n  {line}")), "{line} in {told}");
    }
    let node = Serving::start(&home.config());
    assert_eq!(node.ready["pid"], node.child.id());
    assert_eq!(node.ready["regions"][0]["region"], "eu-central-1");
    assert_eq!((node.discovery(&home.token()), node.discovery("a.b.c")), (200, 401));
    assert_eq!(node.end(), 0);
}

#[test]
fn metrics_come_from_every_thread_and_can_be_turned_off() {
    let home = Home::new();
    let node = Serving::start(&home.config());
    let (status, text) = node.get("/metrics", "");
    assert_eq!(status, 200);
    for line in [
        "pinwire_thread_up{thread=\"0\"} 1",
        "pinwire_status{status=\"healthy\"} 1",
        "pinwire_connections{thread=\"0\"} 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of the Debian package prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let lint = promtool.wait_with_output().unwrap();
    let told = [lint.stdout, lint.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(lint.status.success() && told.is_empty(), "{told}");
    assert_eq!(node.end(), 0);
    let text = fs::read_to_string(home.config()).unwrap().replace("# metrics = true", "metrics = false");
    fs::write(home.config(), text).unwrap();
    assert_eq!(Serving::start(&home.config()).get("/metrics", "").0, 404);
}

#[test]
fn init_overwrites_nothing() {
    let home = Home::new();
    let before = fs::read_to_string(home.config()).unwrap();
    let (status, told) = run(&["config", "init", home.config().to_str().unwrap()]);
    assert_eq!(status, 2);
    assert!(told.contains("pinwire.toml is there already, and is left as it is"), "{told}");
    assert_eq!(fs::read_to_string(home.config()).unwrap(), before);
}

#[test]
fn a_bad_configuration_is_told_with_status_2_and_nothing_starts() {
    let home = Home::new();
    home.prepend("max_conections = 5\nthreads = 5000");
    for command in
        [&["config", "check", "--config"][..], &["config", "dump", "--config"], &["serve", "--config"]]
    {
        let (status, told) = run(&[command, &[home.config().to_str().unwrap()]].concat());
        assert_eq!(status, 2, "{told}");
        assert!(
            told.contains(
                "pinwire.toml:1:1: max_conections: there is no such key; is max_connections meant?"
            ),
            "{told}"
        );
        assert!(told.contains("pinwire.toml:2:1: threads: has to lie between 0 and 1024"), "{told}");
    }
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.prepend(&format!("listen = [\"{}\"]", taken.local_addr().unwrap()));
    let (status, told) = run(&["serve", "--config", home.config().to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(told.contains("something else listens there; `ss -ltnp sport = :"), "{told}");
    assert_eq!(told.matches("Address already in use").count(), 1, "{told}");
    assert_eq!(told.matches(&taken.local_addr().unwrap().to_string()).count(), 1, "{told}");
}

#[test]
fn a_reload_takes_new_keys_over_and_keeps_what_needs_a_restart() {
    let home = Home::new();
    let node = Serving::start(&home.config());
    let old = home.token();
    assert_eq!(node.discovery(&old), 200);

    fs::write(home.secret(), "another secret, as long as it has to be\n").unwrap();
    let new = home.token();
    assert_eq!((node.discovery(&old), node.discovery(&new)), (200, 401), "nothing is taken over unasked");
    home.prepend("max_connections = 77\nlog = \"debug\"");
    node.signal("HUP");
    node.logs(&["needs a restart and keeps its value", "max_connections", "77"]);
    node.logs(&["reloaded", "key=\"log\"", "debug"]);
    node.logs(&["configuration reloaded", "changes=2"]);
    assert_eq!((node.discovery(&old), node.discovery(&new)), (401, 200));

    home.prepend("colour = 5");
    fs::write(home.secret(), "too short").unwrap();
    node.signal("HUP");
    node.logs(&["colour: there is no such key"]);
    node.logs(&["nothing was reloaded"]);
    assert_eq!(node.discovery(&new), 200, "the last good configuration holds");
    assert_eq!(node.end(), 0);
}

#[test]
fn a_dump_tells_where_each_value_was_set_and_no_secret() {
    let home = Home::new();
    home.prepend("threads = 3");
    let (status, dump) = home.config_command("dump");
    assert_eq!(status, 0);
    assert!(dump.contains("threads = 3 # ") && dump.contains("pinwire.toml:1:1"), "{dump}");
    assert!(dump.contains("driver = \"auto\" # default"), "{dump}");
    let secret = fs::read_to_string(home.secret()).unwrap();
    assert!(!dump.contains(secret.trim()));
    let (_, json) = run(&["config", "dump", "--json", "--config", home.config().to_str().unwrap()]);
    let entries: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&entries[0]["key"], &entries[0]["value"]),
        (&Value::from("region"), &Value::from("\"eu-central-1\""))
    );
}

#[test]
fn a_herd_that_is_refused_is_a_line_a_second_and_counted() {
    let home = Home::new();
    let settings = ["listen=127.0.0.1:0", "threads=1", "max_connections=2", "address_limits.enabled=false"];
    let node = Serving::start_with(&home.config(), &settings);
    let _there = [node.knock(&home.token()), node.knock("a.b.c")].map(|(socket, status)| {
        assert_eq!(status, "101");
        socket
    });
    for _ in 0..100 {
        assert_eq!(node.knock("a.b.c").1, "503");
    }
    // Some may fall into the next second.
    let told =
        node.logs(&["WARN", "connections refused within a second: ", " full", "last_client=127.0.0.1"]);
    let count: u32 = told.split(": ").last().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(count > 10, "{told}");
    let (_, text) = node.get("/metrics", "");
    for line in [
        "pinwire_handshakes_refused_total{reason=\"full\",thread=\"0\"} 100",
        "pinwire_tokens_refused_total{reason=\"malformed\",thread=\"0\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    }
}
