//! What the user of a Redis may do: each command of the scripts is tried on a key that nobody uses, and the server says what it
//! does not allow. One script does all, so nobody ever sees what it writes.

use pinwire_redis::{Endpoint, Kind, Prober, Script, Value, cmd, from_redis_value, slot_of};

use super::server::Seen;
use super::stores::Purpose;
use super::{Note, Outcome};

/// Commands of the registry's scripts, with arguments that change nothing; `@` is the key. Those with `+` in front may write it,
/// and are only tried if it can be removed again.
pub(super) const REGISTRY: &[&str] = &[
    "del @",
    "exists @",
    "get @",
    "hget @ f",
    "hdel @ f",
    "hmget @ f",
    "hgetall @",
    "hkeys @",
    "hlen @",
    "srem @ m",
    "spop @",
    "smembers @",
    "zrem @ m",
    "zscore @ m",
    "zcard @",
    "zrangebylex @ - +",
    "zrangebyscore @ 0 0",
    "time",
    "info server",
    "+set @ 1",
    "+incr @",
    "+hset @ f 1",
    "+sadd @ m",
    "+zadd @ 0 m",
];
/// The same of the sessions' scripts.
pub(super) const SESSIONS: &[&str] = &[
    "del @",
    "get @",
    "strlen @",
    "hgetall @",
    "hdel @ f",
    "lrange @ 0 0",
    "lindex @ 0",
    "ltrim @ 0 0",
    "zrem @ m",
    "zscore @ m",
    "zrangebyscore @ 0 0",
    "srem @ m",
    "scard @",
    "smembers @",
    "srandmember @",
    "time",
    "+set @ 1",
    "+incrby @ 1",
    "+decrby @ 1",
    "+hset @ f 1",
    "+hincrby @ f 1",
    "+rpush @ 1",
    "+zadd @ 0 m",
    "+sadd @ m",
];
/// Keys and channels that all nodes of the present schema use.
const PATTERN: &str = "pinwire:1:*";

