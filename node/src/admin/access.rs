//! Who may ask: whoever may open the Unix socket; on TCP whoever has the bearer token, a client certificate, or both, as
//! the configuration wants it. All of it can be swapped while the node runs.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pinwire_admin_api::actions::Who;
use pinwire_tls::{ProducesTickets, ServerConfig, server_config, ticketer};

use super::listener::Caller;
use super::problem::Problem;
use super::routes::Shared;
use crate::config;

/// A bearer token as the node keeps it: not the token itself.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken([u8; SHA256_OUTPUT_LEN]);

impl AdminToken {
    /// Of a token's bytes.
    #[must_use]
    pub fn new(token: &[u8]) -> Self {
        Self(sha256(token))
    }

    /// Whether this is the token, in a time that says nothing about how much of it is right.
    fn is(&self, token: &str) -> bool {
        verify_slices_are_equal(&self.0, &sha256(token.as_bytes())).is_ok()
    }

    /// What stands for the token where it is told who did something.
    fn fingerprint(&self) -> String {
        hex(&self.0[..FINGERPRINT_BYTES])
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminToken({})", self.fingerprint())
    }
}

/// Enough to tell tokens apart, and of no use to find one.
const FINGERPRINT_BYTES: usize = 8;

fn sha256(bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut sum = [0; SHA256_OUTPUT_LEN];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

/// SHA-256 in hexadecimal.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}

/// In lower case.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The beginning of a certificate's SHA-256.
pub(super) fn certificate_fingerprint(der: &[u8]) -> String {
    hex(&sha256(der)[..FINGERPRINT_BYTES])
}

/// What callers on TCP have to show.
#[derive(Clone, Debug, Default)]
struct Demands {
    token: Option<AdminToken>,
    certificate: bool,
}

/// See the module's documentation.
pub(crate) struct Access {
    demands: ArcSwap<Demands>,
    /// What TLS connections are made by, where TLS is spoken.
    tls: ArcSwapOption<ServerConfig>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("demands", &self.demands).finish_non_exhaustive()
    }
}

impl Access {
    /// As the configuration has it.
    ///
    /// # Errors
    /// The system gives no random numbers, or TLS cannot be spoken with what there is.
    pub(crate) fn new(config: &config::Admin) -> Result<Self, pinwire_tls::Error> {
        let access = Self { demands: ArcSwap::default(), tls: ArcSwapOption::empty(), ticketer: ticketer()? };
        access.update(config)?;
        Ok(access)
    }

    /// Takes another configuration over, whole or not at all.
    ///
    /// # Errors
    /// TLS cannot be spoken with what there is.
    pub(crate) fn update(&self, config: &config::Admin) -> Result<(), pinwire_tls::Error> {
        let clients = config.tls.as_ref().and_then(|tls| tls.clients.as_ref());
        let tls = match &config.tls {
            Some(tls) => Some(server_config(&tls.certificates, &self.ticketer, clients)?),
            None => None,
        };
        let demands = Demands { token: config.token.clone(), certificate: clients.is_some() };
        self.tls.store(tls);
        self.demands.store(Arc::new(demands));
        Ok(())
    }

    /// How to speak TLS; `None`: not at all.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.load_full()
    }

    /// Who asks, if they may.
    fn admit(&self, caller: &Caller, headers: &HeaderMap) -> Option<Who> {
        let nobody = Who { address: None, token: None, uid: None, certificate: None };
        let address = match caller {
            Caller::Local { uid } => return Some(Who { uid: Some(*uid), ..nobody }),
            Caller::Remote { address, .. } => address,
        };
        let Caller::Remote { certificate, .. } = caller else { return None };
        let demands = self.demands.load();
        if demands.certificate && certificate.is_none() || demands.token.is_none() && !demands.certificate {
            return None;
        }
        let token = match &demands.token {
            Some(token) => {
                Some(bearer(headers).filter(|shown| token.is(shown)).map(|_| token.fingerprint())?)
            }
            None => None,
        };
        Some(Who { address: Some(address.to_string()), token, certificate: certificate.clone(), ..nobody })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim())
}

/// Lets pass who may ask; everybody else learns nothing but that.
pub(super) async fn authenticate(State(services): Shared, mut request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let who = caller.as_ref().and_then(|caller| services.access.admit(caller, request.headers()));
    let Some(who) = who else {
        if let Some(Caller::Remote { address, .. }) = caller {
            services.events.unauthenticated(&address.to_string());
        }
        return Problem::unauthenticated(bearer(request.headers()).is_some()).into_response();
    };
    request.extensions_mut().insert(who);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn access(token: Option<&str>, certificate: bool) -> Access {
        let access = Access {
            demands: ArcSwap::default(),
            tls: ArcSwapOption::empty(),
            ticketer: ticketer().unwrap(),
        };
        let token = token.map(|token| AdminToken::new(token.as_bytes()));
        access.demands.store(Arc::new(Demands { token, certificate }));
        access
    }

    fn remote(certificate: Option<&str>) -> Caller {
        Caller::Remote {
            address: "192.0.2.1:5".parse().unwrap(),
            certificate: certificate.map(str::to_owned),
        }
    }

    fn headers(authorization: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(authorization))])
    }

    #[test]
    fn a_caller_shows_all_that_is_demanded() {
        let is_in = |token, demanded, certificate, authorization| {
            access(token, demanded).admit(&remote(certificate), &headers(authorization)).is_some()
        };
        assert!(is_in(Some("t"), false, None, "Bearer t"));
        assert!(is_in(Some("t"), false, None, "bearer  t "));
        for wrong in ["Bearer u", "Bearer", "Bearer ", "Basic t", "t", "Bearer t t"] {
            assert!(!is_in(Some("t"), false, None, wrong), "{wrong}");
        }
        assert!(is_in(Some("t"), true, Some("c"), "Bearer t"));
        assert!(!is_in(Some("t"), true, None, "Bearer t"));
        assert!(!is_in(Some("t"), true, Some("c"), "Bearer u"));
        assert!(is_in(None, true, Some("c"), ""));
        assert!(!is_in(None, true, None, ""));
        assert!(!is_in(None, false, None, "Bearer "), "with nothing to show nobody gets in");
    }

    #[test]
    fn it_is_told_who_asked_and_never_by_which_token() {
        let access = access(Some("secret"), false);
        let who = access.admit(&remote(None), &headers("Bearer secret")).unwrap();
        assert_eq!(who.address.as_deref(), Some("192.0.2.1:5"));
        assert_eq!(who.token.as_deref(), Some("2bb80d537b1da3e3"), "of SHA-256");
        let who = access.admit(&Caller::Local { uid: 7 }, &HeaderMap::new()).unwrap();
        assert_eq!((who.uid, who.token), (Some(7), None));
        assert!(!format!("{access:?}").contains("secret"));
    }
}
