//! Requests to Amazon, signed (Signature Version 4).

use crate::Secret;
use crate::provider::http::USER_AGENT;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request};
use std::fmt;
use std::time::SystemTime;

pub(crate) struct Signing {
    credentials: Credentials,
    region: String,
}

impl Signing {
    pub(crate) fn new(id: &str, secret: &Secret, token: Option<&Secret>, region: &str) -> Self {
        let token = token.map(|token| token.expose().to_owned());
        let credentials = Credentials::new(id, secret.expose(), token, None, "settings");
        Self { credentials, region: region.to_owned() }
    }

    pub(crate) fn request(
        &self,
        method: Method,
        url: &str,
        body: String,
    ) -> Result<Request<Full<Bytes>>, String> {
        let identity = self.credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("route53")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let content_type = (!body.is_empty()).then_some(("content-type", "text/xml"));
        let signable = SignableRequest::new(
            method.as_str(),
            url,
            content_type.into_iter(),
            SignableBody::Bytes(body.as_bytes()),
        )
        .map_err(|error| error.to_string())?;
        let (instructions, _) = sign(signable, &params).map_err(|error| error.to_string())?.into_parts();
        let mut request = Request::builder().method(method).uri(url).header("user-agent", USER_AGENT);
        if let Some((name, value)) = content_type {
            request = request.header(name, value);
        }
        let mut request = request.body(Full::new(body.into())).map_err(|error| error.to_string())?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} for {}", self.credentials.access_key_id(), self.region)
    }
}
