//! `token inspect` and `token verify`: what a token says, and why a node refuses it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use pinwire_protocol::close::CloseCode;
use pinwire_protocol::document::name::{NameRules, is_valid_name};
use pinwire_token::{
    Access, Claims, Forbidden, Jwks, Key, KeySet, Limits, MAX_TOKEN_BYTES, Malformed, Policy, Rejection,
    Request, Verified, authorize, claims_error, header_error, read_unverified, verify_by,
};
use serde_json::{Value, json};

use super::serve::{SourceArgs, Unusable};
use super::token::unix_now;
use crate::config::KNOWN_DB_CODES;
use crate::jwks::{JwksSources, Tried, describe, fetch_once, merge};

/// Flags of `token inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The token; `-` reads it from stdin.
    #[arg(allow_hyphen_values = true)]
    token: String,
}

/// Flags of `token verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The token; `-` reads it from stdin.
    #[arg(allow_hyphen_values = true)]
    token: String,
    #[command(flatten)]
    sources: SourceArgs,
    /// Check with this secret (HS256) instead of a configuration's keys.
    #[arg(long, value_name = "S", conflicts_with = "config", allow_hyphen_values = true)]
    secret: Option<String>,
    /// Check with the keys of this JWKS file.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    jwks: Option<PathBuf>,
    /// Whether it is good for this document.
    #[arg(long, value_name = "NAME")]
    document: Option<String>,
    /// Whether it is good for a page of this origin, as in https://example.com.
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
}

/// A token's parts, whoever signed it.
struct Parts {
    header: Value,
    claims: Value,
}

fn read(token: &str) -> anyhow::Result<String> {
    if token != "-" {
        return Ok(token.trim().to_owned());
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("stdin")?;
    Ok(text.trim().to_owned())
}

fn parts(token: &str) -> anyhow::Result<Parts> {
    let [header, claims, _] = token.split('.').collect::<Vec<_>>()[..] else {
        bail!("a token has three parts with dots between them, this has {}", token.split('.').count());
    };
    let decode = |part: &str, name: &str| -> anyhow::Result<Value> {
        let json = URL_SAFE_NO_PAD.decode(part).with_context(|| format!("the {name} is no base64url"))?;
        serde_json::from_slice(&json).with_context(|| format!("the {name} is no JSON"))
    };
    Ok(Parts {
        header: decode(header, "first part (header)")?,
        claims: decode(claims, "second part (claims)")?,
    })
}

impl InspectArgs {
    /// Prints what the token says, as JSON.
    ///
    /// # Errors
    /// What is no token.
    pub fn run(&self) -> anyhow::Result<()> {
        let token = read(&self.token)?;
        let shown = inspected(&token, &parts(&token)?);
        writeln!(io::stdout().lock(), "{shown:#}").context("stdout")
    }
}

fn inspected(token: &str, parts: &Parts) -> Value {
    let Parts { header, claims } = parts;
    let times: serde_json::Map<String, Value> = ["iat", "nbf", "exp"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), json!(away(claims.get(name)?.as_u64()?)))))
        .collect();
    let mut shown = json!({ "header": header, "claims": claims, "times": times, "verified": false });
    match read_unverified(token, &Policy::default()) {
        Ok(read) => shown["gives"] = gives(&read, claims),
        Err(rejection) => {
            let why = why(&rejection, token, Some(parts), &Judge::nobody());
            shown["malformed"] = json!(format!("{rejection}{why}"));
        }
    }
    shown
}

/// What a token is good for, its defaults included.
fn gives(read: &Claims, claims: &Value) -> Value {
    let or = |name: &str, default: &str| match claims.get(name) {
        None | Some(Value::Null) => json!(default),
        Some(value) => value.clone(),
    };
    let domains = &read.allowed_domains;
    json!({
        "tenant": read.tenant,
        "app": read.app,
        "access": access_in_words(read.access),
        "documents": or("documents", "every document"),
        "regions": or("regions", "every region"),
        "pages": if domains.is_empty() { json!("every origin") } else { json!(domains) },
        "limits": read.limits,
    })
}

