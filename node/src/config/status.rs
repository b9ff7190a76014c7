//! The table `status`: what is published of how the regions are.

use std::time::Duration;

use axum::http::Uri;

use super::draft::StatusKeys;
use super::sources::Written;

/// Characters of a title.
const TITLE_MAX: usize = 120;

/// What is published of how the regions are, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it is published at all.
    pub is_enabled: bool,
    /// What the service is called.
    pub title: String,
    /// Where whoever has a question turns to, or empty.
    pub contact: String,
    /// Where it is published, without a slash at the end; `None`: at the region's own URL.
    pub url: Option<String>,
    /// For how long a region has to be well until its incident is over.
    pub settle: Duration,
}

impl Default for Status {
    fn default() -> Self {
        let StatusKeys { enabled, title, contact, settle, .. } = StatusKeys::default();
        Self { is_enabled: enabled, title, contact, url: None, settle }
    }
}

pub(super) fn resolve(written: &mut Written) -> Status {
    let StatusKeys { enabled, title, contact, url, settle } = written.draft.status.clone();
    if title.trim().is_empty() || title.chars().count() > TITLE_MAX || title.chars().any(char::is_control) {
        written.wrong("status.title", format!("has to be one line of 1 to {TITLE_MAX} characters"));
    }
    let is_mail = contact.strip_prefix("mailto:").is_some_and(|address| address.contains('@'));
    if !contact.is_empty() && !is_mail && !is_web(&contact) {
        let what = format!(
            "`{contact}` is neither a URL nor mailto:; write https://example.net/help or mailto:ops@example.net"
        );
        written.wrong("status.contact", what);
    }
    let base = url.trim_end_matches('/').to_owned();
    if !base.is_empty() && !is_web(&base) {
        let what = format!("`{url}` is no URL of a web page; write https://status.example.net");
        written.wrong("status.url", what);
    }
    let url = Some(base).filter(|url| !url.is_empty());
    Status { is_enabled: enabled, title, contact, url, settle }
}

/// `https` or `http`, and a host.
fn is_web(url: &str) -> bool {
    let parsed: Result<Uri, _> = url.parse();
    parsed.is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}
