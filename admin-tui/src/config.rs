//! The configuration file: contexts, colours, keys. Secrets are not in it: it names files and variables that have them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;

use crate::client::{Address, Discovery, Token, TrustFiles};
use crate::theme::{Graphics, Palette};

/// The variable with the token where no file is named.
pub const TOKEN_VARIABLE: &str = "PINWIRE_ADMIN_TOKEN";
/// The variable with the address where none is named.
pub const ADDRESS_VARIABLE: &str = "PINWIRE_ADMIN";
/// Where a node listens that was told nothing else.
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:9180";

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The context that holds where none is named.
    pub current: Option<String>,
    /// Colours.
    pub theme: Option<Palette>,
    /// What the terminal can draw.
    pub graphics: Option<Graphics>,
    /// Whether the mouse is taken.
    pub mouse: Option<bool>,
    /// Keys, by what they do.
    #[serde(default)]
    pub keys: HashMap<String, Vec<String>>,
    /// Clusters, by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// A cluster, and how to get into it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Nodes.
    pub urls: Vec<Address>,
    /// A file with the token.
    pub token_file: Option<PathBuf>,
    /// A variable with the token.
    pub token_variable: Option<String>,
    /// Authorities to believe.
    pub ca: Option<PathBuf>,
    /// A certificate of one's own.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// `peers`, `off`, or a pattern.
    pub discover: Option<String>,
}

/// What flags say of where to go.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The context.
    pub context: Option<String>,
    /// Nodes.
    pub urls: Vec<String>,
    /// A file with the token.
    pub token_file: Option<PathBuf>,
    /// Certificates.
    pub trust: TrustFiles,
    /// How other nodes are found.
    pub discover: Option<String>,
}

/// Where to go.
#[derive(Clone, Debug)]
pub struct Goal {
    /// What it is called.
    pub name: String,
    /// Nodes.
    pub addresses: Vec<Address>,
    /// The token.
    pub token: Token,
    /// Certificates.
    pub trust: TrustFiles,
    /// How other nodes are found.
    pub discovery: Discovery,
}

/// Where the file is: as a flag says, or in the place for such files.
fn place(flag: Option<&Path>, variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(path) = flag {
        return Some(path.to_owned());
    }
    let folder = variable("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")))?;
    Some(folder.join("pinwire/admin.toml"))
}

impl File {
    /// Reads the file; without one there is nothing in it, unless it was named.
    ///
    /// # Errors
    /// It cannot be read or understood; the text has the place.
    pub fn read(flag: Option<&Path>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let Some(path) = place(flag, variable) else { return Ok(Self::default()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, path.parent()).with_context(|| path.display().to_string()),
            Err(error) if flag.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(error).with_context(|| format!("{}: cannot be read", path.display())),
        }
    }

    fn parse(text: &str, folder: Option<&Path>) -> Result<Self> {
        let mut file: Self = toml::from_str(text).map_err(|error| {
            let hint = if error.message().contains("unknown field `token`") {
                "\na token does not belong into this file: put it into one of its own, and name that as token_file"
            } else {
                ""
            };
            anyhow!("{error}{hint}")
        })?;
        // Files are named from where the configuration is, wherever the console was started.
        for context in file.contexts.values_mut() {
            for path in [&mut context.token_file, &mut context.ca, &mut context.certificate, &mut context.key]
            {
                if let (Some(path), Some(folder)) = (path.as_mut(), folder) {
                    *path = folder.join(&*path);
                }
            }
        }
        Ok(file)
    }

