//! The region's Redis: one history and one set of notices for all its nodes.
//!
//! Whoever holds the lease looks at regions and writes what it came to believe; it writes in place of what it knows, and while it has the
//! lease, so two that both think that they hold it do not overwrite each other. Notices are written by whoever has a newer revision, each
//! in place of the one that it knows. `look.lua` says what the keys are.

use std::collections::BTreeMap;
use std::time::Duration;

use pinwire_redis::{Error, Link, Value, from_redis_value};
use pinwire_status::{At, Board, Notice};

/// What a node says, and the lease of the one that writes, hold for so long without being said again.
const HOLD: Duration = Duration::from_secs(15);
/// Notices that are written with one look.
const WRITTEN_AT_ONCE: usize = 16;

pinwire_redis::scripts! {
    struct Scripts after "prelude.lua" {
        look: "look.lua",
        write: "write.lua",
        note: "note.lua",
        leave: "leave.lua",
    }
}

/// Why there is nothing to be had of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SharedError {
    #[error(transparent)]
    Redis(#[from] Error),
    #[error("what is kept there makes no sense ({0}): another version's data?")]
    Senseless(String),
}

/// What a look brought.
#[derive(Debug)]
pub(super) struct Heard {
    /// This node looks at regions, and writes.
    pub(super) is_writer: bool,
    /// How the nodes of the region are, each in a word.
    pub(super) words: Vec<String>,
}

/// See the module's documentation.
pub(super) struct Shared {
    link: Link,
    /// One life of this node.
    name: String,
    keys: [String; 5],
    scripts: Scripts,
    is_writer: bool,
    /// The last look brought nothing: the board may have come to believe something that nobody shares.
    has_strayed: bool,
    /// Of the history that was read or written last.
    mark: String,
    notices_mark: String,
    /// Notices as they are there, as far as was read.
    stored: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    text: String,
    /// `None`: nothing that this version understands.
    notice: Option<Notice>,
}

impl Shared {
    pub(super) fn new(link: Link, region: &str, node: &str) -> Self {
        let key = |what: &str| format!("pinwire:1:{{status}}:{region}:{what}");
        Self {
            link,
            name: format!("{node}:{}", random()),
            keys: ["writer", "history", "notices", "mark", "nodes"].map(key),
            scripts: Scripts::new(),
            is_writer: false,
            has_strayed: false,
            mark: String::new(),
            notices_mark: String::new(),
            stored: BTreeMap::new(),
        }
    }

    /// Says how this node is in a word, and whether it may write; brings the board up to date.
    pub(super) async fn look(
        &mut self,
        board: &mut Board,
        word: &str,
        may_write: bool,
        now: At,
    ) -> Result<Heard, SharedError> {
        let [writer, history, notices, mark, nodes] = &self.keys;
        let call = self.scripts.look.on(writer).key(history).key(notices).key(mark).key(nodes);
        let call = call.arg(&self.name).arg(word).arg(u8::from(may_write)).arg(HOLD.as_millis() as u64);
        let call = call.arg(&self.mark).arg(&self.notices_mark);
        self.is_writer = false;
        let has_strayed = std::mem::replace(&mut self.has_strayed, true);
        let answer = self.link.run(call).await?;
        let answer: (u8, String, String, String, BTreeMap<String, String>, Vec<String>) =
            from_redis_value(answer).map_err(|error| SharedError::Senseless(error.to_string()))?;
        let (is_writer, mark, text, notices_mark, notices, words) = answer;
        if !text.is_empty() {
            let history = serde_json::from_str(&text)
                .map_err(|error| SharedError::Senseless(format!("the history: {error}")))?;
            board.adopt(now, history);
        }
        self.mark = mark;
        if notices_mark != self.notices_mark {
            self.take_notices(board, notices, now);
            self.notices_mark = notices_mark;
        }
        self.is_writer = is_writer == 1;
        self.has_strayed = false;
        if has_strayed && !self.is_writer {
            // What the others share is read with the next look, though it has not changed.
            self.mark.clear();
        }
        Ok(Heard { is_writer: self.is_writer, words })
    }