/// A moment, in words, seen from now.
fn away(unix: u64) -> String {
    let now = unix_now();
    let length = |seconds: u64| {
        let (number, unit) = match seconds {
            0..=119 => (seconds, "s"),
            120..=7_199 => (seconds / 60, "min"),
            7_200..=172_799 => (seconds / 3_600, "h"),
            _ => (seconds / 86_400, "days"),
        };
        format!("{number} {unit}")
    };
    if unix >= now { format!("in {}", length(unix - now)) } else { format!("{} ago", length(now - unix)) }
}

/// What a token is checked with.
struct Judge {
    keys: KeySet,
    policy: Policy,
    region: Option<String>,
    known_db_codes: Vec<String>,
    names: NameRules,
    /// What is to be told beside the verdict.
    notes: Vec<String>,
}

/// The exit status of a token that is refused; 2 is for what keeps it from being judged.
const REFUSED: u8 = 1;

impl Judge {
    /// Knows no key, and asks for nothing.
    fn nobody() -> Self {
        Self {
            keys: KeySet::new(),
            policy: Policy::default(),
            region: None,
            known_db_codes: Vec::new(),
            names: NameRules::default(),
            notes: Vec::new(),
        }
    }
}

impl VerifyArgs {
    /// Prints what the token allows, with exit status 0, or why a node would refuse it, with 1.
    ///
    /// # Errors
    /// There is nothing to check it with, or that cannot be used.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let judge = self.judge()?;
        for note in &judge.notes {
            writeln!(io::stderr().lock(), "note: {note}").context("stderr")?;
        }
        match self.check(&read(&self.token)?, &judge) {
            Ok(good) => {
                writeln!(io::stdout().lock(), "{good}").context("stdout")?;
                Ok(ExitCode::SUCCESS)
            }
            Err(refusal) => {
                writeln!(io::stderr().lock(), "{refusal}").context("stderr")?;
                Ok(ExitCode::from(REFUSED))
            }
        }
    }

    /// What the token allows, or why it is refused.
    fn check(&self, token: &str, judge: &Judge) -> Result<String, String> {
        let Verified { claims, key } =
            verify_by(&judge.keys, &judge.policy, token, unix_now()).map_err(|rejection| {
                let why = why(&rejection, token, parts(token).ok().as_ref(), judge);
                format!("refused with {}: {rejection}{why}", CloseCode::InvalidToken.code())
            })?;
        if let Some(document) = self.document.as_deref().filter(|name| !is_valid_name(name, &judge.names)) {
            return Err(format!(
                "refused with {}: `{document}` is no document's name",
                CloseCode::InvalidName.code()
            ));
        }
        let request = Request {
            origin: self.origin.as_deref(),
            document: self.document.as_deref(),
            region: judge.region.as_deref(),
            known_db_codes: &judge.known_db_codes,
        };
        let parts = parts(token).map_err(|error| format!("{error:#}"))?;
        match authorize(&claims, &request) {
            Ok(_) => Ok(good(&claims, &parts.claims, key)),
            Err(forbidden) => {
                let why = why_forbidden(&forbidden, &parts.claims, judge);
                Err(format!("refused with {}: {}{why}", CloseCode::Forbidden.code(), forbidden.reason()))
            }
        }
    }

    fn judge(&self) -> anyhow::Result<Judge> {
        let mut keys = KeySet::new();
        if let Some(secret) = &self.secret {
            keys.add(Key::from_secret(secret.as_bytes()).context("--secret")?);
        }
        if let Some(file) = &self.jwks {
            let place = || format!("--jwks {}", file.display());
            let json = fs::read(file).with_context(place)?;
            keys.extend(Jwks::parse(&json).with_context(place)?.keys);
        }
        if !keys.is_empty() {
            let known_db_codes = KNOWN_DB_CODES.map(str::to_owned).to_vec();
            return Ok(Judge { keys, known_db_codes, ..Judge::nobody() });
        }
        if !self.sources.is_given() {
            bail!("nothing to check it with; give --config FILE, --secret S or --jwks FILE");
        }
        let config = self.sources.sources().resolve().map_err(Unusable)?.config;
        let (fetched, notes) = fetched_keys(&config.jwks)?;
        let (keys, _) = merge(&config.keys, &fetched);
        Ok(Judge {
            keys,
            policy: config.policy,
            region: Some(config.region.name),
            known_db_codes: config.known_db_codes,
            names: config.names,
            notes,
        })
    }
}

