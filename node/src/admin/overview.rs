//! `/v1/node` and `/v1/threads`: numbers.

use std::net::IpAddr;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use pinwire_admin_api::node::{
    Counts, Dns, DnsTrouble, Drain, DrainStage, Driver, Flow, Node, Process, Thread, Threads, Times,
    TurnedAway, Upgrade, UpgradeState,
};
use pinwire_dns::Wanted;
use pinwire_engine::DriverInUse;
use time::OffsetDateTime;

use super::problem::Problem;
use super::routes::{Errors, Shared};
use super::standing::{standing_of, status_of};
use super::{Services, rfc3339};
use crate::dns::Status as DnsStatus;
use crate::drain::{Progress, Stage};
use crate::metrics::{CLOSED, Histogram, Process as Measured, Report};
use crate::peer::PeerStats;
use crate::upgrade::{Attempt, Became, Upgrades};

/// The node in numbers.
#[utoipa::path(
    get,
    path = "/v1/node",
    operation_id = "node",
    tag = "node",
    responses((status = 200, body = Node, description = "The node."), Errors)
)]
pub(super) async fn node(State(services): Shared) -> Json<Node> {
    let reports = services.plane.reports().await;
    Json(of_node(&services, &reports))
}

/// The data threads in numbers.
#[utoipa::path(
    get,
    path = "/v1/threads",
    operation_id = "threads",
    tag = "node",
    responses((status = 200, body = Threads, description = "The threads."), Errors)
)]
pub(super) async fn threads(State(services): Shared) -> Json<Threads> {
    let reports = services.plane.reports().await;
    let is_partial = reports.iter().any(Option::is_none);
    Json(Threads { threads: of_threads(&reports), is_partial })
}

pub(super) fn of_node(services: &Services, reports: &[Option<Report>]) -> Node {
    let mut totals = Counts::default();
    reports.iter().flatten().for_each(|report| add(&mut totals, &counts(report)));
    let drivers = reports.iter().flatten().filter_map(|report| report.driver);
    Node {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        region: services.region.clone(),
        name: Some(services.cluster.node.clone()),
        started: rfc3339(services.clock.started),
        uptime_seconds: services.clock.uptime().as_secs(),
        status: status_of(services.health.status()),
        standing: Some(standing_of(&services.health.standing())),
        // Threads fall back one by one: the lesser is the node's.
        driver: drivers.map(driver).max_by_key(|driver| *driver == Driver::Epoll),
        config_digest: services.digest.load().as_deref().cloned(),
        max_connections: services.max_connections,
        threads: u32::try_from(services.plane.threads()).unwrap_or(u32::MAX),
        totals,
        drain: drain(&services.drains.progress()),
        upgrade: services.upgrades.as_ref().and_then(Upgrades::last).map(of_upgrade),
        dns: services.dns.as_ref().map(|dns| of_dns(&dns.status())),
        flow: Some(flow(&services.stats.peer, reports)),
        process: process(&Measured::read()),
        is_partial: reports.iter().any(Option::is_none),
    }
}

/// What the threads that answered say of whoever dialled.
fn flow(links: &PeerStats, reports: &[Option<Report>]) -> Flow {
    let mut flow = Flow {
        carried_out: links.home_sessions.get(),
        carried_in: links.owner_sessions.get(),
        ..Flow::default()
    };
    for report in reports.iter().flatten() {
        let Report { stats, refused, times, .. } = report;
        flow.upgraded += times.handshake.count();
        flow.redirected += stats.redirect_refusals;
        let tokens: u64 = refused.tokens.each().map(|(_, count)| count).sum();
        // A check of a port is nobody who was turned away.
        let tls = refused.tls.each().filter(|(reason, _)| *reason != CLOSED);
        let (redirects, limits, waits) = (stats.redirect_refusals, stats.limit_refusals, stats.wait_refusals);
        let others = stats.refusals.saturating_sub(redirects + limits + waits + tokens);
        let all = tls
            .map(|(reason, count)| ("tls", reason, count))
            .chain(refused.handshakes.each().map(|(reason, count)| ("handshake", reason, count)))
            .chain(refused.tokens.each().map(|(reason, count)| ("token", reason, count)))
            .chain([("session", "limit", limits), ("session", "wait", waits), ("session", "other", others)]);
        for (at, reason, count) in all.filter(|(.., count)| *count > 0) {
            turn_away(&mut flow.turned_away, at, reason, count);
        }
    }
    flow
}

