//! Links between nodes of two regions in TLS, with certificates in files.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use pinwire_protocol::document::ywebsocket;
use pinwire_redis::rig::{Options, ServerRig};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::member::{Member, Told};
use crate::rig::{PATIENCE, Serving, run};

const TOKEN_SECRET: &str = "0123456789abcdef0123456789abcdef";
const PEER_SECRET: &str = "a secret that all nodes of a system know";

/// A node's certificate, of no authority but itself.
struct Identity {
    name: &'static str,
    certificate: CertificateDer<'static>,
}

/// How the node of a region takes part in links.
struct Part<'a> {
    region: &'a str,
    secret: &'a str,
    /// Plain TCP without.
    identity: Option<&'a Identity>,
}

/// A registry, and a folder for what nodes are configured with.
struct System {
    /// The first is the registry's, too.
    redis: [ServerRig; 2],
    folder: TempDir,
    token: String,
}

impl System {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), TOKEN_SECRET).unwrap();
        let (status, token) = run(&["token", "mint", "--secret", TOKEN_SECRET]);
        assert_eq!(status, 0, "{token}");
        Self {
            redis: std::array::from_fn(|_| ServerRig::start(&Options::default())),
            folder,
            token: token.trim().to_owned(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a certificate for `host`; those that nodes trust are in `ca.pem`.
    fn certify(&self, name: &'static str, host: &str, is_trusted: bool) -> Identity {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        fs::write(self.path().join(format!("{name}.crt")), made.cert.pem()).unwrap();
        fs::write(self.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        if is_trusted {
            let file = self.path().join("ca.pem");
            let before = fs::read_to_string(&file).unwrap_or_default();
            fs::write(&file, before + &made.cert.pem()).unwrap();
        }
        Identity { name, certificate: made.cert.der().clone() }
    }

    /// Starts a node; gives the address that others reach it at, too.
    fn node(&self, part: &Part<'_>) -> (Serving, SocketAddr) {
        let Part { region, secret, identity } = part;
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        fs::write(self.path().join(format!("{region}.peer")), secret).unwrap();
        let tls = identity.map_or_else(String::new, |Identity { name, .. }| {
            format!(
                "peer_certificates = [\"{name}.crt\"]\npeer_keys = [\"{name}.key\"]\npeer_ca_file = \"ca.pem\"\n"
            )
        });
        let [registry, other] = &self.redis;
        let session = if *region == "here-1" { registry } else { other };
        let (registry, session) = (registry.url(), session.url());
        let config = format!(
            "region = \"{region}\"\n[tokens]\nsecret_file = \"secret\"\n[cluster]\nregistry = \"redis\"\nnode = \"a\"\n\
             session = \"{session}\"\nwrong_region = \"relay\"\npeer_listen = \"{address}\"\n\
             peer_secret_file = \"{region}.peer\"\n{tls}[cluster.registries]\n\"aws-eu-west-1\" = \"{registry}\"\n"
        );
        let file = self.path().join(format!("{region}.toml"));
        fs::write(&file, config).unwrap();
        (Serving::start(&file), address)
    }

    /// A client that has the document open.
    fn join(&self, node: &Serving) -> Member {
        let mut member = Member::join(node, &self.token);
        member.until(|payload| payload.starts_with(&[0, 0])).unwrap();
        member
    }

    /// What a client is told whose document is in the other region, to which there is no way.
    fn is_told_to_come_again(&self, node: &Serving) {
        let told = Member::join(node, &self.token).told();
        assert!(matches!(&told, Told::Close(1013, reason) if reason.starts_with("retry_ms=")), "{told:?}");
    }
}

/// Inserts `text` into the type `t`: an update of `client`.
fn insertion(client: u8, text: &str) -> Vec<u8> {
    let mut update = vec![1, 1, client, 0, 4, 1, 1, b't', text.len() as u8];
    update.extend_from_slice(text.as_bytes());
    update.push(0);
    update
}

fn writes_to(writer: &mut Member, reader: &mut Member, client: u8, text: &str) {
    writer.say(|out| ywebsocket::append_update(out, &insertion(client, text)));
    let holds = |payload: &[u8]| payload.windows(text.len()).any(|window| window == text.as_bytes());
    reader.until(holds).unwrap();
}

/// The certificate that is shown at an address to whoever trusts it.
fn shown_at(address: SocketAddr, trusted: &Identity) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(address.ip().to_string()).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(client), name).unwrap(), tcp);
    tls.conn.complete_io(&mut tls.sock).unwrap();
    tls.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn clients_of_two_regions_share_a_document_over_a_link_in_tls() {
    let system = System::start();
    let [here, there] = ["here", "there"].map(|name| system.certify(name, "127.0.0.1", true));
    let part = |region, identity| Part { region, secret: PEER_SECRET, identity: Some(identity) };
    let (one, _) = system.node(&part("here-1", &here));
    let (other, _) = system.node(&part("there-1", &there));
    let mut ann = system.join(&one);
    let mut ben = system.join(&other);
    other.logs(&["linked to a node", "here-1/a"]);
    writes_to(&mut ann, &mut ben, 1, "from-ann");
    writes_to(&mut ben, &mut ann, 2, "from-ben");
}

#[test]
fn what_is_listened_on_for_links_speaks_tls_alone() {
    let system = System::start();
    let here = system.certify("here", "127.0.0.1", true);
    let (_one, address) = system.node(&Part { region: "here-1", secret: PEER_SECRET, identity: Some(&here) });
    assert_eq!(shown_at(address, &here), here.certificate);
    // A node that has no certificates dials in plain text, and is told nothing.
    let (other, _) = system.node(&Part { region: "there-1", secret: PEER_SECRET, identity: None });
    let _ann = system.join(&_one);
    system.is_told_to_come_again(&other);
    other.logs(&["a node of another region is not reached", "does not speak this protocol"]);
}

#[test]
fn a_node_whose_certificate_is_wrong_is_sent_nobody() {
    for (host, is_trusted, why) in
        [("127.0.0.1", false, "invalid peer certificate"), ("127.0.0.2", true, "not valid for name")]
    {
        let system = System::start();
        let here = system.certify("here", "127.0.0.1", true);
        let wrong = system.certify("wrong", host, is_trusted);
        let part = |region, identity| Part { region, secret: PEER_SECRET, identity: Some(identity) };
        let (owner, _) = system.node(&part("here-1", &wrong));
        let (home, _) = system.node(&part("there-1", &here));
        let _ann = system.join(&owner);
        system.is_told_to_come_again(&home);
        let line = home.logs(&["a node of another region is not reached", "here-1/a"]);
        assert!(line.contains(why), "{host}: {line}");
    }
}

#[test]
fn a_node_with_another_secret_is_not_let_in_over_tls_either() {
    let system = System::start();
    let [here, there] = ["here", "there"].map(|name| system.certify(name, "127.0.0.1", true));
    let (owner, _) = system.node(&Part { region: "here-1", secret: PEER_SECRET, identity: Some(&here) });
    let other = "another secret, which is as long as the right one";
    let (home, _) = system.node(&Part { region: "there-1", secret: other, identity: Some(&there) });
    let _ann = system.join(&owner);
    system.is_told_to_come_again(&home);
    owner.logs(&["a node was not let in", "there-1/a", "does not prove that it has the secret"]);
    home.logs(&["a node of another region is not reached", "here-1/a"]);
}