/// Keys by URL, from the cache where a URL gives none; and what is to be told about that.
fn fetched_keys(sources: &JwksSources) -> anyhow::Result<(Vec<Key>, Vec<String>)> {
    let (mut keys, mut notes) = (Vec::new(), Vec::new());
    for Tried { url, fetched, cached } in fetch_once(sources, unix_now()).context("tokens.jwks_urls")? {
        match (fetched, cached) {
            (Ok((fetched, skipped)), _) => {
                notes.extend(skipped.iter().map(|skipped| format!("{url}: {skipped}")));
                keys.extend(fetched);
            }
            (Err(why), Some((cached, age))) => {
                let age = away(unix_now().saturating_sub(age.as_secs()));
                notes.push(format!(
                    "{url} cannot be fetched: {why}; its keys from the cache are used, fetched {age}"
                ));
                keys.extend(cached);
            }
            (Err(why), None) => notes.push(format!("{url} cannot be fetched: {why}")),
        }
    }
    Ok((keys, notes))
}

fn access_in_words(access: Access) -> &'static str {
    match access {
        Access::ReadWrite => "read and write",
        Access::ReadOnly => "read only",
    }
}

fn good(read: &Claims, claims: &Value, key: &Key) -> String {
    let user = read.subject.as_deref().unwrap_or("nobody named");
    let (tenant, app, access) = (&read.tenant, &read.app, access_in_words(read.access));
    let gives = gives(read, claims);
    let list = |name: &str| match &gives[name] {
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            if items.is_empty() { "none".to_owned() } else { items.join(", ") }
        }
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let Limits { max_connections, max_documents, max_users_per_doc, ops_per_minute } = read.limits;
    format!(
        "good: {user}, app {app} of tenant {tenant}, {access}, expires {}\n  signed with: {}\n  documents: {}\n  regions: {}\n  \
         pages: {}\n  limits: {max_connections} connections, {max_documents} documents, {max_users_per_doc} users a document, \
         {ops_per_minute} operations a minute",
        away(read.expires_at),
        describe(key),
        list("documents"),
        list("regions"),
        list("pages"),
    )
}

/// A value of a claim, cut where it is long.
fn value(claims: &Value, name: &str) -> String {
    let text = claims.get(name).map_or("missing".to_owned(), ToString::to_string);
    if text.len() <= SHOWN_BYTES_MAX {
        text
    } else {
        format!("{}…", &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)])
    }
}

const SHOWN_BYTES_MAX: usize = 120;

/// What the token has there, and what is wanted.
fn why(rejection: &Rejection, token: &str, parts: Option<&Parts>, judge: &Judge) -> String {
    if *rejection == Rejection::TooLarge {
        return format!("; it has {} bytes, {MAX_TOKEN_BYTES} are the most", token.len());
    }
    let Some(Parts { header, claims }) = parts else {
        let why = self::parts(token).err().map(|error| format!("; {error:#}"));
        return why.unwrap_or_default();
    };
    let has = |name: &str| value(claims, name);
    let known = || match judge.keys.is_empty() {
        true => "none".to_owned(),
        false => judge.keys.iter().map(describe).collect::<Vec<_>>().join(", "),
    };
    let wanted = |wanted: &Option<String>| wanted.clone().unwrap_or_default();
    let at =
        |name: &str| claims.get(name).and_then(Value::as_f64).map(|at| away(at as u64)).unwrap_or_default();
    match rejection {
        Rejection::Audience => {
            format!("; aud is {}, {:?} is wanted", has("aud"), wanted(&judge.policy.audience))
        }
        Rejection::Scope => {
            format!("; scope is {}, {:?} has to be in it", has("scope"), wanted(&judge.policy.scope))
        }
        Rejection::Issuer => format!("; iss is {}, one of {:?} is wanted", has("iss"), judge.policy.issuers),
        Rejection::Expired => {
            let leeway = Duration::from_secs(judge.policy.leeway_secs);
            format!("; exp was {}, clocks may differ by {leeway:?}", at("exp"))
        }
        Rejection::NotYetValid => format!("; nbf is {}", at("nbf")),
        Rejection::Algorithm | Rejection::UnknownKey { .. } | Rejection::Signature => {
            format!(
                "; its header has alg {}, kid {}; the keys are: {}",
                value(header, "alg"),
                value(header, "kid"),
                known()
            )
        }
        Rejection::Malformed(malformed) => why_malformed(*malformed, token, header, claims),
        Rejection::TooLarge => String::new(),
    }
}