    /// Where to go, of what flags, variables and the file say.
    ///
    /// # Errors
    /// A context that there is none of, or an address that is none.
    pub fn goal(&self, wanted: &Wanted, variable: &dyn Fn(&str) -> Option<String>) -> Result<Goal> {
        let name = wanted.context.clone().or_else(|| self.current.clone().filter(|_| wanted.urls.is_empty()));
        let context = match &name {
            None => Context::default(),
            Some(name) => self.contexts.get(name).cloned().ok_or_else(|| self.no_context(name))?,
        };
        let mut addresses = Vec::new();
        for url in &wanted.urls {
            addresses.push(Address::parse(url).map_err(|why| anyhow!("--url: {why}"))?);
        }
        if addresses.is_empty() {
            addresses.clone_from(&context.urls);
        }
        if addresses.is_empty() {
            if let Some(name) = &name {
                bail!("contexts.{name}.urls is empty: name at least one node");
            }
            let url = variable(ADDRESS_VARIABLE)
                .filter(|url| !url.is_empty())
                .unwrap_or_else(|| DEFAULT_ADDRESS.into());
            addresses.push(Address::parse(&url).map_err(|why| anyhow!("{ADDRESS_VARIABLE}: {why}"))?);
        }
        let trust = TrustFiles {
            ca: wanted.trust.ca.clone().or(context.ca),
            certificate: wanted.trust.certificate.clone().or(context.certificate),
            key: wanted.trust.key.clone().or(context.key),
        };
        let token =
            match (&wanted.token_file, context.token_file, context.token_variable) {
                (Some(path), ..) => Token::File(path.clone()),
                (None, Some(path), _) => Token::File(path),
                (None, None, Some(name)) => {
                    let value = variable(&name).filter(|value| !value.trim().is_empty());
                    Token::Value(value.ok_or_else(|| {
                        anyhow!("the variable {name}, which token_variable names, is not set")
                    })?)
                }
                (None, None, None) => variable(TOKEN_VARIABLE)
                    .filter(|value| !value.trim().is_empty())
                    .map_or(Token::None, Token::Value),
            };
        let discovery = match wanted.discover.clone().or(context.discover).as_deref() {
            None | Some("peers") => Discovery::Peers,
            Some("off") => Discovery::Off,
            Some(pattern) if pattern.contains("://") => Discovery::Pattern(pattern.to_owned()),
            Some(other) => bail!(
                "discover: `{other}` is neither peers, off nor a pattern such as https://{{name}}.{{region}}.internal:9180"
            ),
        };
        Ok(Goal { name: name.unwrap_or_default(), addresses, token, trust, discovery })
    }

    fn no_context(&self, name: &str) -> anyhow::Error {
        let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
        if names.is_empty() {
            return anyhow!("there is no context `{name}`, nor any other: the configuration has none");
        }
        let near = names.iter().min_by_key(|known| strsim::damerau_levenshtein(known, name)).unwrap_or(&"");
        anyhow!("there is no context `{name}`; did you mean {near}? There are {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        current = "prod"
        theme = "high-contrast"
        [keys]
        quit = ["ctrl-q"]
        [contexts.prod]
        urls = ["https://eu-1a.example.net:9180"]
        token_file = "prod.token"
        ca = "ca.pem"
        [contexts.lab]
        urls = ["unix:/run/pinwire/admin.sock"]
        token_variable = "LAB_TOKEN"
        discover = "off"
    "#;

    fn file() -> File {
        File::parse(TEXT, Some(Path::new("/etc/x"))).unwrap()
    }

    fn no_variable(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_context_says_where_to_go_and_flags_say_it_over() {
        let goal = file().goal(&Wanted::default(), &no_variable).unwrap();
        assert_eq!(
            (goal.name.as_str(), goal.addresses[0].to_string().as_str()),
            ("prod", "https://eu-1a.example.net:9180")
        );
        assert!(matches!(&goal.token, Token::File(path) if path == Path::new("/etc/x/prod.token")));
        let wanted = Wanted {
            urls: vec!["http://127.0.0.1:1".into()],
            token_file: Some("t".into()),
            ..Wanted::default()
        };
        let goal = file().goal(&wanted, &no_variable).unwrap();
        assert_eq!((goal.name.as_str(), goal.addresses[0].to_string().as_str()), ("", "http://127.0.0.1:1"));
        let goal = File::default().goal(&Wanted::default(), &no_variable).unwrap();
        assert_eq!(goal.addresses[0].to_string(), DEFAULT_ADDRESS);
    }

    #[test]
    fn what_is_missing_or_misspelt_is_told() {
        let lab = Wanted { context: Some("lab".into()), ..Wanted::default() };
        assert!(file().goal(&lab, &no_variable).unwrap_err().to_string().contains("LAB_TOKEN"));
        let typo = Wanted { context: Some("prdo".into()), ..Wanted::default() };
        assert!(file().goal(&typo, &no_variable).unwrap_err().to_string().contains("did you mean prod?"));
        let error = File::parse("[contexts.a]\nurls = []\ntoken = \"x\"", None).unwrap_err().to_string();
        assert!(error.contains("token_file") && error.contains("line 3"), "{error}");
        let error = File::parse("themes = 1", None).unwrap_err().to_string();
        assert!(error.contains("themes") && error.contains("theme"), "{error}");
    }
}
