//! One connection: TCP, TLS, who we are.

use crate::endpoint::{Endpoint, EndpointError, Host, Login};
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

/// Requests that wait to be written. Calls under way are bounded by the link; this only saves memory per connection.
const WRITE_QUEUE: usize = 256;

/// A connection. It ends at once when this is dropped, whatever is still to be sent.
pub(crate) struct Connection {
    pub(crate) pipe: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// How connections to the servers of an endpoint are made.
pub(crate) struct Dialer {
    tls: Option<TlsConnector>,
    info: RedisConnectionInfo,
    timeout: Duration,
}

impl Dialer {
    pub(crate) fn new(endpoint: &Endpoint, timeout: Duration) -> Result<Self, EndpointError> {
        let tls = endpoint.is_tls.then(|| tls_connector(endpoint.ca.as_deref())).transpose()?;
        Ok(Self { tls, info: login_info(&endpoint.login, endpoint.db)?, timeout })
    }

    /// The same for the sentinels of the endpoint.
    pub(crate) fn for_sentinels(&self, endpoint: &Endpoint) -> Result<Self, EndpointError> {
        Ok(Self {
            tls: self.tls.clone(),
            info: login_info(&endpoint.sentinel_login, 0)?,
            timeout: self.timeout,
        })
    }

    /// Connects; what the server pushes goes to `pushes`.
    pub(crate) async fn dial<P: AsyncPushSender>(
        &self,
        host: &Host,
        pushes: P,
    ) -> Result<Connection, String> {
        match tokio::time::timeout(self.timeout, self.dial_unbounded(host, pushes)).await {
            Ok(outcome) => outcome.map_err(|error| format!("{host}: {error}")),
            Err(_) => Err(format!("{host}: no connection within {:?}", self.timeout)),
        }
    }

    async fn dial_unbounded<P: AsyncPushSender>(&self, host: &Host, pushes: P) -> Result<Connection, String> {
        let stream =
            TcpStream::connect((host.name.as_str(), host.port)).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        // Whoever lets go of a connection has the answers it wants. What is not answered must not be sent any more: the kernel would
        // go on trying for minutes, and a server that comes back would carry out what its caller has long given up.
        stream.set_zero_linger().map_err(|error| error.to_string())?;
        match &self.tls {
            None => self.greet(stream, pushes).await,
            Some(tls) => {
                let name = ServerName::try_from(host.name.clone()).map_err(|error| error.to_string())?;
                let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                self.greet(stream, pushes).await
            }
        }
    }

    async fn greet<S, P>(&self, stream: S, pushes: P) -> Result<Connection, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: AsyncPushSender,
    {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WRITE_QUEUE)
            .set_push_sender(pushes);
        let (pipe, driver) = MultiplexedConnection::new_with_config(&self.info, stream, config)
            .await
            .map_err(|error| error.to_string())?;
        let driver = tokio::spawn(driver).abort_handle();
        Ok(Connection { pipe, driver })
    }
}

fn login_info(login: &Login, db: u32) -> Result<RedisConnectionInfo, EndpointError> {
    // The crate makes the defaults from a URL only.
    let info =
        "redis://localhost".into_connection_info().map_err(|error| EndpointError(error.to_string()))?;
    let mut info = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_db(i64::from(db));
    info = info.set_skip_set_lib_name();
    if let Some(password) = &login.password {
        info = info.set_password(password);
        if let Some(user) = &login.user {
            info = info.set_username(user);
        }
    }
    Ok(info)
}

fn tls_connector(ca: Option<&Path>) -> Result<TlsConnector, EndpointError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => add_file(&mut roots, file)?,
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err(EndpointError(
            "the system has no trusted certificates; name a file with ?ca=FILE".to_owned(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| EndpointError(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add_file(roots: &mut RootCertStore, file: &Path) -> Result<(), EndpointError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        EndpointError(format!(
            "ca: {} holds no certificates that can be read ({error}); name a PEM file",
            file.display()
        ))
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"it has none"));
    }
    Ok(())
}