fn why_malformed(malformed: Malformed, token: &str, header: &Value, claims: &Value) -> String {
    const ID: &str = "1 to 128 letters, digits, -, _ and . are expected";
    let said = |error: Option<String>| error.map_or(String::new(), |error| format!("; {error}"));
    match malformed {
        Malformed::Encoding => "; the third part (signature) is no base64url".to_owned(),
        Malformed::Header => said(header_error(token)),
        Malformed::Critical => format!("; crit is {}, which has to be absent", value(header, "crit")),
        Malformed::Claims => said(claims_error(token)),
        Malformed::NoExpiry => format!("; Unix seconds are expected, as in {}", unix_now() + 3_600),
        Malformed::Tenant => format!("; tenantid is {}, {ID}", value(claims, "tenantid")),
        Malformed::App => format!("; appId is {}, {ID}", value(claims, "appId")),
        Malformed::Access => format!("; access is {}", value(claims, "access")),
    }
}

fn why_forbidden(forbidden: &Forbidden, claims: &Value, judge: &Judge) -> String {
    match forbidden {
        Forbidden::Document => format!("; documents is {}", value(claims, "documents")),
        Forbidden::Region => {
            let here = judge.region.as_deref().unwrap_or_default();
            format!("; regions is {}, this node's is {here:?}", value(claims, "regions"))
        }
        Forbidden::Origin => {
            let names = claims.as_object().into_iter().flat_map(|claims| claims.iter());
            let domains = names.filter(|(name, _)| name.starts_with("allowed_domain_"));
            format!(
                "; its domains are {}",
                domains.map(|(_, domain)| domain.to_string()).collect::<Vec<_>>().join(", ")
            )
        }
        Forbidden::NoDbCode | Forbidden::OtherDbCode { .. } => {
            format!("; dbCode is {}", value(claims, "dbCode"))
        }
        Forbidden::AppRegion => String::new(),
        Forbidden::UnknownDbCode(_) => format!("; known are {}", judge.known_db_codes.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, TokenCommand};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn token_command(args: &[&str]) -> TokenCommand {
        let line = ["pinwire-node", "token"].iter().chain(args);
        let Command::Token(token) = Cli::try_parse_from(line).unwrap().command else { panic!("not token") };
        token.command
    }

    fn mint(claims: &str) -> String {
        let TokenCommand::Mint(args) = token_command(&["mint", "--secret", SECRET, "--claims", claims])
        else {
            panic!("not mint")
        };
        args.mint().unwrap()
    }

    fn verified(args: &[&str]) -> Result<String, String> {
        let TokenCommand::Verify(args) = token_command(&[&["verify"], args].concat()) else {
            panic!("not verify")
        };
        let judge = args.judge().map_err(|error| format!("{error:#}"))?;
        args.check(&read(&args.token).unwrap(), &judge)
    }

    #[test]
    fn a_refusal_says_what_the_token_has_and_what_is_wanted() {
        let old = unix_now() - 10_000;
        let cases = [
            (
                json!({ "aud": "another" }),
                vec!["4002", "another audience", "aud is \"another\", \"pinwire\" is wanted"],
            ),
            (
                json!({ "scope": "other words" }),
                vec!["4002", "scope is \"other words\", \"pinwire\" has to be in it"],
            ),
            (json!({ "exp": old }), vec!["4002", "token expired; exp was 2 h ago, clocks may differ by 30s"]),
            (json!({ "nbf": unix_now() + 500 }), vec!["4002", "not yet valid; nbf is in"]),
            (json!({ "dbCode": "mars-1" }), vec!["4003", "unknown dbCode: mars-1"]),
            (json!({ "tenantid": null }), vec!["4002", "tenantid is missing"]),
        ];
        for (claims, words) in cases {
            let told = verified(&[&mint(&claims.to_string()), "--secret", SECRET]).unwrap_err();
            assert!(words.iter().all(|word| told.contains(word)), "{words:?} in {told}");
        }
        let told = verified(&[&mint("{}"), "--secret", &"x".repeat(32)]).unwrap_err();
        assert!(told.contains("signature does not match") && told.contains("alg \"HS256\""), "{told}");
    }

    /// A token of these parts, signed by nobody.
    fn put_together(header: &str, claims: &str, signature: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{signature}", part(header), part(claims))
    }

    #[test]
    fn a_malformed_token_is_told_with_its_claim_and_what_was_expected() {
        let now = unix_now();
        let claims = |patch: Value| {
            let mut claims = json!({ "tenantid": "t", "appId": "a", "exp": now + 60, "aud": "pinwire", "scope": "pinwire" });
            claims.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
            claims.to_string()
        };
        let cases = [
            (
                json!({ "exp": "soon" }),
                "claim exp: invalid type: string \"soon\", expected a number of seconds",
            ),
            (json!({ "nbf": [] }), "claim nbf: invalid type: sequence, expected a number of seconds"),
            (json!({ "sub": 7 }), "claim sub: invalid type: integer `7`, expected a string"),
            (
                json!({ "aud": 7 }),
                "claim aud: invalid type: integer `7`, expected a string or a list of strings",
            ),
            (json!({ "scope": [7] }), "claim scope: invalid type: integer `7`, expected a string"),
            (
                json!({ "documents": "notes" }),
                "claim documents: invalid type: string \"notes\", expected a sequence",
            ),
            (json!({ "regions": [true] }), "claim regions: invalid type: boolean `true`, expected a string"),
            (
                json!({ "allowed_domain_1": 1 }),
                "claim allowed_domain_1: invalid type: integer `1`, expected a string",
            ),
            (json!({ "limits": 5 }), "claim limits: invalid type: integer `5`, expected an object of limits"),
            (
                json!({ "limits": { "maxConnections": "many" } }),
                "claim limits: maxConnections, a whole number of 0 or more: invalid type: string \"many\"",
            ),
            (
                json!({ "limits": { "opsPerMinute": -1 } }),
                "opsPerMinute, a whole number of 0 or more: invalid value: integer `-1`",
            ),
            (json!({ "tenantid": 5 }), "claim tenantid: invalid type: integer `5`, expected a string"),
            (
                json!({ "tenantid": "a b" }),
                "tenantid is \"a b\", 1 to 128 letters, digits, -, _ and . are expected",
            ),
            (json!({ "tenantid": null }), "tenantid is null, 1 to 128 letters"),
        ];
        for (patch, words) in cases {
            let token = put_together(r#"{"alg":"HS256"}"#, &claims(patch), "AAAA");
            let told = verified(&[&token, "--secret", SECRET]).unwrap_err();
            assert!(told.starts_with("refused with 4002: malformed token"), "{told}");
            assert!(told.contains(words), "{words} in {told}");
            let inspected = inspected(&token, &parts(&token).unwrap());
            assert!(inspected["malformed"].as_str().unwrap().contains(words), "{inspected:#}");
        }
        // These are judged behind the signature.
        let signed = [
            (
                json!({ "appId": "x:y" }),
                "appId is \"x:y\", 1 to 128 letters, digits, -, _ and . are expected",
            ),
            (json!({ "appId": null }), "appId is missing"),
            (json!({ "access": "write" }), "access is \"write\""),
            (json!({ "exp": null }), "claim exp is missing; Unix seconds are expected, as in 1"),
        ];
        for (patch, words) in signed {
            let told = verified(&[&mint(&patch.to_string()), "--secret", SECRET]).unwrap_err();
            assert!(told.contains(words), "{words} in {told}");
        }
        let whole = claims(json!({}));
        let twice = whole.replace("\"appId\"", "\"tenantid\":\"t\",\"appId\"");
        let raw = [
            (put_together(r#"{"alg":"HS256"}"#, &twice, "AAAA"), "claim tenantid stands twice"),
            (
                put_together(r#"{"alg":"HS256"}"#, "[]", "AAAA"),
                "invalid type: sequence, expected an object of claims",
            ),
            (put_together(r#"{"typ":"JWT"}"#, &whole, "AAAA"), "missing field `alg`"),
            (put_together(r#"{"alg":5}"#, &whole, "AAAA"), "invalid type: integer `5`, expected a string"),
            (
                put_together(r#"{"alg":"HS256","crit":["exp"]}"#, &whole, "AAAA"),
                "crit is [\"exp\"], which has to be absent",
            ),
            (
                put_together(r#"{"alg":"none"}"#, &whole, ""),
                "algorithm not allowed; its header has alg \"none\"",
            ),
            (put_together(r#"{"alg":"HS256"}"#, "{", "AAAA"), "the second part (claims) is no JSON"),
            (put_together("no", &whole, "AAAA"), "the first part (header) is no JSON"),
            (format!("{}!.e30.e30", "e30"), "the first part (header) is no base64url"),
            ("e30.e30".to_owned(), "a token has three parts with dots between them, this has 2"),
            ("x".repeat(9_000), "it has 9000 bytes, 8192 are the most"),
        ];
        for (token, words) in raw {
            let told = verified(&[&token, "--secret", SECRET]).unwrap_err();
            assert!(told.contains(words), "{words} in {told}");
        }
        let long =
            put_together(r#"{"alg":"HS256"}"#, &claims(json!({ "tenantid": "ä".repeat(500) })), "AAAA");
        assert!(verified(&[&long, "--secret", SECRET]).unwrap_err().len() < 400);
    }

    #[test]
    fn what_a_token_gives_is_shown_with_its_defaults() {
        let token = mint(
            r#"{"documents":["a","b-*"],"regions":["eu-central-1"],"limits":{"maxConnections":3},"access":"readonly"}"#,
        );
        let shown = inspected(&token, &parts(&token).unwrap());
        let gives = &shown["gives"];
        assert_eq!(gives["documents"], json!(["a", "b-*"]));
        assert_eq!((&gives["access"], &gives["pages"]), (&json!("read only"), &json!("every origin")));
        assert_eq!(
            (&gives["limits"]["maxConnections"], &gives["regions"]),
            (&json!(3), &json!(["eu-central-1"]))
        );
        assert_eq!(shown["verified"], false);
    }

    #[test]
    fn a_good_token_is_good_for_the_documents_and_pages_that_it_names() {
        let token = mint(r#"{"documents":["draft-*"],"allowed_domain_1":"example.com"}"#);
        let check = |more: &[&str]| verified(&[&[token.as_str(), "--secret", SECRET], more].concat());
        let good = check(&["--document", "draft-1", "--origin", "https://example.com"]).unwrap();
        for line in [
            "good: dev, app dev of tenant dev, read and write, expires in 2",
            "signed with: HS256 without kid",
            "documents: draft-*",
            "regions: every region",
            "pages: example.com",
            "limits: 1000000 connections, 1000000 documents, 100000 users a document, 1000000000 operations a minute",
        ] {
            assert!(good.contains(line), "{line} in {good}");
        }
        assert!(check(&["--document", "a b"]).unwrap_err().contains("4007: `a b` is no document's name"));
        assert!(check(&["--document", "final"]).unwrap_err().contains("4003: document not allowed"));
        assert!(
            check(&["--origin", "https://evil.example"]).unwrap_err().contains("4003: origin not allowed")
        );
        assert!(verified(&[&token]).unwrap_err().contains("nothing to check it with"));
        assert!(verified(&["no.token", "--secret", SECRET]).unwrap_err().contains("not three parts"));
    }
}