const SCRIPT: &str = r"
local missing, can_remove = {}, true
for _, text in ipairs(ARGV) do
  local writes, words = string.sub(text, 1, 1) == '+', {}
  for word in string.gmatch(string.gsub(text, '^%+', ''), '%S+') do
    words[#words + 1] = word == '@' and KEYS[1] or word
  end
  if can_remove or not writes then
    local answer = redis.pcall(unpack(words))
    local why = type(answer) == 'table' and answer.err or ''
    if string.find(why, 'executing the script', 1, true) or string.find(why, 'ACL failure', 1, true)
        or string.find(why, 'NOPERM', 1, true) then
      local kind = string.find(why, 'key', 1, true) and '~' or '&'
      if string.find(why, 'run th', 1, true) then kind = '+' end
      missing[#missing + 1] = kind .. words[1]
      if words[1] == 'del' then can_remove = false end
    end
  end
end
if can_remove then redis.pcall('del', KEYS[1]) end
return missing
";

pub(super) async fn examine(
    purpose: Purpose,
    endpoint: &Endpoint,
    prober: &Prober,
    seen: &Seen,
) -> Option<Note> {
    let is_cluster = *endpoint.kind() == Kind::Cluster;
    let key = key_at(purpose, seen)?;
    let mut missing = scripts(purpose, seen, &key, is_cluster).await;
    let rest = match endpoint.kind() {
        Kind::Single => None,
        Kind::Sentinel { .. } => Some("role"),
        Kind::Cluster => Some("asking"),
    };
    if let Some(name) = rest {
        missing.extend(refused(seen.probe.ask(&cmd(name)).await, name));
    }
    if purpose == Purpose::Sessions {
        missing.extend(subscription(prober, seen, &key, is_cluster).await);
    }
    missing.sort();
    missing.dedup();
    let user = endpoint.user();
    if missing.is_empty() {
        return Some(Note::good(&seen.host, format!("lets the user {user} do all that is needed")));
    }
    let rights = missing.join(" ");
    let page = match purpose {
        Purpose::Registry => "docs/registry.md",
        Purpose::Sessions => "docs/sessions.md",
    };
    let mend =
        format!("ACL SETUSER {user} {rights}, on every server, replicas too ({page} has the whole line)");
    Some(Note::bad(Outcome::Fail, &seen.host, format!("does not let the user {user} do {rights}"), mend))
}

/// A key of the schema that nobody uses, in a slot of this server; `None` if it has none that nodes use.
fn key_at(purpose: Purpose, seen: &Seen) -> Option<String> {
    let (partitions, word) = match purpose {
        Purpose::Registry => (16, "apps-"),
        Purpose::Sessions => (64, "s"),
    };
    let keys = (0..partitions).map(|number| format!("pinwire:1:{{{word}{number:02}}}:doctor"));
    let is_here = |key: &String| {
        let slot = slot_of(key.as_bytes());
        seen.slots.is_empty() || seen.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    };
    keys.into_iter().find(is_here)
}

/// What of the scripts is not allowed.
async fn scripts(purpose: Purpose, seen: &Seen, key: &str, is_cluster: bool) -> Vec<String> {
    let mut commands: Vec<String> = match purpose {
        Purpose::Registry => REGISTRY,
        Purpose::Sessions => SESSIONS,
    }
    .iter()
    .map(|command| (*command).to_owned())
    .collect();
    if purpose == Purpose::Sessions {
        commands.push(format!("{} @ doctor", if is_cluster { "spublish" } else { "publish" }));
    }
    let mut eval = cmd("EVAL");
    eval.arg(SCRIPT).arg(1).arg(key).arg(&commands);
    let answer = seen.probe.ask(&eval).await;
    let mut missing: Vec<String> = match answer {
        Ok(answer) => from_redis_value::<Vec<String>>(answer).unwrap_or_default(),
        Err(_) => return refused(answer, "eval").into_iter().collect(),
    };
    for right in &mut missing {
        if right.starts_with('~') || right.starts_with('&') {
            right.replace_range(1.., PATTERN);
        }
    }
    let mut evalsha = cmd("EVALSHA");
    evalsha.arg(Script::new(SCRIPT).sha()).arg(1).arg(key);
    missing.extend(refused(seen.probe.ask(&evalsha).await, "evalsha"));
    missing
}

/// Over a connection of its own: one that listens may do little else.
async fn subscription(prober: &Prober, seen: &Seen, key: &str, is_cluster: bool) -> Option<String> {
    let probe = prober.server(&seen.host).await.ok()?;
    let name = if is_cluster { "ssubscribe" } else { "subscribe" };
    refused(probe.ask(cmd(name).arg(key)).await, name)
}

/// The right that is missing, if that is why.
fn refused(answer: Result<Value, String>, name: &str) -> Option<String> {
    let why = answer.err()?;
    let says = |words: &str| why.contains(words);
    match () {
        () if !says("no permissions") => None,
        () if says("to run the") => Some(format!("+{name}")),
        () if says("key") => Some(format!("~{PATTERN}")),
        () => Some(format!("&{PATTERN}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    /// Commands that the scripts of a folder call.
    fn called(folder: &str) -> BTreeSet<String> {
        let folder = format!("{}/../{folder}", env!("CARGO_MANIFEST_DIR"));
        let texts =
            fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let text: String = texts.collect();
        text.split("call('")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('\'')?.0.to_lowercase()))
            .collect()
    }

    #[test]
    fn every_command_of_the_scripts_is_tried() {
        for (folder, tried) in [("registry/src/redis/lua", REGISTRY), ("session/src/redis/lua", SESSIONS)] {
            let tried: BTreeSet<String> = tried
                .iter()
                .filter_map(|command| command.trim_start_matches('+').split(' ').next().map(str::to_owned))
                .collect();
            assert_eq!(called(folder), tried, "{folder}");
        }
    }
}
