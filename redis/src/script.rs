//! Scripts that run on the server, called by their hash.

use redis::{Cmd, ToRedisArgs};

/// A Lua script. It runs as one step on the server, which keeps it once it has seen it.
#[derive(Debug)]
pub struct Script {
    source: String,
    sha: String,
}

impl Script {
    /// A script from its source.
    pub fn new(source: impl Into<String>) -> Self {
        let source = source.into();
        let sha = sha1_smol::Sha1::from(&source).digest().to_string();
        Self { source, sha }
    }

    /// The hash by which a server knows it, once it has seen it.
    #[must_use]
    pub fn sha(&self) -> &str {
        &self.sha
    }

    /// A call with this first key, which says where it runs: in a Cluster all keys of a script share a slot.
    pub fn on(&self, key: impl AsRef<[u8]>) -> Invocation<'_> {
        let keys = vec![key.as_ref().to_vec()];
        Invocation { script: self, keys, args: Vec::new() }
    }
}

/// A type that has scripts of these names, each from its file with a common part in front:
/// `scripts! { struct Scripts after "lua/prelude.lua" { load: "lua/load.lua" } }`. Paths are those of `include_str`.
#[macro_export]
macro_rules! scripts {
    ($(#[$about:meta])* $vis:vis struct $scripts:ident after $prelude:literal { $($name:ident: $file:literal),* $(,)? }) => {
        $(#[$about])*
        #[derive(Debug)]
        $vis struct $scripts {
            $($vis $name: $crate::Script,)*
        }

        impl $scripts {
            $vis fn new() -> Self {
                Self::edited(str::to_owned)
            }

            /// With other sources, made of these.
            $vis fn edited(edit: impl Fn(&str) -> String) -> Self {
                Self {
                    $($name: $crate::Script::new(edit(concat!(include_str!($prelude), "\n", include_str!($file)))),)*
                }
            }
        }
    };
}

/// A script with what it is called with.
#[derive(Clone, Debug)]
pub struct Invocation<'script> {
    script: &'script Script,
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
}

impl Invocation<'_> {
    /// One more key.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.keys.push(key.as_ref().to_vec());
        self
    }

    /// One more argument, or several (slices become one argument for each item).
    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        arg.write_redis_args(&mut self.args);
        self
    }

    pub(crate) fn first_key(&self) -> &[u8] {
        &self.keys[0]
    }

    pub(crate) fn by_sha(&self) -> Cmd {
        self.command("EVALSHA", &self.script.sha)
    }

    pub(crate) fn by_source(&self) -> Cmd {
        self.command("EVAL", &self.script.source)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len());
        for part in self.keys.iter().chain(&self.args) {
            command.arg(part.as_slice());
        }
        command
    }
}
