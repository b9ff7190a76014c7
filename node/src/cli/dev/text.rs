//! What `dev` says once its regions are ready.

use serde_json::json;

/// A region that is ready.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) region: String,
    pub(super) ws_url: String,
    pub(super) http_url: String,
    pub(super) admin_url: String,
}

/// What opens them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secrets<'a> {
    pub(super) secret: &'a str,
    pub(super) token: &'a str,
    pub(super) admin_token: &'a str,
}

/// For scripts.
pub(super) fn json_line(ready: &[Ready], secrets: Secrets<'_>) -> String {
    let region = |ready: &Ready| {
        json!({
            "region": ready.region,
            "ws_url": ready.ws_url,
            "http_url": ready.http_url,
            "admin_url": ready.admin_url,
        })
    };
    let line = json!({
        "pid": std::process::id(),
        "regions": ready.iter().map(region).collect::<Vec<_>>(),
        "token": secrets.token,
        "secret": secrets.secret,
        "admin_token": secrets.admin_token,
    });
    format!("{line}\n")
}

/// For people.
pub(super) fn instructions(ready: &[Ready], secrets: Secrets<'_>) -> String {
    let Some((first, others)) = ready.split_first() else { return String::new() };
    let Secrets { secret, token, admin_token } = secrets;
    let (ws, http, admin) = (&first.ws_url, &first.http_url, &first.admin_url);
    let (what, places) = match others {
        [] => ("one region".to_owned(), one(first)),
        _ => (format!("{} regions in one process,", ready.len()), several(ready)),
    };
    let redirect = others.first().map(|other| redirect(first, other, token)).unwrap_or_default();
    format!(
        "\
Pinwire is ready: {what} in memory, reachable from this machine only.

{places}
  Secret     {secret}
  Token      {token}
  Its admin token  {admin_token}

y-websocket:

  import * as Y from 'yjs'
  import {{ WebsocketProvider }} from 'y-websocket'

  const doc = new Y.Doc()
  const token = '{token}'
  const provider = new WebsocketProvider('{ws}', 'my-document', doc, {{ params: {{ token }} }})

Hocuspocus:

  import * as Y from 'yjs'
  import {{ HocuspocusProvider }} from '@hocuspocus/provider'

  const document = new Y.Doc()
  const token = '{token}'
  const provider = new HocuspocusProvider({{ url: '{ws}', name: 'my-document', document, token }})

Where is a document open?

  curl -H 'Authorization: Bearer {token}' '{http}/discovery?documentName=my-document'
{redirect}
What is going on?

  PINWIRE_ADMIN_TOKEN={admin_token} pinwire-admin --url {admin}
  curl -H 'Authorization: Bearer {admin_token}' {admin}/v1/node

Tokens of your own: pinwire-node token mint --secret {secret} --claims '{{\"sub\": \"ann\"}}'

Documents live in this process's memory: an edit is safe as long as it runs, and gone when it ends. Ctrl-C stops it.
"
    )
}

fn one(Ready { ws_url, http_url, admin_url, .. }: &Ready) -> String {
    format!(
        "  Page       {http_url}/   (open it in two windows)\n  WebSocket  {ws_url}\n  HTTP       {http_url}\n  Admin API  {admin_url}"
    )
}

fn several(ready: &[Ready]) -> String {
    let lines = ready.iter().map(|Ready { region, ws_url, http_url, admin_url }| {
        format!("  {region}    page {http_url}/   WebSocket {ws_url}   admin API {admin_url}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// How to see one. The client's part is what any stock y-websocket client needs.
fn redirect(first: &Ready, other: &Ready, token: &str) -> String {
    format!(
        "
A redirect: open a document in {here} (the page there, or the client above), then ask {there}, which names {here}:

  curl -H 'Authorization: Bearer {token}' '{http}/discovery?documentName=my-document'

A client that opens it in {there} all the same is closed with 4009 and sent to {here}. These lines follow:

  const provider = new WebsocketProvider('{ws}', 'my-document', doc, {{ params: {{ token }} }})
  provider.on('connection-close', event => {{
    const to = /^REDIRECT:(wss?:\\/\\/[^/]+)/.exec(event?.reason)
    if (to) provider.serverUrl = to[1]
  }})

All regions: curl '{http}/regions'
",
        here = first.region,
        there = other.region,
        http = other.http_url,
        ws = other.ws_url,
    )
}
