//! A program of the operator's.

use crate::rig::{addresses, read, region};
use pinwire_dns::{Change, ExecSettings, Provider, ProviderError, ProviderSettings, Secret};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Keeps addresses in a file, as documented.
const KEEPER: &str = r#"#!/bin/sh
set -eu
cd "$FOLDER"
first=$1
case "$2" in
read) cat addresses ;;
change)
    shift 2
    if [ -n "${PINWIRE_DNS_ONLY_IF+set}" ]; then
        [ "$(sort addresses | tr '\n' ' ')" = "$(printf '%s\n' $PINWIRE_DNS_ONLY_IF | sort | tr '\n' ' ')" ] || exit 10
    fi
    for change; do
        grep -vxF "${change#?}" addresses > new || true
        case "$change" in +*) echo "${change#+}" >> new ;; esac
        mv new addresses
    done
    echo "$first $PINWIRE_DNS_NAME $PINWIRE_DNS_ZONE $PINWIRE_DNS_TTL" > told ;;
esac
"#;

fn program(folder: &Path, text: &str) -> ExecSettings {
    let path = folder.join("program");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("addresses"), "203.0.113.9\n").unwrap();
    ExecSettings {
        program: path,
        arguments: vec!["first".to_owned()],
        environment: vec![("FOLDER".to_owned(), Secret::new(folder.display().to_string()))],
        timeout: Duration::from_secs(20),
    }
}

fn provider(settings: ExecSettings) -> Box<dyn Provider> {
    ProviderSettings::Exec(settings).provider(region()).unwrap().unwrap()
}

fn with(text: &str) -> (TempDir, Box<dyn Provider>) {
    let folder = tempfile::tempdir().unwrap();
    let provider = provider(program(folder.path(), text));
    (folder, provider)
}

#[tokio::test]
async fn a_program_reads_and_changes() {
    let (folder, provider) = with(KEEPER);
    assert_eq!(read(&*provider).await, Ok(addresses(&["203.0.113.9"])));
    let change = Change {
        add: addresses(&["192.0.2.1", "2001:db8::1"]),
        remove: addresses(&["203.0.113.9"]),
        only_if: Some(addresses(&["203.0.113.9"])),
    };
    assert_eq!(provider.change(change.clone()).await, Ok(()));
    assert_eq!(read(&*provider).await, Ok(addresses(&["192.0.2.1", "2001:db8::1"])));
    assert_eq!(provider.change(change).await, Err(ProviderError::Changed));
    let told = fs::read_to_string(folder.path().join("told")).unwrap();
    assert_eq!(told.trim(), "first eu-central-1.example.net example.net 30");
}

async fn said(text: &str) -> String {
    let (_folder, provider) = with(text);
    read(&*provider).await.unwrap_err().to_string()
}

#[tokio::test]
async fn what_a_program_does_wrong_is_told() {
    let failed = said("#!/bin/sh\necho one >&2; echo 'no such zone' >&2; echo >&2; exit 3\n").await;
    assert!(failed.contains("exit status: 3") && failed.contains("no such zone"), "{failed}");
    let rubbish = said("#!/bin/sh\necho hello\n").await;
    assert!(rubbish.contains("\"hello\"") && rubbish.contains("one address a line"), "{rubbish}");
    let killed = said("#!/bin/sh\nkill -9 $$\n").await;
    assert!(killed.contains("signal: 9"), "{killed}");
    let odd = said("no program\n").await;
    assert!(odd.contains("cannot be run"), "{odd}");
}

#[tokio::test]
async fn the_nodes_own_variables_are_not_passed_on() {
    // Cargo sets this for every test.
    assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
    let (_folder, provider) = with("#!/bin/sh\n[ -z \"${CARGO_PKG_NAME+set}\" ] && [ -n \"$PATH\" ]\n");
    assert_eq!(read(&*provider).await, Ok(addresses(&[])));
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let text = "#!/bin/sh\nmkfifo \"$FOLDER/fifo\"\n(exec 3> \"$FOLDER/fifo\"; exec sleep 300) &\nwait\n";
    let settings = ExecSettings { timeout: Duration::from_secs(1), ..program(folder.path(), text) };
    let provider = provider(settings);
    // The other end of the pipe sees its end when the grandchild is gone.
    let reading = async {
        crate::rig::wait_until("the pipe", async || fifo.exists(), |is_there| *is_there).await;
        let mut pipe = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        pipe.readable().await.unwrap();
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut pipe, &mut bytes).await.unwrap();
    };
    let both = async { tokio::join!(provider.read(), reading).0 };
    let outcome = tokio::time::timeout(Duration::from_secs(30), both).await.expect("an end");
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("longer than 1s and was killed"), "{error}");
}

#[tokio::test]
async fn more_output_than_is_read_holds_nothing_up() {
    let text = "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x >&2\necho 192.0.2.1\n";
    let (_folder, provider) = with(text);
    assert_eq!(read(&*provider).await, Ok(addresses(&["192.0.2.1"])));
}

#[test]
fn a_program_without_its_whole_path_is_not_run() {
    let settings = ExecSettings {
        program: "program".into(),
        arguments: Vec::new(),
        environment: Vec::new(),
        timeout: Duration::from_secs(1),
    };
    assert_eq!(ProviderSettings::Exec(settings).provider(region()).unwrap_err().setting, "program");
}
