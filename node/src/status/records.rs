//! Where history and notices are kept.

use pinwire_status::{At, Board, Kept};
use tokio::time::timeout;

use super::file::StatusFile;
use super::shared::{Heard, Shared, SharedError};
use super::sightings::best;
use crate::regions::Condition;

/// How long a node that ends waits for its Redis.
const LEAVE_PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);
/// Somebody else may write a notice at the same time so often.
const TRIES: usize = 3;

/// Where they are kept, and whether that is within reach.
#[derive(Debug)]
pub(super) struct Records {
    place: Place,
    is_away: bool,
    /// What the board has is something else than what is kept.
    is_unwritten: bool,
}

#[derive(Debug)]
enum Place {
    Memory,
    File(StatusFile),
    Redis(Box<Shared>),
}

/// What a look came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    /// This node looks at regions by itself.
    pub(super) watches: bool,
    /// How the own region is.
    pub(super) own: Condition,
}

impl Records {
    pub(super) fn in_redis(shared: Shared) -> Self {
        Self::of(Place::Redis(Box::new(shared)))
    }

    /// `None`: they end with the process.
    pub(super) fn in_file(file: Option<StatusFile>, board: &mut Board, now: At) -> Self {
        let Some(file) = file else { return Self::of(Place::Memory) };
        file.read(board, now);
        Self::of(Place::File(file))
    }

    fn of(place: Place) -> Self {
        Self { place, is_away: false, is_unwritten: false }
    }

    /// Where the history comes from.
    pub(super) fn kept(&self) -> Kept {
        match &self.place {
            Place::Memory | Place::File(_) => Kept::Own,
            Place::Redis(_) if self.is_away => Kept::Apart,
            Place::Redis(_) => Kept::Shared,
        }
    }

    /// Whether what is kept now is kept for all whom it concerns.
    pub(super) fn is_within_reach(&self) -> bool {
        !self.is_away
    }

    /// Brings the board up to date. A node that drains leaves the writing to others.
    pub(super) async fn look(&mut self, board: &mut Board, own: Condition, now: At) -> Looked {
        let alone = Looked { watches: true, own };
        let Place::Redis(shared) = &mut self.place else { return alone };
        let looked = look(shared, board, own, now).await;
        match self.came_to(looked) {
            Some(Heard { is_writer, words }) => {
                Looked { watches: is_writer, own: best(words).unwrap_or(own) }
            }
            None => alone,
        }
    }

    /// Keeps what the board has; `has_changed` tells whether that is something else than before.
    pub(super) async fn keep(&mut self, board: &mut Board, has_changed: bool, now: At) {
        // What could not be written is once that is possible again.
        self.is_unwritten |= has_changed;
        let kept = match &mut self.place {
            Place::File(file) if self.is_unwritten => file.write(board).map_err(|error| error.to_string()),
            Place::Redis(shared) if !self.is_away => {
                keep(shared, board, self.is_unwritten, now).await.map_err(|error| error.to_string())
            }
            Place::Memory | Place::File(_) | Place::Redis(_) => return,
        };
        if self.came_to(kept).is_some() {
            self.is_unwritten = false;
        }
    }

    /// This node ends.
    pub(super) async fn leave(&self) {
        if let Place::Redis(shared) = &self.place
            && !self.is_away
        {
            // What is not said in time runs out by itself.
            let _ = timeout(LEAVE_PATIENCE, shared.leave()).await;
        }
    }

    /// Logged once each time that it goes, and that it is back.
    fn came_to<T, E: std::fmt::Display>(&mut self, outcome: Result<T, E>) -> Option<T> {
        let was_away = std::mem::replace(&mut self.is_away, outcome.is_err());
        match (outcome, was_away) {
            (Ok(value), false) => Some(value),
            (Ok(value), true) => {
                tracing::info!("the region's history of status is within reach again");
                Some(value)
            }
            (Err(error), false) => {
                tracing::warn!(%error, "the history of status cannot be kept: this node shows what it knows itself");
                None
            }
            (Err(_), true) => None,
        }
    }
}

async fn look(shared: &mut Shared, board: &mut Board, own: Condition, now: At) -> Result<Heard, SharedError> {
    shared.look(board, own.word(), own != Condition::Draining, now).await
}

async fn keep(
    shared: &mut Shared,
    board: &mut Board,
    is_unwritten: bool,
    now: At,
) -> Result<(), SharedError> {
    // Who does not hold the lease leaves that to whoever does.
    if is_unwritten || shared.is_blank() {
        shared.write(board).await?;
    }
    for _ in 0..TRIES {
        if shared.note(board).await? {
            break;
        }
        shared.read_notices(board, now).await?;
    }
    Ok(())
}
