//! Requests that concern every partition: lives, renewals, lists.

use super::reply::{Parts, Read, history_of};
use super::{Inner, check_name, check_region};
use crate::{Answer, AppName, AppUse, DocumentName, Node, NodeView, OutOfReach, Pin, Renewed, Share};
use futures_util::future::try_join_all;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between the pieces of a sweep: most of the server's time is for others.
const SWEEP_EVERY: Duration = Duration::from_millis(5);
/// Pieces that one renewal sets off at most; the next goes on.
const SWEEP_PIECES_MAX: u32 = 500;

/// What a renewal brought from one partition.
struct Piece {
    renewed: Renewed,
    history: String,
    has_more: bool,
}

impl Inner {
    pub(super) async fn register(&self, view: &NodeView, lease_us: u64) -> Read<Answer> {
        check_region(&view.node.region)?;
        check_name(&view.node.name)?;
        let pieces = try_join_all((0..self.partitions.len()).map(|partition| async move {
            let node = &view.node;
            let call = self.on(&self.scripts.register, partition).arg(node.to_string()).arg(&*node.region);
            let call = call.arg(&*view.ws_url).arg(&*view.peer_address).arg(&*view.version);
            let (now, mut parts) = self.run(call.arg(self.revision).arg(lease_us).arg(&*view.admin_url)).await?;
            if parts.text()? == "outdated" {
                let reason = format!(
                    "nodes of a later version write the registry (revision {}), this one knows revision {}: upgrade it",
                    parts.number()?,
                    self.revision
                );
                return Err(OutOfReach { reason: reason.into() });
            }
            Ok((now, history_of(&parts.text()?, &parts.text()?)))
        }))
        .await?;
        let now = pieces.iter().map(|(now, _)| *now).max().unwrap_or(0);
        let histories: Vec<String> = pieces.into_iter().map(|(_, history)| history).collect();
        let history = combined(&histories);
        let (lost, shares, records) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Answer::Renewed(Renewed { now, history, lost, shares, records }))
    }

    pub(super) async fn renew(
        self: &Arc<Self>,
        node: &Node,
        lease_us: u64,
        apps: &[AppUse],
        versions: &[(AppName, u64)],
    ) -> Read<Answer> {
        let partitions = 0..self.partitions.len();
        let pieces = try_join_all(
            partitions.map(|partition| self.renew_in(partition, node, lease_us, apps, versions)),
        )
        .await?;
        let unknown = pieces.iter().filter(|piece| piece.is_none()).count();
        if unknown > 0 {
            if unknown < pieces.len() {
                // It goes on as a new life: the old one must not hold anything where it is still known.
                self.retire(node, lease_us).await?;
            }
            return Ok(Answer::Unknown);
        }
        let pieces: Vec<Piece> = pieces.into_iter().flatten().collect();
        let unswept = pieces.iter().enumerate().filter(|(_, piece)| piece.has_more).map(|(index, _)| index);
        self.sweep(unswept.collect());
        Ok(Answer::Renewed(merged(pieces)))
    }

    async fn renew_in(
        &self,
        partition: usize,
        node: &Node,
        lease_us: u64,
        apps: &[AppUse],
        versions: &[(AppName, u64)],
    ) -> Read<Option<Piece>> {
        let is_here = |app: &AppName| self.partitions.of(app) == partition;
        let apps: Vec<&AppUse> = apps.iter().filter(|used| is_here(&used.app)).collect();
        let mut call =
            self.on(&self.scripts.renew, partition).arg(node.to_string()).arg(lease_us).arg(apps.len());
        for used in apps {
            check_name(&used.app.0)?;
            call = call.arg(&*used.app.0).arg(used.connections).arg(used.wanted).arg(used.max_connections);
        }
        for (app, version) in versions.iter().filter(|(app, _)| is_here(app)) {
            call = call.arg(&*app.0).arg(*version);
        }
        let (now, mut parts) = self.run(call).await?;
        if parts.text()? == "unknown" {
            return Ok(None);
        }
        let history = history_of(&parts.text()?, &parts.text()?);
        let lost = parts.parts()?.each(Parts::lost)?;
        let share =
            |mut part: Parts| Ok(Share { app: AppName(part.text()?.into()), connections: part.count()? });
        let shares = parts.parts()?.each(share)?;
        let records = parts.parts()?.each(Parts::app_record)?;
        let has_more = parts.number()? == 1;
        let renewed = Renewed { now, history: "".into(), lost, shares, records };
        Ok(Some(Piece { renewed, history, has_more }))
    }

    pub(super) async fn retire(&self, node: &Node, grace_us: u64) -> Read<Answer> {
        try_join_all((0..self.partitions.len()).map(|partition| {
            self.run(self.on(&self.scripts.retire, partition).arg(node.to_string()).arg(grace_us))
        }))
        .await?;
        Ok(Answer::Done)
    }

    /// Takes what dead nodes held out of the pins, beside everything else.
    fn sweep(self: &Arc<Self>, partitions: Vec<usize>) {
        if partitions.is_empty() || self.is_sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = self.clone();
        tokio::spawn(async move {
            for partition in partitions {
                for _ in 0..SWEEP_PIECES_MAX {
                    let piece = inner.run(inner.on(&inner.scripts.sweep, partition)).await;
                    let has_more = piece.and_then(|(_, mut parts)| parts.number());
                    if has_more != Ok(1) {
                        break;
                    }
                    tokio::time::sleep(SWEEP_EVERY).await;
                }
            }
            inner.is_sweeping.store(false, Ordering::Release);
        });
    }

    /// Every partition has all nodes: the first tells them.
    pub(super) async fn nodes(&self) -> Read<Answer> {
        let (_, mut parts) = self.run(self.on(&self.scripts.nodes, 0)).await?;
        let mut nodes = parts.parts()?.each(Parts::node_view)?;
        nodes.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(Answer::Nodes(nodes))
    }

    pub(super) async fn pins(&self, after: Option<&DocumentName>, limit: u32) -> Read<Answer> {
        let partitions = 0..self.partitions.len();
        let pages = try_join_all(partitions.map(|partition| self.page(partition, after, limit))).await?;
        let mut pins: Vec<Pin> = pages.into_iter().flatten().collect();
        pins.sort_by(|one, other| one.document.cmp(&other.document));
        pins.truncate(limit as usize);
        Ok(Answer::Pins(pins))
    }

    async fn page(&self, partition: usize, after: Option<&DocumentName>, limit: u32) -> Read<Vec<Pin>> {
        let mut pins = Vec::new();
        let (mut app, mut name) =
            after.map_or_else(Default::default, |after| (after.app.0.to_string(), after.name.to_string()));
        while pins.len() < limit as usize {
            let call =
                self.on(&self.scripts.pins, partition).arg(&app).arg(&name).arg(limit as usize - pins.len());
            let (now, mut parts) = self.run(call).await?;
            (app, name) = (parts.text()?, parts.text()?);
            pins.extend(parts.parts()?.each(|mut part| {
                let app = AppName(part.text()?.into());
                part.parts()?.pin(&app, now)
            })?);
            if app.is_empty() {
                break;
            }
        }
        Ok(pins)
    }
}

/// One history of all partitions: of one server as it says it, of several a hash.
fn combined(histories: &[String]) -> Arc<str> {
    if let [history] = histories {
        return history.as_str().into();
    }
    let mut hasher = DefaultHasher::new();
    histories.hash(&mut hasher);
    format!("cluster-{:016x}", hasher.finish()).into()
}

fn merged(pieces: Vec<Piece>) -> Renewed {
    let (mut now, mut histories) = (0, Vec::new());
    let (mut lost, mut shares, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        now = now.max(piece.renewed.now);
        histories.push(piece.history);
        lost.extend(piece.renewed.lost);
        shares.extend(piece.renewed.shares);
        records.extend(piece.renewed.records);
    }
    lost.sort_by(|one: &(DocumentName, _), other| one.0.cmp(&other.0));
    shares.sort_by(|one: &Share, other| one.app.cmp(&other.app));
    records.sort_by(|one: &(AppName, _), other| one.0.cmp(&other.0));
    Renewed { now, history: combined(&histories), lost, shares, records }
}
