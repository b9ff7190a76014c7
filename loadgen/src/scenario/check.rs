//! Contradictions in a scenario, all of them at once, and what follows from its parts.

use std::time::Duration;

use crate::run::address;
use crate::scenario::{Auth, Kind, Load, RawMode, Scenario};

/// Stands where a secret stood.
const HIDDEN: &str = "(hidden)";
/// Bytes of the least raw message, binary and text.
const RAW_MIN: [u32; 2] = [12, 24];

impl Scenario {
    /// Its kind's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Connect => "connect",
            Kind::Idle { .. } => "idle",
            Kind::Document { .. } => "document",
            Kind::Fanout { .. } => "fanout",
            Kind::Hot { .. } => "hot",
            Kind::Churn { .. } => "churn",
            Kind::ReconnectStorm { .. } => "reconnect-storm",
            Kind::SlowReader { .. } => "slow-reader",
            Kind::Redirect { .. } => "redirect",
            Kind::Soak { .. } => "soak",
            Kind::Raw { .. } => "raw",
        }
    }

    /// Sets `clients.count` to what documents and members ask for.
    pub fn settle(&mut self) {
        match self.kind {
            Kind::Document { documents, members, .. }
            | Kind::Soak { documents, members, .. }
            | Kind::SlowReader { documents, members, .. } => {
                self.clients.count = documents.saturating_mul(members);
            }
            _ => {}
        }
    }

    /// Everything that keeps it from being run, each with its mend.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut demand = |holds: bool, problem: &str| {
            if !holds {
                found.push(problem.to_owned());
            }
        };
        demand(!self.target.urls.is_empty(), "target.urls is empty: give --url");
        demand(self.clients.count > 0, "clients.count is 0: ask for at least one connection");
        demand(self.clients.dialling > 0, "clients.dialling is 0: nobody could dial");
        demand(self.clients.rate.is_none_or(|rate| rate > 0.0), "clients.rate must be above 0");
        let is_raw = matches!(self.kind, Kind::Raw { .. });
        demand(!self.target.discover || !is_raw, "target.discover: raw messages belong to no document");
        let is_redirect = matches!(self.kind, Kind::Redirect { .. });
        demand(
            !self.target.discover || !is_redirect,
            "target.discover: redirect is about clients that do not ask; leave --discover out",
        );
        demand(
            self.target.headers.iter().all(|header| header.contains(':')),
            "target.headers: write each as `Name: value`",
        );
        match &self.load {
            Load::Open { stages, .. } => {
                demand(!stages.is_empty(), "load.open.stages is empty: give --rate and --duration");
                let is_rate = |rate: f64| rate.is_finite() && rate >= 0.0;
                demand(
                    stages.iter().all(|stage| is_rate(stage.from) && is_rate(stage.to)),
                    "load.open.stages: a rate is negative",
                );
            }
            Load::Closed { in_flight, .. } => {
                demand(*in_flight > 0, "load.closed.in_flight is 0: nothing would be sent");
                let is_planned = matches!(self.kind, Kind::Connect | Kind::Churn { .. });
                demand(!is_planned, "this scenario has comings at a rate: use an open load (--rate)");
            }
        }
        self.kind_problems(&mut demand);
        if let Err(error) = address::sources(&self.generator.sources) {
            found.push(format!("generator.sources: {error:#}"));
        }
        found
    }

    fn kind_problems(&self, demand: &mut impl FnMut(bool, &str)) {
        match &self.kind {
            Kind::Document { documents, members, writers, edit_bytes, .. } => {
                demand(*documents > 0, "documents is 0");
                demand(*members > 1, "members is below 2: nobody would receive an edit");
                demand((1..=*members).contains(writers), "writers must be between 1 and members");
                demand(*edit_bytes > 0, "edit_bytes is 0");
            }
            Kind::Soak { documents, members, edit_bytes } => {
                demand(*documents > 0 && *members > 1, "soak needs documents of at least 2 members");
                demand(*edit_bytes > 0, "edit_bytes is 0");
            }
            Kind::SlowReader { documents, members, slow, edit_bytes, .. } => {
                demand(*documents > 0 && *edit_bytes > 0, "documents or edit_bytes is 0");
                demand(slow + 2 <= *members, "slow leaves fewer than two members that read as they should");
            }
            Kind::Fanout { edit_bytes } => {
                demand(*edit_bytes > 0, "edit_bytes is 0");
                demand(self.clients.count > 1, "fanout needs at least 2 connections");
            }
            Kind::Hot { documents, skew, edit_bytes } => {
                demand(*documents > 0 && *edit_bytes > 0, "documents or edit_bytes is 0");
                demand(*skew >= 0.0, "skew is negative");
                demand(
                    self.clients.count >= documents.saturating_mul(2),
                    "hot needs at least two connections for each document",
                );
            }
            Kind::Idle { documents_of, .. }
            | Kind::Churn { documents_of, .. }
            | Kind::ReconnectStorm { documents_of, .. } => demand(*documents_of > 0, "documents_of is 0"),
            Kind::Redirect { home_url } => {
                demand(
                    !home_url.is_empty(),
                    "redirect needs --home-url, where the documents are opened first",
                );
            }
            Kind::Raw { mode, text, bytes, topics, publishers, .. } => {
                demand(
                    *bytes >= RAW_MIN[usize::from(*text)],
                    "bytes is below what tells messages apart: at least 12 in binary frames, 24 in text frames",
                );
                if *mode != RawMode::Echo {
                    demand(*topics > 0 && *publishers > 0, "broadcast needs topics and publishers");
                }
            }
            Kind::Connect => {}
        }
    }

    /// As it may stand in a file that is passed on.
    pub(crate) fn without_secrets(&self) -> Scenario {
        let mut copy = self.clone();
        copy.target.auth = match copy.target.auth {
            Auth::None => Auth::None,
            Auth::Token(_) => Auth::Token(HIDDEN.into()),
            Auth::Secret(_) => Auth::Secret(HIDDEN.into()),
            Auth::Key(key) if Auth::is_pem(&key) => Auth::Key(HIDDEN.into()),
            Auth::Key(file) => Auth::Key(file),
        };
        copy
    }

    /// Stages in results.
    pub(crate) fn stage_count(&self) -> usize {
        self.stage_durations().len()
    }

    /// How long each stage lasts.
    pub(crate) fn stage_durations(&self) -> Vec<Duration> {
        match (&self.kind, &self.load) {
            (Kind::Idle { hold, .. }, _) => vec![*hold],
            (Kind::Redirect { .. }, _) => vec![Duration::ZERO],
            (_, Load::Open { stages, .. }) => stages.iter().map(|stage| stage.duration).collect(),
            (_, Load::Closed { duration, .. }) => vec![*duration],
        }
    }

    /// How long the load lasts, warm-up included.
    pub(crate) fn load_duration(&self) -> Duration {
        self.warm_up + self.stage_durations().iter().sum::<Duration>()
    }

    /// Whether the load is sends or comings at all.
    pub(crate) fn has_planned_sends(&self) -> bool {
        !matches!(self.kind, Kind::Idle { .. } | Kind::ReconnectStorm { .. } | Kind::Redirect { .. })
    }

    /// Whether all clients are to stand at one time.
    pub(crate) fn all_stand(&self) -> bool {
        !matches!(self.kind, Kind::Connect)
    }

    /// Whether each document gets one edit at the end.
    pub(crate) fn has_final_edit(&self) -> bool {
        match self.kind {
            Kind::Idle { update_at_end, .. } => update_at_end,
            Kind::ReconnectStorm { .. } | Kind::Redirect { .. } => true,
            _ => false,
        }
    }

    /// Bytes of text in an edit; none where messages are no edits.
    pub(crate) fn edit_bytes(&self) -> Option<u32> {
        match self.kind {
            Kind::Document { edit_bytes, .. }
            | Kind::Fanout { edit_bytes }
            | Kind::Hot { edit_bytes, .. }
            | Kind::SlowReader { edit_bytes, .. }
            | Kind::Soak { edit_bytes, .. } => Some(edit_bytes),
            Kind::Raw { .. } => None,
            _ => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::presets::preset;
    use crate::scenario::{Kind, Load};

    #[test]
    fn all_problems_are_told_at_once() {
        let mut scenario = preset("document").unwrap();
        scenario.target.urls.clear();
        scenario.clients.dialling = 0;
        scenario.generator.sources = vec!["nowhere".into()];
        scenario.kind = Kind::Document {
            documents: 0,
            members: 1,
            writers: 5,
            edit_bytes: 0,
            awareness_rate: 0.0,
            awareness_bytes: 0,
        };
        assert_eq!(scenario.problems().len(), 7);
    }

    #[test]
    fn a_closed_load_of_comings_is_refused() {
        let mut scenario = preset("connect").unwrap();
        scenario.load = Load::Closed { in_flight: 1, duration: std::time::Duration::from_secs(1) };
        assert!(scenario.problems()[0].contains("--rate"));
    }
}
