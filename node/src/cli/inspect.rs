//! `token inspect` and `token verify`: what a token says, and why a node refuses it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use pinwire_protocol::close::CloseCode;
use pinwire_protocol::document::name::{NameRules, is_valid_name};
use pinwire_token::{Access, Claims, Jwks, Key, KeySet, Policy, Rejection, Request, authorize, verify};
use serde_json::{Value, json};

use super::serve::{SourceArgs, Unusable};
use super::token::unix_now;
use crate::config::KNOWN_DB_CODES;

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
        let Parts { header, claims } = parts(&read(&self.token)?)?;
        let times: serde_json::Map<String, Value> = ["iat", "nbf", "exp"]
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), json!(away(claims.get(name)?.as_u64()?)))))
            .collect();
        let shown = json!({ "header": header, "claims": claims, "times": times, "verified": false });
        writeln!(io::stdout().lock(), "{shown:#}").context("stdout")
    }
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
}

impl VerifyArgs {
    /// Prints what the token allows.
    ///
    /// # Errors
    /// Why a node would refuse it, or that there is nothing to check it with.
    pub fn run(&self) -> anyhow::Result<()> {
        let judge = self.judge()?;
        let token = read(&self.token)?;
        let claims = match verify(&judge.keys, &judge.policy, &token, unix_now()) {
            Ok(claims) => claims,
            Err(rejection) => {
                let why = why(&rejection, parts(&token).ok().as_ref(), &judge);
                bail!("refused with {}: {rejection}{why}", CloseCode::InvalidToken.code());
            }
        };
        if let Some(document) = self.document.as_deref().filter(|name| !is_valid_name(name, &judge.names)) {
            bail!("refused with {}: `{document}` is no document's name", CloseCode::InvalidName.code());
        }
        let request = Request {
            origin: self.origin.as_deref(),
            document: self.document.as_deref(),
            region: judge.region.as_deref(),
            known_db_codes: &judge.known_db_codes,
        };
        match authorize(&claims, &request) {
            Ok(access) => writeln!(io::stdout().lock(), "{}", good(&claims, access)).context("stdout"),
            Err(forbidden) => bail!("refused with {}: {}", CloseCode::Forbidden.code(), forbidden.reason()),
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
            let (policy, names) = (Policy::default(), NameRules::default());
            return Ok(Judge { keys, policy, region: None, known_db_codes, names });
        }
        if !self.sources.is_given() {
            bail!("nothing to check it with; give --config FILE, --secret S or --jwks FILE");
        }
        let config = self.sources.sources().resolve().map_err(Unusable)?.config;
        Ok(Judge {
            keys: config.keys,
            policy: config.policy,
            region: Some(config.region.name),
            known_db_codes: config.known_db_codes,
            names: config.names,
        })
    }
}

fn good(claims: &Claims, access: Access) -> String {
    let access = match access {
        Access::ReadWrite => "read and write",
        Access::ReadOnly => "read only",
    };
    let user = claims.subject.as_deref().unwrap_or("nobody named");
    let (tenant, app) = (&claims.tenant, &claims.app);
    format!("good: {user}, app {app} of tenant {tenant}, {access}, expires {}", away(claims.expires_at))
}

/// What the token has there, and what is wanted.
fn why(rejection: &Rejection, parts: Option<&Parts>, judge: &Judge) -> String {
    let Some(Parts { header, claims }) = parts else { return String::new() };
    let has = |name: &str| claims.get(name).map_or("missing".to_owned(), ToString::to_string);
    let known = || {
        let shown = |key: &Key| {
            let id = key.id().map_or_else(|| "without kid".to_owned(), |id| format!("kid {id:?}"));
            format!("{} {id}", key.algorithm().name())
        };
        judge.keys.iter().map(shown).collect::<Vec<_>>().join(", ")
    };
    let wanted = |wanted: &Option<String>| wanted.clone().unwrap_or_default();
    let at = |name: &str| claims.get(name).and_then(Value::as_u64).map(away).unwrap_or_default();
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
            let of = |name: &str| header.get(name).map_or("missing".to_owned(), ToString::to_string);
            format!("; its header has alg {}, kid {}; the keys are: {}", of("alg"), of("kid"), known())
        }
        Rejection::TooLarge | Rejection::Malformed(_) => String::new(),
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

    fn verified(args: &[&str]) -> Result<(), String> {
        let TokenCommand::Verify(args) = token_command(&[&["verify"], args].concat()) else {
            panic!("not verify")
        };
        args.run().map_err(|error| format!("{error:#}"))
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

    #[test]
    fn a_good_token_is_good_for_the_documents_and_pages_that_it_names() {
        let token = mint(r#"{"documents":["draft-*"],"allowed_domain_1":"example.com"}"#);
        let check = |more: &[&str]| verified(&[&[token.as_str(), "--secret", SECRET], more].concat());
        assert_eq!(check(&["--document", "draft-1", "--origin", "https://example.com"]), Ok(()));
        assert!(check(&["--document", "a b"]).unwrap_err().contains("4007: `a b` is no document's name"));
        assert!(check(&["--document", "final"]).unwrap_err().contains("4003: document not allowed"));
        assert!(
            check(&["--origin", "https://evil.example"]).unwrap_err().contains("4003: origin not allowed")
        );
        assert!(verified(&[&token]).unwrap_err().contains("nothing to check it with"));
        assert!(verified(&["no.token", "--secret", SECRET]).unwrap_err().contains("not three parts"));
    }
}
