//! What operators are given for Prometheus, Grafana and systemd fits what a node says and needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::rig::{Home, Serving, run};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn promtool(args: &[&str]) -> String {
    let mut command = Command::new("promtool");
    let output = command.args(args).current_dir(root().join("ops/prometheus")).output();
    let output = output.expect("promtool, of the Debian package prometheus");
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{told}");
    told
}

/// Names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("pinwire_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn alert_rules_are_sound_and_raise_what_they_are_for() {
    assert!(promtool(&["check", "rules", "alerts.yml"]).contains("SUCCESS"));
    assert!(promtool(&["test", "rules", "alerts.test.yml"]).contains("SUCCESS"));
}

#[test]
fn every_alert_is_explained_and_tested() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (rules, tests, page) =
        (read("ops/prometheus/alerts.yml"), read("ops/prometheus/alerts.test.yml"), read("docs/alerts.md"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(page.contains(&format!("\n## {alert}\n")), "{alert}");
        assert!(rules.contains(&format!("docs/alerts.md#{}", alert.to_lowercase())), "{alert}");
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert}");
    }
}

#[test]
fn rules_and_dashboard_name_metrics_that_a_node_has() {
    let home = Home::new();
    let store = format!("store.path={}", home.config().with_file_name("documents").display());
    let settings = ["listen=127.0.0.1:0", "threads=1", store.as_str()];
    let (_, text) = Serving::start_with(&home.config(), &settings).get("/metrics", "");
    let mut known = metrics(&text);
    // What is only there in a cluster, with other regions, traces or TLS, of which this one has none.
    for name in
        ["session_appends_total", "session_updates_total", "session_failures_total", "session_reloads_total"]
    {
        known.insert(format!("pinwire_{name}"));
    }
    let numbers = ["sessions", "session_seconds", "session_seconds_bucket", "sessions_full"];
    for name in numbers.into_iter().chain(["sessions_given_up_total", "session_unreadable_total"]) {
        known.insert(format!("pinwire_{name}"));
    }
    for name in ["region_up", "region_round_trip"] {
        known.insert(format!("pinwire_{name}"));
    }
    for name in ["clock_skew_seconds", "pool_members", "pool_reachable", "store_disk_free_bytes"] {
        known.insert(format!("pinwire_{name}"));
    }
    known.insert("pinwire_trace_spans_total".to_owned());
    known.insert("pinwire_tls_certificate_not_after_timestamp_seconds".to_owned());
    for name in ["links", "relayed_sessions", "link_bytes_total", "link_dials_total", "link_ends_total"] {
        known.insert(format!("pinwire_{name}"));
    }
    for name in ["link_strangers_total", "relay_refusals_total", "session_put_back_updates_total"] {
        known.insert(format!("pinwire_{name}"));
    }
    // Of a node that keeps its region's name, or answers for it.
    for name in ["wanted", "in", "kept", "failed_attempts", "queries_total", "answers_total"] {
        known.insert(format!("pinwire_dns_{name}"));
    }
    let dashboards = ["ops/grafana/pinwire.json", "ops/grafana/pinwire-regions.json"];
    for path in ["ops/prometheus/alerts.yml", "docs/metrics.md"].iter().chain(&dashboards) {
        let named = metrics(&fs::read_to_string(root().join(path)).unwrap());
        // The page says `process_*`.
        let unknown: Vec<&String> = named.difference(&known).filter(|name| *name != "process_").collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
    for path in dashboards {
        let dashboard = fs::read_to_string(root().join(path)).unwrap();
        serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
    }
    let page = metrics(&fs::read_to_string(root().join("docs/metrics.md")).unwrap());
    let own = |name: &&String| name.starts_with("pinwire_") && text.contains(&format!("# TYPE {name} "));
    let missing: Vec<&String> = known.iter().filter(own).filter(|name| !page.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks {missing:?}");
}

#[test]
fn queries_of_dashboards_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["ops/grafana/pinwire.json", "ops/grafana/pinwire-regions.json"] {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
        for panel in dashboard["panels"].as_array().unwrap() {
            for (at, target) in panel["targets"].as_array().unwrap().iter().enumerate() {
                // Grafana fills these in.
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
                rules += &format!("      - record: panel_{}_{at}\n        expr: '{query}'\n", panel["id"]);
            }
        }
        let file = folder.path().join("rules.yml");
        fs::write(&file, rules).unwrap();
        assert!(promtool(&["check", "rules", file.to_str().unwrap()]).contains("SUCCESS"), "{path}");
    }
}

#[test]
fn the_systemd_unit_is_sound_and_confined() {
    let unit = fs::read_to_string(root().join("ops/systemd/pinwire.service")).unwrap();
    let home = Home::new();
    // What the package installs is not here: the program of this test takes its place.
    let here = unit
        .replace("/usr/bin/pinwire-node", env!("CARGO_BIN_EXE_pinwire-node"))
        .replace("Documentation=man:pinwire-node(1)\n", "");
    let file = home.config().with_file_name("pinwire.service");
    fs::write(&file, here).unwrap();
    let analyze = |args: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        let output = command.args(args).arg(&file).output();
        let output = output.expect("systemd-analyze, of the Debian package systemd");
        let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(output.status.success(), "{told}");
        told
    };
    assert_eq!(analyze(&["verify", "--man=no"]), "");
    // 0 is confined, 100 is not at all.
    analyze(&["security", "--offline=yes", "--threshold=25"]);
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(unit.contains(call), "{call}");
    }
}

#[test]
fn manual_pages_and_completions_come_from_the_command_line() {
    let home = Home::new();
    let pages = home.config().with_file_name("man");
    assert_eq!(run(&["manual", pages.to_str().unwrap()]).0, 0);
    for page in
        ["pinwire-node.1", "pinwire-node-serve.1", "pinwire-node-config-check.1", "pinwire-node-doctor.1"]
    {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (status, text) = run(&["completions", shell]);
        assert!(status == 0 && text.contains("doctor"), "{shell}");
    }
}
