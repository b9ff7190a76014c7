//! The life of a node by `docs/install.md`: installed, configured, started, used, upgraded, removed and purged, on a machine of
//! its own, after which nothing of it is left.

use super::machine::Machine;
use crate::blocks;
use crate::setup::install_client_packages;
use crate::shell::{command, root, run, target_dir, works};
use crate::tally::Tally;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/install.md";
/// Where the page is followed, on the machine.
const FOLDER: &str = "/srv/newcomer";
/// The name that the page gives the node.
const HOST: &str = "eu-central-1.example.net";
/// What `npm install` of the README brings, from what the clients' tests have.
const MODULES: &[&str] = &["isomorphic.js", "lib0", "ws", "y-protocols", "y-websocket-3", "yjs"];

/// Files and folders of the system, but for those that package managers and logs keep and the page makes itself; users, groups.
const FILES: &str = "find /etc /opt /usr /var -xdev \\( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd \\
    -o -path /var/cache -o -path /var/log -o -path /var/tmp -o -path /etc/letsencrypt \\) -prune -o -print; \\
    getent passwd; getent group";

pub(super) fn live(packages: &[PathBuf]) -> Result<Tally> {
    ensure!(
        !works("getent", &["passwd", "pinwire"]),
        "this host has a user pinwire: its package is tried elsewhere"
    );
    let mut tally = Tally::default();
    let machine = Machine::start().context("a machine of its own")?;
    furnish(&machine, packages)?;
    let before = files(&machine)?;
    tally += follow(&machine)?;
    if tally.failed > 0 {
        // What a page that was not followed to its end left is no news.
        return Ok(tally);
    }
    let left: Vec<String> = files(&machine)?.difference(&before).cloned().collect();
    let wrong = (!left.is_empty()).then(|| format!("after the last step there is left: {}", left.join(", ")));
    tally.record(blocks::report(Path::new(PAGE), 0, wrong.as_deref()));
    drop(machine);
    let is_untouched = !works("getent", &["passwd", "pinwire"]) && !Path::new("/etc/pinwire").exists();
    let wrong = (!is_untouched).then(|| "this host has been changed".to_owned());
    tally.record(blocks::report(Path::new(PAGE), 0, wrong.as_deref()));
    Ok(tally)
}

/// What a newcomer has: the packages, a name that leads to the machine, a certificate for it, and the clients of the README.
fn furnish(machine: &Machine, packages: &[PathBuf]) -> Result<()> {
    for package in packages {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        machine.put(package, &format!("{FOLDER}/{name}"))?;
    }
    // Images for containers forbid packages to start services, and an index of all manual pages takes seconds each time.
    let allow = "rm -f /usr/sbin/policy-rc.d /var/lib/man-db/auto-update";
    machine.sh(&format!("echo '127.0.0.1 {HOST}' >>/etc/hosts; {allow}"))?;
    let tls = certificate()?;
    for file in ["fullchain.pem", "privkey.pem"] {
        machine.put(&tls.join(file), &format!("/etc/letsencrypt/live/{HOST}/{file}"))?;
    }
    install_client_packages()?;
    let modules = target_dir().join("package/two-clients.tar");
    let mut tar = command("tar");
    tar.args(["--transform", "s,^y-websocket-3,y-websocket,", "-cf"])
        .arg(&modules)
        .arg("-C")
        .arg(root().join("tests/clients/node_modules"))
        .args(MODULES);
    run(&mut tar)?;
    machine.put(&modules, &format!("{FOLDER}/two-clients/modules.tar"))?;
    let script = target_dir().join("package/two-clients.mjs");
    fs::write(&script, two_clients()?)?;
    machine.put(&script, &format!("{FOLDER}/two-clients/two-clients.mjs"))?;
    let unpack = "mkdir node_modules; tar -xf modules.tar -C node_modules; rm modules.tar";
    machine.sh(&format!("cd {FOLDER}/two-clients; {unpack}"))?;
    Ok(())
}

/// The program that the README writes.
fn two_clients() -> Result<String> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let program =
        readme.split_once("cat > two-clients.mjs <<'EOF'\n").and_then(|(_, rest)| rest.split_once("\nEOF\n"));
    Ok(format!("{}\n", program.context("README.md writes two-clients.mjs")?.0))
}

fn certificate() -> Result<PathBuf> {
    let folder = target_dir().join("package/tls");
    fs::create_dir_all(&folder)?;
    let mut openssl = command("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "90",
    ]);
    // No authority: clients in Rust refuse one as a server.
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.args(["-subj", "/CN=A machine", "-addext", &format!("subjectAltName=DNS:{HOST}")]);
    openssl.arg("-keyout").arg(folder.join("privkey.pem")).arg("-out").arg(folder.join("fullchain.pem"));
    let log = File::create(folder.join("openssl.log"))?;
    run(openssl.stderr(log))?;
    Ok(folder)
}

fn follow(machine: &Machine) -> Result<Tally> {
    let page = blocks::read(Path::new(PAGE)).context(PAGE)?;
    let script = blocks::run::script(&page).context(PAGE)?;
    // Root needs no sudo, and may not have it. Whoever signed the certificate is believed.
    let begin = format!(
        "cd {FOLDER}; sudo() {{ env \"$@\"; }}\nexport DEBIAN_FRONTEND=noninteractive\n\
         export CURL_CA_BUNDLE=/etc/letsencrypt/live/{HOST}/fullchain.pem NODE_EXTRA_CA_CERTS=/etc/letsencrypt/live/{HOST}/fullchain.pem\n"
    );
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = machine.command("env")?;
    bash.arg(format!("PATH={path}:/usr/sbin:/sbin")).args(["bash", "-c", &format!("{begin}{script}")]);
    let outcomes = blocks::run::run(&mut bash)?;
    let mut tally = Tally::default();
    for (at, step) in page.steps.iter().enumerate().filter(|(_, step)| step.not_run.is_none()) {
        tally.record(blocks::report(
            Path::new(PAGE),
            step.line,
            blocks::run::judge(step, outcomes.get(&at)).as_deref(),
        ));
    }
    Ok(tally)
}

fn files(machine: &Machine) -> Result<BTreeSet<String>> {
    Ok(machine.sh(FILES)?.lines().map(str::to_owned).collect())
}