    /// Brings notices up to date alone.
    pub(super) async fn read_notices(&mut self, board: &mut Board, now: At) -> Result<(), SharedError> {
        let key = self.keys[2].as_bytes();
        let notices = self.link.call(key, pinwire_redis::cmd("HGETALL").arg(key)).await?;
        let notices = from_redis_value(notices).map_err(|error| SharedError::Senseless(error.to_string()))?;
        self.take_notices(board, notices, now);
        Ok(())
    }

    fn take_notices(&mut self, board: &mut Board, notices: BTreeMap<String, String>, now: At) {
        self.stored.clear();
        for (id, text) in notices {
            let notice: Option<Notice> = serde_json::from_str(&text).ok();
            let notice = notice.filter(|notice| notice.id == id);
            if let Some(notice) = &notice {
                board.notices.merge(now, notice.clone());
            }
            self.stored.insert(id, Stored { text, notice });
        }
    }

    /// Whether nobody has written a history yet, or all of it was lost.
    pub(super) fn is_blank(&self) -> bool {
        self.mark.is_empty()
    }

    /// Writes the history, if this node may; true once it is there.
    pub(super) async fn write(&mut self, board: &Board) -> Result<bool, SharedError> {
        if !self.is_writer {
            return Ok(false);
        }
        let text = serde_json::to_string(board.history())
            .map_err(|error| SharedError::Senseless(error.to_string()))?;
        let [writer, history, ..] = &self.keys;
        let mark = random();
        let call = self.scripts.write.on(writer).key(history);
        let call = call.arg(&self.name).arg(&self.mark).arg(&mark).arg(text);
        let is_written = self.link.run(call).await? == Value::Int(1);
        if is_written {
            self.mark = mark;
        }
        Ok(is_written)
    }

    /// Writes notices that the board has and that are not there, and removes those that it has no more. False if somebody else wrote
    /// meanwhile, or there are more: then it is to be looked at again.
    pub(super) async fn note(&mut self, board: &Board) -> Result<bool, SharedError> {
        let is_there = |notice: &&Notice| {
            self.stored.get(&notice.id).is_some_and(|stored| stored.notice.as_ref() == Some(*notice))
        };
        let put = board.notices.iter().filter(|notice| !is_there(notice));
        let mut changes: Vec<(String, Option<Notice>)> =
            put.map(|notice| (notice.id.clone(), Some(notice.clone()))).collect();
        if self.is_writer {
            let gone = self
                .stored
                .iter()
                .filter(|(id, stored)| stored.notice.is_some() && board.notices.get(id).is_none());
            changes.extend(gone.map(|(id, _)| (id.clone(), None)));
        }
        let mut is_done = changes.len() <= WRITTEN_AT_ONCE;
        for (id, notice) in changes.into_iter().take(WRITTEN_AT_ONCE) {
            is_done &= self.write_notice(id, notice).await?;
        }
        Ok(is_done)
    }

    async fn write_notice(&mut self, id: String, notice: Option<Notice>) -> Result<bool, SharedError> {
        let before = self.stored.get(&id).map_or("", |stored| stored.text.as_str());
        let text = notice.as_ref().map(serde_json::to_string).transpose();
        let text = text.map_err(|error| SharedError::Senseless(error.to_string()))?.unwrap_or_default();
        let call = self
            .scripts
            .note
            .on(&self.keys[2])
            .key(&self.keys[3])
            .arg(&id)
            .arg(before)
            .arg(&text)
            .arg(random());
        let is_written = self.link.run(call).await? == Value::Int(1);
        // The mark is left as it is known: so all are read again, also what others wrote meanwhile.
        match (is_written, notice) {
            (true, Some(notice)) => _ = self.stored.insert(id, Stored { text, notice: Some(notice) }),
            (true, None) => _ = self.stored.remove(&id),
            (false, _) => {}
        }
        Ok(is_written)
    }

    /// This node ends.
    pub(super) async fn leave(&self) -> Result<(), SharedError> {
        let call = self.scripts.leave.on(&self.keys[0]).key(&self.keys[4]).arg(&self.name);
        self.link.run(call).await?;
        Ok(())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({}, {})", self.link.endpoint(), self.name)
    }
}

