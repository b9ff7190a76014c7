//! The pool in the region's Redis. `beat.lua` and `retire.lua` say what the keys are.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use pinwire_redis::{Invocation, Link, Script, Value};

use crate::{Beat, Gone, Heard, Member, Seen};

/// Why the pool says nothing.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Redis does not answer, or refuses.
    #[error(transparent)]
    Redis(#[from] pinwire_redis::Error),
    /// It answers something else.
    #[error("the pool's answer makes no sense ({0}): another version's data?")]
    Senseless(&'static str),
}

/// The pool of a region, in its Redis.
pub struct RedisPool {
    link: Link,
    members: String,
    gone: String,
    scripts: Scripts,
    time_us: Option<u64>,
}

impl fmt::Debug for RedisPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisPool({}, {})", self.link.endpoint(), self.members)
    }
}

pinwire_redis::scripts! {
    struct Scripts after "prelude.lua" {
        beat: "beat.lua",
        retire: "retire.lua",
    }
}

impl RedisPool {
    /// The pool of `region` behind a link, which may serve other things as well.
    #[must_use]
    pub fn new(link: Link, region: &str) -> Self {
        let key = |what: &str| format!("pinwire:1:{{pool}}:{region}:{what}");
        Self { link, members: key("members"), gone: key("gone"), scripts: Scripts::new(), time_us: None }
    }

    /// Time for scripts to go by from now on: for tests that compare pools.
    #[doc(hidden)]
    pub fn set_time(&mut self, now_us: u64) {
        self.time_us = Some(now_us);
    }

    fn on<'script>(&self, script: &'script Script) -> Invocation<'script> {
        let time = self.time_us.map(|now_us| now_us.to_string()).unwrap_or_default();
        script.on(&self.members).key(&self.gone).arg(time)
    }

    /// Tells how a node is, and hears of the others.
    ///
    /// # Errors
    /// Redis cannot be reached in time, or has something else there.
    pub async fn beat(&self, beat: &Beat) -> Result<Heard, PoolError> {
        let Beat { me, lease_us, keep, recall_us } = beat;
        let addresses: Vec<String> = me.addresses.iter().map(IpAddr::to_string).collect();
        let words =
            serde_json::to_string(me).map_err(|_| PoolError::Senseless("a member that is no JSON"))?;
        let call = self.on(&self.scripts.beat).arg(&*me.name).arg(hex(me.life));
        let call =
            call.arg(u8::from(me.is_able)).arg(u8::from(me.wants_out)).arg(addresses.join(" ")).arg(words);
        let call = call.arg(*lease_us).arg(*keep).arg(*recall_us);
        heard(self.link.run(call).await?)
    }

    /// A node ends in good order.
    ///
    /// # Errors
    /// Redis cannot be reached in time.
    pub async fn retire(&self, name: &str, life: u64) -> Result<(), PoolError> {
        self.link.run(self.on(&self.scripts.retire).arg(name).arg(hex(life))).await?;
        Ok(())
    }
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

fn heard(answer: Value) -> Result<Heard, PoolError> {
    let Value::Array(parts) = answer else { return Err(PoolError::Senseless("a list was expected")) };
    let [now, may_leave, is_doubled, Value::Array(members), Value::Array(gone)] = &parts[..] else {
        return Err(PoolError::Senseless("five parts were expected"));
    };
    let mut members = members.iter().map(seen).collect::<Result<Vec<_>, _>>()?;
    members.sort_by(|one, other| one.member.name.cmp(&other.member.name));
    let mut gone = gone.chunks_exact(2).map(left).collect::<Result<Vec<_>, _>>()?;
    gone.sort_by_key(|gone| gone.address);
    let is_set = |value: &Value| *value == Value::Int(1);
    Ok(Heard {
        now_us: number(now)?,
        may_leave: is_set(may_leave),
        is_doubled: is_set(is_doubled),
        members,
        gone,
    })
}

fn seen(value: &Value) -> Result<Seen, PoolError> {
    let Value::Array(parts) = value else { return Err(PoolError::Senseless("a member was expected")) };
    let [Value::Int(is_in), words] = &parts[..] else {
        return Err(PoolError::Senseless("a member was expected"));
    };
    let member: Arc<str> = text(words)?.into();
    let member: Member =
        serde_json::from_str(&member).map_err(|_| PoolError::Senseless("a member that is no JSON"))?;
    Ok(Seen { member, is_in: *is_in == 1 })
}

fn left(pair: &[Value]) -> Result<Gone, PoolError> {
    let [address, since] = pair else { return Err(PoolError::Senseless("an address was expected")) };
    let address = text(address)?.parse().map_err(|_| PoolError::Senseless("an address was expected"))?;
    Ok(Gone { address, since_us: number(since)? })
}

fn number(value: &Value) -> Result<u64, PoolError> {
    text(value)?.parse().map_err(|_| PoolError::Senseless("a number was expected"))
}

fn text(value: &Value) -> Result<&str, PoolError> {
    match value {
        Value::BulkString(bytes) => {
            std::str::from_utf8(bytes).map_err(|_| PoolError::Senseless("a text was expected"))
        }
        _ => Err(PoolError::Senseless("a text was expected")),
    }
}
