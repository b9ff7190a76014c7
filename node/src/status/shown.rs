//! What is answered: rendered once for each change, and handed out as it is.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::body::Bytes;
use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinwire_status::{At, Report, atom, page};

use crate::admin::hex_digest;

/// What the HTTP thread needs to answer.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) shown: Arc<Shown>,
    /// What the page may do (Content-Security-Policy).
    pub(crate) policy: HeaderValue,
}

/// Rendered answers; nothing until the first look.
#[derive(Debug, Default)]
pub(crate) struct Shown(ArcSwapOption<Forms>);

/// One report in all its forms.
#[derive(Debug)]
struct Forms {
    page: Form,
    json: Form,
    atom: Form,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) body: Bytes,
    pub(crate) kind: HeaderValue,
    /// Differs where the body does.
    pub(crate) tag: HeaderValue,
}

impl Form {
    fn new(body: impl Into<Bytes>, kind: &'static str) -> Self {
        let body = body.into();
        let tag = format!("\"{}\"", &hex_digest(&body)[..32]);
        let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
        Self { body, kind: HeaderValue::from_static(kind), tag }
    }
}

impl Published {
    pub(super) fn new(shown: Arc<Shown>) -> Self {
        Self { shown, policy: policy() }
    }
}

impl Shown {
    pub(crate) fn publish(&self, report: &Report, now: At) {
        let forms = Forms {
            page: Form::new(page::render(report, now), page::MEDIA_TYPE),
            json: Form::new(report.json(), "application/json"),
            atom: Form::new(atom::render(report), atom::MEDIA_TYPE),
        };
        self.0.store(Some(Arc::new(forms)));
    }

    pub(crate) fn page(&self) -> Option<Form> {
        self.0.load().as_ref().map(|forms| forms.page.clone())
    }

    pub(crate) fn json(&self) -> Option<Form> {
        self.0.load().as_ref().map(|forms| forms.json.clone())
    }

    pub(crate) fn atom(&self) -> Option<Form> {
        self.0.load().as_ref().map(|forms| forms.atom.clone())
    }
}

/// What the page may do: look as it does, and nothing else.
fn policy() -> HeaderValue {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, page::STYLE.as_bytes());
    let hash = STANDARD.encode(hash);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}
