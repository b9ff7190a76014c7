//! `/v1/pins/{tenant}/{app}/{name}/move`: an active document goes to another region.

use axum::extract::State;
use axum::{Extension, Json};
use pinwire_admin_api::actions::{Action, DocumentMoved, MoveRequest, Who};
use pinwire_cluster::{Outcome, Unmoved};
use pinwire_registry::{Answer, AppName, Request};
use pinwire_shard::DocumentName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Services;
use super::actions::{recorded, strings};
use super::cluster::away;
use super::documents::DocumentPath;
use super::problem::Problem;
use super::request::{Body, InPath, Parameters};
use super::routes::{BodyErrors, Conflict, Errors, NotFound, Shared};
use crate::apps::Record;
use crate::config::RegionStatus;
use crate::peer::{NoWay, Relay};

/// Which license region.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct MoveParameters {
    /// The document's license region. Needed where there are several.
    db_code: Option<String>,
}

/// Moves a document to another region while it is worked on. Its clients are sent there, or carried; what was acknowledged is there
/// before them.
#[utoipa::path(
    post,
    path = "/v1/pins/{tenant}/{app}/{name}/move",
    operation_id = "move_document",
    tag = "cluster",
    params(DocumentPath, MoveParameters),
    request_body = MoveRequest,
    responses((status = 200, body = DocumentMoved, description = "It is there."), NotFound, Conflict, BodyErrors, Errors)
)]
pub(super) async fn move_document(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<DocumentPath>,
    Parameters(asked): Parameters<MoveParameters>,
    Body(wanted): Body<MoveRequest>,
) -> Result<Json<DocumentMoved>, Problem> {
    let license = services.license(asked.db_code.as_deref())?;
    let document = DocumentName::from(path);
    let (tenant, app, name) = strings(&document);
    let region = wanted.region;
    let what = Action::MoveDocument { tenant, app, name, region: region.clone() };
    recorded(services, who, what, move |services| async move {
        let relay = services.movable()?;
        services.takes_documents(license, &region).await?;
        services.is_allowed(license, &document, &region).await?;
        let outcome = relay.move_to(license, document, region.as_str().into()).await;
        let outcome = outcome.ok_or_else(|| Problem::unavailable("the node stops"))?;
        moved(outcome, region)
    })
    .await
}

fn moved(outcome: Result<Outcome, NoWay>, region: String) -> Result<DocumentMoved, Problem> {
    let why = match outcome {
        Ok(Outcome::Moved { from, claim }) => {
            return Ok(DocumentMoved { from: from.to_string(), region, claim: claim.to_string() });
        }
        Ok(Outcome::Here(_)) => {
            return Err(Problem::conflict(format!("the document is in {region} already")));
        }
        Ok(Outcome::Unmoved(why)) => why,
        Err(NoWay::NoNode) => {
            return Err(Problem::conflict(format!(
                "no node of {region} that others can reach is registered; set cluster.peer_listen and \
                 cluster.peer_address on its nodes"
            )));
        }
        Err(NoWay::Unreached) => {
            return Err(Problem::unavailable(format!("no node of {region} could be reached")));
        }
        Err(NoWay::Silent) => {
            return Err(Problem::unavailable(format!(
                "the node of {region} that was asked did not say what came of it; look at /v1/pins"
            )));
        }
    };
    Err(match why {
        Unmoved::Idle => {
            Problem::not_found("the document is idle: whoever opens it next decides where it is")
        }
        Unmoved::Stale | Unmoved::Busy | Unmoved::NotReady | Unmoved::Full | Unmoved::Older => {
            Problem::conflict(format!("{why}; the document stays where it is"))
        }
        Unmoved::NoSession => Problem::conflict(format!(
            "{why}; its nodes need cluster.session, and if they have it, ask again in a moment"
        )),
        Unmoved::Unsure => Problem::unavailable(format!("{why}; look at /v1/pins")),
        Unmoved::OutOfReach | Unmoved::Unreached | Unmoved::StoreAway => {
            Problem::unavailable(why.to_string())
        }
    })
}

impl Services {
    /// The way to other nodes, if this one can move documents.
    fn movable(&self) -> Result<Relay, Problem> {
        let missing = |what| Err(Problem::conflict(what));
        if self.cluster.session.is_none() {
            return missing(
                "documents are in this node's memory or on its disk and cannot be moved; set cluster.session",
            );
        }
        match &self.relay {
            Some(relay) => Ok(relay.clone()),
            None => missing(
                "this node has no links to others; set cluster.peer_listen and cluster.peer_secret_file",
            ),
        }
    }

    /// Whether there is such a region, and it takes documents.
    async fn takes_documents(&self, license: u8, region: &str) -> Result<(), Problem> {
        match self.catalogue.get(region).map(|place| place.status()) {
            Some(RegionStatus::Live) => return Ok(()),
            Some(status) => {
                let what = format!("{region} takes no documents: its status is `{}`", status.word());
                return Err(Problem::conflict(what));
            }
            None => {}
        }
        // A catalogue need not name them all.
        let Answer::Nodes(nodes) = self.ask(license, Request::Nodes).await? else { return Err(away()) };
        if nodes.iter().any(|node| *node.node.region == *region) {
            return Ok(());
        }
        let known: Vec<&str> = self.catalogue.iter().map(|place| place.name()).collect();
        let what = format!("region: there is no `{region}`; there are {}", known.join(", "));
        Err(Problem::parameter("region", what))
    }

    /// Whether the app's documents may be there.
    async fn is_allowed(&self, license: u8, document: &DocumentName, region: &str) -> Result<(), Problem> {
        let app = AppName(format!("{}::{}", document.tenant, document.app).into());
        let Answer::App(said) = self.ask(license, Request::App { app }).await? else { return Err(away()) };
        let record = said.record.and_then(|record| Record::parse(&document.tenant, &record).ok());
        if record.is_none_or(|record| record.allows(region)) {
            return Ok(());
        }
        Err(Problem::conflict(format!("the app's record does not allow {region}")))
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use pinwire_registry::Claim;

    use super::*;

    #[test]
    fn what_came_of_a_move_is_told_by_its_status() {
        let status = |outcome| match moved(outcome, "us-east-1".to_owned()) {
            Ok(_) => 200,
            Err(problem) => problem.into_response().status().as_u16(),
        };
        let claim = Claim { epoch: 1, nonce: 2 };
        assert_eq!(status(Ok(Outcome::Moved { from: "eu-central-1".into(), claim })), 200);
        for (why, code) in [
            (Unmoved::Idle, 404),
            (Unmoved::Stale, 409),
            (Unmoved::Busy, 409),
            (Unmoved::NotReady, 409),
            (Unmoved::Full, 409),
            (Unmoved::NoSession, 409),
            (Unmoved::Older, 409),
            (Unmoved::Unsure, 503),
            (Unmoved::OutOfReach, 503),
            (Unmoved::Unreached, 503),
            (Unmoved::StoreAway, 503),
        ] {
            assert_eq!(status(Ok(Outcome::Unmoved(why))), code, "{why:?}");
        }
        assert_eq!(status(Ok(Outcome::Here(claim))), 409);
        assert_eq!(status(Err(NoWay::NoNode)), 409);
        assert_eq!(status(Err(NoWay::Unreached)), 503);
        assert_eq!(status(Err(NoWay::Silent)), 503);
    }
}
