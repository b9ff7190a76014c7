//! `/v1/store`: removing documents that are kept on disk, for good.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use pinwire_admin_api::actions::{Action, Erased, Who};
use pinwire_admin_api::events::What;
use pinwire_shard::DocumentName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Services;
use super::actions::{recorded, strings};
use super::documents::DocumentPath;
use super::problem::Problem;
use super::request::InPath;
use super::routes::{Conflict, Errors, Shared};
use crate::store::{EraseError, Which};

/// An app.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct AppPath {
    /// Whose it is.
    pub(super) tenant: String,
    /// Its id.
    pub(super) app: String,
}

/// Removes what the store has of a document, for good: its bytes are overwritten. One that is open has to be ended before.
#[utoipa::path(
    delete,
    path = "/v1/store/documents/{tenant}/{app}/{name}",
    operation_id = "erase_document",
    tag = "store",
    params(DocumentPath),
    responses((status = 200, body = Erased, description = "Nothing of it is left."), Conflict, Errors)
)]
pub(super) async fn erase_document(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<DocumentPath>,
) -> Result<Json<Erased>, Problem> {
    let document = DocumentName::from(path);
    let which = Which::Document(document.to_string());
    let (tenant, app, name) = strings(&document);
    let what = Action::EraseDocument { tenant, app, name };
    recorded(services, who, what, move |services| erase(services, which)).await
}

/// Removes what the store has of every document of an app, for good: the bytes are overwritten. None of them may be open.
#[utoipa::path(
    delete,
    path = "/v1/store/apps/{tenant}/{app}",
    operation_id = "erase_app",
    tag = "store",
    params(AppPath),
    responses((status = 200, body = Erased, description = "Nothing of them is left."), Conflict, Errors)
)]
pub(super) async fn erase_app(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(AppPath { tenant, app }): InPath<AppPath>,
) -> Result<Json<Erased>, Problem> {
    let which = Which::App { tenant: tenant.clone(), app: app.clone() };
    recorded(services, who, Action::EraseApp { tenant, app }, move |services| erase(services, which)).await
}

async fn erase(services: Arc<Services>, which: Which) -> Result<Erased, Problem> {
    let missing = || Problem::conflict("this node keeps nothing on disk: store.path is not set");
    let store = services.store.as_ref().ok_or_else(missing)?;
    match store.erase(which).await {
        Ok(documents) => {
            let documents = documents as u64;
            services.events.note(What::Erased { documents });
            Ok(Erased { documents })
        }
        Err(error @ EraseError::Open(_)) => Err(Problem::conflict(error.to_string())),
        Err(error @ EraseError::Away(_)) => Err(Problem::unavailable(error.to_string())),
    }
}