/// Different each time. Without random numbers of the system, the time is.
fn random() -> String {
    let number = getrandom::u64().unwrap_or_else(|_| {
        std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
    });
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use pinwire_redis::rig::{ClusterRig, Options, ServerRig};
    use pinwire_status::{Announcement, Pace, State};

    use super::*;

    const NOW: At = At::unix(1_795_820_400);

    fn board() -> Board {
        Board::new(NOW, Pace { looks: 1, open: 0, end: 0 })
    }

    fn announce(board: &mut Board, id: &str) -> Notice {
        let told = Announcement {
            regions: vec!["eu-1".to_owned()],
            from: NOW.plus(100),
            to: NOW.plus(200),
            title: "New disks".to_owned(),
            text: String::new(),
        };
        let notice = board.notices.announce(NOW, id.to_owned(), told).unwrap();
        board.notices.merge(NOW, notice.clone());
        notice
    }

    async fn look(shared: &mut Shared, board: &mut Board) -> Heard {
        shared.look(board, "healthy", true, NOW).await.unwrap()
    }

    async fn of_two_nodes_one_writes_and_the_other_goes_on(link: impl Fn() -> Link) {
        let (mut one, mut other) = (Shared::new(link(), "eu-1", "a"), Shared::new(link(), "eu-1", "b"));
        let mut elsewhere = Shared::new(link(), "us-1", "a");
        let (mut first, mut second) = (board(), board());
        assert!(look(&mut one, &mut first).await.is_writer && one.is_blank());
        first.look(NOW, "us-1", State::Unavailable, "away");
        assert!(one.write(&first).await.unwrap());
        let heard = look(&mut other, &mut second).await;
        assert_eq!((heard.is_writer, heard.words.len()), (false, 2));
        assert_eq!(second.history(), first.history());
        // Who has no lease writes nothing.
        second.look(NOW, "us-1", State::Operational, "");
        assert!(!other.write(&second).await.unwrap());
        assert!(look(&mut elsewhere, &mut board()).await.is_writer, "another region's");
        // It drains, and leaves it to the other, which has what was written last.
        one.look(&mut first, "draining", false, NOW).await.unwrap();
        first.look(NOW, "ap-1", State::Degraded, "");
        assert!(!one.write(&first).await.unwrap());
        assert!(look(&mut other, &mut second).await.is_writer);
        second.look(NOW, "us-1", State::Operational, "");
        assert!(other.write(&second).await.unwrap());
        one.leave().await.unwrap();
        let mut third = board();
        let heard = look(&mut Shared::new(link(), "eu-1", "c"), &mut third).await;
        assert_eq!((heard.is_writer, heard.words.len()), (false, 2), "b and c");
        assert_eq!(third.history(), second.history());
        assert!(third.history().incidents[0].ended.is_some());
    }

    #[tokio::test]
    async fn of_two_nodes_one_writes_and_the_other_goes_on_where_it_stopped() {
        let server = ServerRig::start(&Options::default());
        of_two_nodes_one_writes_and_the_other_goes_on(|| server.link()).await;
    }

    #[tokio::test]
    async fn all_keys_of_a_region_share_a_slot_of_a_cluster() {
        let servers = ClusterRig::start();
        of_two_nodes_one_writes_and_the_other_goes_on(|| servers.link()).await;
    }

    #[tokio::test]
    async fn a_writer_that_was_away_writes_nothing_over_what_another_wrote() {
        let server = ServerRig::start(&Options::default());
        let (mut one, mut other) =
            (Shared::new(server.link(), "eu-1", "a"), Shared::new(server.link(), "eu-1", "b"));
        let (mut first, mut second) = (board(), board());
        look(&mut one, &mut first).await;
        server.command(&["DEL", "pinwire:1:{status}:eu-1:writer"]);
        assert!(look(&mut other, &mut second).await.is_writer);
        second.look(NOW, "us-1", State::Unavailable, "away");
        assert!(other.write(&second).await.unwrap());
        first.look(NOW, "us-1", State::Operational, "");
        assert!(!one.write(&first).await.unwrap());
        // Nor if it has the lease again, before it has read that.
        server.command(&["SET", "pinwire:1:{status}:eu-1:writer", &one.name]);
        assert!(!one.write(&first).await.unwrap());
        look(&mut one, &mut first).await;
        assert_eq!(first.history(), second.history());
        assert!(one.write(&first).await.unwrap());
    }

    #[tokio::test]
    async fn a_node_that_was_cut_off_takes_up_again_what_the_others_share() {
        let server = ServerRig::start(&Options::default());
        let (mut one, mut other) =
            (Shared::new(server.link(), "eu-1", "a"), Shared::new(server.link(), "eu-1", "b"));
        let (mut first, mut second) = (board(), board());
        look(&mut one, &mut first).await;
        first.look(NOW, "us-1", State::Operational, "");
        assert!(one.write(&first).await.unwrap());
        look(&mut other, &mut second).await;
        server.pause();
        assert!(other.look(&mut second, "healthy", true, NOW).await.is_err());
        second.look(NOW, "us-1", State::Unavailable, "away");
        server.resume();
        server.command(&["SET", "pinwire:1:{status}:eu-1:writer", &one.name]);
        assert!(!look(&mut other, &mut second).await.is_writer);
        assert!(!other.write(&second).await.unwrap());
        look(&mut other, &mut second).await;
        assert_eq!(second.history(), first.history());
    }

    #[tokio::test]
    async fn notices_come_to_all_nodes_and_go_when_nobody_needs_them() {
        let mut server = ServerRig::start(&Options::default());
        let (mut one, mut other) =
            (Shared::new(server.link(), "eu-1", "a"), Shared::new(server.link(), "eu-1", "b"));
        let (mut first, mut second) = (board(), board());
        look(&mut one, &mut first).await;
        let here = announce(&mut first, "m1");
        let there = announce(&mut second, "m2");
        assert!(one.note(&first).await.unwrap() && other.note(&second).await.unwrap());
        look(&mut other, &mut second).await;
        look(&mut one, &mut first).await;
        assert_eq!(first.notices, second.notices);
        assert_eq!(first.notices.iter().count(), 2);
        // Both change one at the same time: the second finds out, and who withdrew prevails.
        first.notices.merge(NOW, here.withdraw(NOW));
        let changed = here.change(NOW, here.told.clone()).unwrap();
        second.notices.merge(NOW, changed);
        assert!(other.note(&second).await.unwrap());
        assert!(!one.note(&first).await.unwrap());
        one.read_notices(&mut first, NOW).await.unwrap();
        assert!(one.note(&first).await.unwrap());
        look(&mut other, &mut second).await;
        assert!(second.notices.get("m1").unwrap().is_withdrawn);
        // Redis lost all: they are written again.
        server.command(&["FLUSHALL"]);
        assert!(look(&mut one, &mut first).await.is_writer && one.is_blank());
        assert!(one.note(&first).await.unwrap());
        let mut fresh = board();
        look(&mut Shared::new(server.link(), "eu-1", "c"), &mut fresh).await;
        assert_eq!(fresh.notices, first.notices);
        // Long after, the one that writes removes them.
        first.tidy(there.kept_until.plus(1));
        assert_eq!(first.notices.iter().count(), 0);
        assert!(one.note(&first).await.unwrap());
        assert_eq!(server.command(&["HLEN", "pinwire:1:{status}:eu-1:notices"]).trim(), ":0");
        server.kill();
        assert!(one.look(&mut first, "healthy", true, NOW).await.is_err());
    }

    #[tokio::test]
    async fn what_another_version_wrote_is_neither_lost_nor_taken_for_nothing() {
        let server = ServerRig::start(&Options::default());
        let mut shared = Shared::new(server.link(), "eu-1", "a");
        server.command(&["SET", "pinwire:1:{status}:eu-1:history", "x\n[1]"]);
        let looked = shared.look(&mut board(), "healthy", true, NOW).await;
        assert!(looked.unwrap_err().to_string().contains("another version"));
        assert!(!shared.write(&board()).await.unwrap());
        server.command(&["DEL", "pinwire:1:{status}:eu-1:history"]);
        server.command(&["HSET", "pinwire:1:{status}:eu-1:notices", "m9", "{\"later\":1}"]);
        server.command(&["SET", "pinwire:1:{status}:eu-1:mark", "x"]);
        let mut empty = board();
        assert!(look(&mut shared, &mut empty).await.is_writer);
        assert!(shared.note(&empty).await.unwrap());
        assert_eq!(server.command(&["HLEN", "pinwire:1:{status}:eu-1:notices"]).trim(), ":1");
    }
}