fn turn_away(all: &mut Vec<TurnedAway>, at: &str, reason: &str, count: u64) {
    match all.iter_mut().find(|known| known.at == at && known.reason == reason) {
        Some(known) => known.count += count,
        None => all.push(TurnedAway { at: at.to_owned(), reason: reason.to_owned(), count }),
    }
}

pub(super) fn drain(progress: &Progress) -> Option<Drain> {
    let stage = match progress.stage {
        Stage::Serving => return None,
        Stage::LeavingDns => DrainStage::LeavingDns,
        Stage::Leaving => DrainStage::Leaving,
        Stage::Closing => DrainStage::Closing,
        Stage::Over => DrainStage::Drained,
    };
    Some(Drain {
        stage,
        since: progress.since.map(at).unwrap_or_default(),
        connections_before: progress.connections_before.into(),
        carried: progress.carried.into(),
        deadline: progress.deadline.map(at),
    })
}

fn of_upgrade(Attempt { pid, became, since }: Attempt) -> Upgrade {
    let (state, error) = match became {
        Became::Starting => (UpgradeState::Starting, None),
        Became::Succeeded => (UpgradeState::Succeeded, None),
        Became::Failed(why) => (UpgradeState::Failed, Some(why)),
        Became::Lost(how) => (UpgradeState::Lost, Some(how)),
    };
    Upgrade { pid, state, since: at(since), error }
}

fn of_dns(status: &DnsStatus) -> Dns {
    let texts = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect();
    Dns {
        name: status.name.clone(),
        provider: status.provider.to_owned(),
        addresses: texts(&status.addresses),
        wants_in: status.wanted == Wanted::In,
        why: status.cause.to_string(),
        since: at(status.since),
        is_in: status.is_in,
        is_kept: status.is_kept,
        has: texts(&status.zone),
        seen: status.looked.map(at),
        failing: status.trouble.as_ref().map(|trouble| DnsTrouble {
            since: trouble.since.map(at),
            attempts: trouble.attempts,
            error: trouble.last.clone(),
        }),
    }
}

/// A moment of the monotonic clock as RFC 3339.
fn at(moment: Instant) -> String {
    let (now, now_utc) = (Instant::now(), OffsetDateTime::now_utc());
    rfc3339(now_utc + moment.saturating_duration_since(now) - now.saturating_duration_since(moment))
}

pub(super) fn of_threads(reports: &[Option<Report>]) -> Vec<Thread> {
    let thread = |(number, report): (usize, &Option<Report>)| Thread {
        thread: u16::try_from(number).unwrap_or(u16::MAX),
        is_up: report.is_some(),
        driver: report.as_ref().and_then(|report| report.driver).map(driver),
        counts: report.as_ref().map(counts),
        turn: report.as_ref().map(|report| times(&report.times.turn)),
    };
    reports.iter().enumerate().map(thread).collect()
}

fn driver(in_use: DriverInUse) -> Driver {
    match in_use {
        DriverInUse::Uring => Driver::IoUring,
        DriverInUse::Epoll => Driver::Epoll,
    }
}

fn counts(report: &Report) -> Counts {
    let stats = &report.stats;
    Counts {
        connections: report.connections as u64,
        documents: report.documents as u64,
        handshakes_pending: report.guests as u64,
        messages_received: stats.messages_received,
        messages_sent: stats.messages_sent,
        fan_out_frames: stats.frames_fanned_out,
        updates: stats.updates,
        updates_known: stats.updates_known,
        refusals: stats.refusals,
        closes: stats.closes,
        closes_slow_reader: stats.slow_readers,
        closes_idle: stats.idle,
        closes_invalid: stats.invalid,
        compactions: stats.compactions,
        log_entries_dropped: stats.entries_dropped,
    }
}

