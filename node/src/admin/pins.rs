//! `/v1/pins/...`: what an operator can have done with a pin.

use axum::extract::State;
use axum::{Extension, Json};
use pinwire_admin_api::actions::{Action, Who};
use pinwire_admin_api::cluster::Unpinned;
use pinwire_admin_api::events::What;
use pinwire_registry::{Answer, AppName, DocumentName, Request};
use serde::Deserialize;
use utoipa::IntoParams;

use super::actions::recorded;
use super::cluster::{away, tell_pin};
use super::problem::Problem;
use super::request::{InPath, Parameters};
use super::routes::{Errors, Meaningless, NotFound, Shared};

/// Which pin.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PinPath {
    /// Whose it is.
    pub(super) tenant: String,
    /// Of which app.
    pub(super) app: String,
    /// Its name within the app.
    pub(super) name: String,
}

impl PinPath {
    /// As registries know it.
    pub(super) fn document(&self) -> DocumentName {
        let app = AppName(format!("{}::{}", self.tenant, self.app).into());
        DocumentName { app, name: self.name.as_str().into() }
    }
}

/// Whose registry.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LicenseParameters {
    /// The license region whose registry has the pin. Needed where there are several.
    pub(super) db_code: Option<String>,
}

/// Takes a document away from the region that has it, whatever state that region is in. Its nodes close the document's clients with
/// 1012, which has them come again, and nobody goes on under the claim; once they have left it, or their leases have run out, any
/// region may open it. What only the region's session store had of it is gone: clients bring what they have.
#[utoipa::path(
    delete,
    path = "/v1/pins/{tenant}/{app}/{name}",
    operation_id = "unpin",
    tag = "cluster",
    params(PinPath, LicenseParameters),
    responses((status = 200, body = Unpinned, description = "Nobody has it any more."), NotFound, Meaningless, Errors)
)]
pub(super) async fn unpin(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<PinPath>,
    Parameters(asked): Parameters<LicenseParameters>,
) -> Result<Json<Unpinned>, Problem> {
    let license = services.license(asked.db_code.as_deref())?;
    let document = path.document();
    let PinPath { tenant, app, name } = path;
    recorded(services, who, Action::Unpin { tenant, app, name }, move |services| async move {
        let request = Request::Unpin { document: document.clone() };
        let Answer::Located(pin) = services.ask(license, request).await? else { return Err(away()) };
        let pin = pin.ok_or_else(|| Problem::not_found("no region has this document"))?;
        let region = pin.owner.region.to_string();
        services.events.note(What::Unpinned { document: document.to_string(), region });
        let lease = services.cluster.lease.as_secs().max(1);
        let idle_within_seconds = if pin.nodes.is_empty() { 0 } else { lease };
        Ok(Unpinned { pin: tell_pin(&pin), idle_within_seconds })
    })
    .await
}
