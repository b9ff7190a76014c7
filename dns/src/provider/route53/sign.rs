//! Requests to Amazon, signed (Signature Version 4).

use crate::provider::http::USER_AGENT;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request};
use std::time::SystemTime;

/// A request that these keys signed.
pub(crate) fn request(
    credentials: Credentials,
    region: &str,
    method: Method,
    url: &str,
    body: String,
) -> Result<Request<Full<Bytes>>, String> {
    let identity = credentials.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
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
