//! `token mint`: signing tokens by hand.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use pinwire_token::mint::merge;
use pinwire_token::{Limits, SigningKey, mint};
use serde_json::{Value, json};

use crate::config::{DEV_REGION, KNOWN_DB_CODES, secret_of};

/// Flags of `token mint`.
#[derive(Debug, Args)]
pub struct MintArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Name of the key (`kid`) for the token's header.
    #[arg(long, value_name = "KID")]
    kid: Option<String>,
    /// Tenant (`tenantid`).
    #[arg(long, default_value = DEV_ID)]
    tenant: String,
    /// App (`appId`).
    #[arg(long, default_value = DEV_ID)]
    app: String,
    /// WebSocket region closest to the user (`regionCode`).
    #[arg(long, default_value = DEV_REGION)]
    region: String,
    /// Claims to lay over the defaults; null removes one.
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
}

/// What to sign with.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct KeyArgs {
    /// Shared secret (HS256).
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    secret: Option<String>,
    /// A file with it, as a configuration names in tokens.secret_file: so it does not show in process lists.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Private key in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl MintArgs {
    /// The token.
    ///
    /// # Errors
    /// A key or claims that cannot be used, named with the place.
    pub fn mint(&self) -> anyhow::Result<String> {
        let key = self.key.read()?;
        let key = match &self.kid {
            Some(kid) => key.with_id(kid.as_str()),
            None => key,
        };
        let defaults = DefaultClaims {
            tenant: &self.tenant,
            app: &self.app,
            region: &self.region,
            ..DefaultClaims::lasting(TOKEN_SECONDS)
        };
        let mut claims = defaults.at(unix_now())?;
        if let Some(text) = &self.claims {
            merge(&mut claims, serde_json::from_str(text).context("--claims is not JSON")?);
        }
        mint(&key, &claims).context("--claims")
    }
}

impl KeyArgs {
    fn read(&self) -> anyhow::Result<SigningKey> {
        if let Some(file) = &self.key {
            let place = || format!("--key {}", file.display());
            let pem = fs::read_to_string(file).with_context(place)?;
            return SigningKey::from_private_pem(&pem).with_context(place);
        }
        if let Some(file) = &self.secret_file {
            let place = || format!("--secret-file {}", file.display());
            let secret = secret_of(file).map_err(anyhow::Error::msg).with_context(place)?;
            return SigningKey::from_secret(&secret).with_context(place);
        }
        SigningKey::from_secret(self.secret.as_deref().unwrap_or_default().as_bytes()).context("--secret")
    }
}

/// How long a minted token is good unless `--claims` says otherwise.
const TOKEN_SECONDS: u64 = 24 * 3600;
/// Tenant and app of tokens that name none.
const DEV_ID: &str = "dev";

/// Limits that nobody meets while trying things out.
pub(crate) const GENEROUS: Limits = Limits {
    max_connections: 1_000_000,
    max_documents: 1_000_000,
    max_users_per_doc: 100_000,
    ops_per_minute: 1_000_000_000,
};

/// The claims of a token made by hand.
pub(crate) struct DefaultClaims<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) app: &'a str,
    pub(crate) region: &'a str,
    pub(crate) lifetime_secs: u64,
}

impl DefaultClaims<'_> {
    pub(crate) fn lasting(lifetime_secs: u64) -> Self {
        Self { tenant: DEV_ID, app: DEV_ID, region: DEV_REGION, lifetime_secs }
    }

    pub(crate) fn at(&self, now_unix: u64) -> anyhow::Result<Value> {
        Ok(json!({
            "iss": "pinwire-node",
            "sub": DEV_ID,
            "aud": "pinwire",
            "scope": "pinwire",
            "tenantid": self.tenant,
            "appId": self.app,
            "dbCode": KNOWN_DB_CODES[2],
            "regionCode": self.region,
            "limits": GENEROUS,
            "access": "read-write",
            "iat": now_unix,
            "exp": now_unix + self.lifetime_secs,
            "jti": random_hex::<8>().context("the system gives no random numbers for a jti")?,
        }))
    }
}

/// `N` random bytes as hexadecimal digits, which no shell and no flag parser takes for anything else.
pub(crate) fn random_hex<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Seconds since 1970; 0 for a clock set before that.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use pinwire_token::{Claims, Key, KeySet, Policy, verify};

    use super::*;
    use crate::cli::{Cli, Command, TokenCommand};

    fn run(flags: &[&str]) -> anyhow::Result<String> {
        let line = ["pinwire-node", "token", "mint"].iter().chain(flags);
        let Command::Token(token) = Cli::try_parse_from(line)?.command else { panic!("not token") };
        let TokenCommand::Mint(args) = token.command else { panic!("not mint") };
        args.mint()
    }

    fn read(token: &str) -> Claims {
        let keys = KeySet::from_iter([Key::from_secret(b"s3cret").unwrap()]);
        verify(&keys, &Policy::default(), token, unix_now()).unwrap()
    }

    #[test]
    fn a_minted_token_carries_its_flags_and_defaults() {
        let token =
            run(&["--secret", "s3cret", "--tenant", "t", "--app", "a", "--region", "eu-central-1"]).unwrap();
        let claims = read(&token);
        assert_eq!((&*claims.tenant, &*claims.app), ("t", "a"));
        assert_eq!(claims.region_code.as_deref(), Some("eu-central-1"));
        assert_eq!(claims.limits, GENEROUS);
        let again = run(&["--secret", "s3cret"]).unwrap();
        assert_ne!(read(&again).token_id, read(&run(&["--secret", "s3cret"]).unwrap()).token_id);
    }

    #[test]
    fn a_secret_may_begin_with_a_dash() {
        assert!(run(&["--secret", "-s3cret"]).is_ok());
    }

    #[test]
    fn claims_are_laid_over_the_defaults() {
        let patch = r#"{"sub":"ann","limits":{"maxConnections":3},"dbCode":null,"documents":["x"]}"#;
        let claims = read(&run(&["--secret", "s3cret", "--claims", patch]).unwrap());
        assert_eq!(claims.subject.as_deref(), Some("ann"));
        assert_eq!(claims.limits, Limits { max_connections: 3, ..GENEROUS });
        assert_eq!(claims.db_code, None);
        assert!(!claims.documents.allow("y"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let says = |flags: &[&str], part: &str| {
            let message = format!("{:#}", run(flags).unwrap_err());
            assert!(message.contains(part), "{message}");
        };
        says(&["--secret", ""], "--secret");
        says(&["--secret", "s", "--claims", "{"], "--claims");
        says(&["--secret", "s", "--claims", "[]"], "JSON object");
        says(&["--key", "/nonexistent.pem"], "/nonexistent.pem");
        says(&["--secret", "s", "--key", "f"], "cannot be used with");
        says(&[], "required");
    }
}