fn add(sum: &mut Counts, more: &Counts) {
    // Taken apart whole, so that a field that is added here cannot be forgotten.
    let Counts {
        connections,
        documents,
        handshakes_pending,
        messages_received,
        messages_sent,
        fan_out_frames,
        updates,
        updates_known,
        refusals,
        closes,
        closes_slow_reader,
        closes_idle,
        closes_invalid,
        compactions,
        log_entries_dropped,
    } = *more;
    sum.connections += connections;
    sum.documents += documents;
    sum.handshakes_pending += handshakes_pending;
    sum.messages_received += messages_received;
    sum.messages_sent += messages_sent;
    sum.fan_out_frames += fan_out_frames;
    sum.updates += updates;
    sum.updates_known += updates_known;
    sum.refusals += refusals;
    sum.closes += closes;
    sum.closes_slow_reader += closes_slow_reader;
    sum.closes_idle += closes_idle;
    sum.closes_invalid += closes_invalid;
    sum.compactions += compactions;
    sum.log_entries_dropped += log_entries_dropped;
}

fn times(histogram: &Histogram) -> Times {
    let count = histogram.count();
    let wanted = count - count / 100;
    let bound = histogram.cumulative().find(|(_, within)| *within >= wanted);
    let last = histogram.cumulative().last();
    Times {
        count,
        mean_seconds: if count == 0 { 0.0 } else { histogram.sum_seconds() / count as f64 },
        p99_seconds: if count == 0 { 0.0 } else { bound.or(last).map_or(0.0, |(seconds, _)| seconds) },
    }
}

fn process(measured: &Measured) -> Process {
    Process {
        resident_bytes: measured.resident_bytes.map(|bytes| bytes as u64),
        cpu_seconds: measured.cpu_seconds,
        open_files: measured.open_files.map(|files| files as u64),
        max_files: measured.max_files.map(|files| files as u64),
    }
}

/// What there is no path for.
pub(super) async fn nothing() -> Problem {
    Problem::not_found("there is no such resource; /v1/openapi.json describes all of them")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::handshake;

    #[test]
    fn whoever_is_turned_away_is_told_once_for_each_reason_and_a_check_of_the_port_is_nobody() {
        let mut refusals = crate::metrics::Refusals::default();
        let client = IpAddr::from([10, 0, 0, 1]);
        for reason in [handshake::OVERLOADED, handshake::OVERLOADED, handshake::BUDGET] {
            refusals.handshake(reason, client);
        }
        refusals.tls(pinwire_engine::Stage::Opening, CLOSED, client);
        let mut report = Report { refused: *refusals.counted(), ..Report::default() };
        report.stats.refusals = 9;
        report.stats.redirect_refusals = 6;
        report.stats.limit_refusals = 2;
        report.times.handshake.note(Duration::from_millis(1));
        let told = flow(&PeerStats::default(), &[Some(report.clone()), None, Some(report)]);
        let away: Vec<(&str, &str, u64)> =
            told.turned_away.iter().map(|away| (&*away.at, &*away.reason, away.count)).collect();
        assert_eq!(
            away,
            [
                ("handshake", "overloaded", 4),
                ("handshake", "budget", 2),
                ("session", "limit", 4),
                ("session", "other", 2)
            ]
        );
        assert_eq!((told.upgraded, told.redirected), (2, 12));
    }

    #[test]
    fn the_99th_of_100_is_found_in_its_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(times(&histogram), Times { count: 0, mean_seconds: 0.0, p99_seconds: 0.0 });
        (0..99).for_each(|_| histogram.note(Duration::from_micros(100)));
        histogram.note(Duration::from_millis(3));
        assert_eq!(times(&histogram).p99_seconds, 128e-6);
        histogram.note(Duration::from_millis(3));
        histogram.note(Duration::from_millis(3));
        assert_eq!(times(&histogram).p99_seconds, 4096e-6);
        let far = times(&{
            let mut far = Histogram::default();
            far.note(Duration::from_secs(1000));
            far
        });
        assert!(far.p99_seconds > 10.0 && far.mean_seconds == 1000.0, "{far:?}");
    }
}
