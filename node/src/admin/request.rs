//! What requests say: taken strictly, so that a slip is told rather than ignored.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Problem;

/// The query string.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|wrong| Problem::malformed(wrong.body_text()))
    }
}

/// What stands in the path.
#[derive(Debug)]
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|wrong| Problem::malformed(wrong.body_text()))
    }
}

/// A body in JSON: an object.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // Read as an object first: a list of its values would be taken for a struct too.
        let body: Result<Json<Map<String, Value>>, JsonRejection> = Json::from_request(request, state).await;
        let object = body.map_err(|wrong| Problem::body(wrong.status(), wrong.body_text()))?.0;
        let value = serde_json::from_value(Value::Object(object));
        let invalid = |wrong: serde_json::Error| {
            Problem::body(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("the body is not what is wanted: {wrong}"),
            )
        };
        value.map(Self).map_err(invalid)
    }
}

/// How many things a page has.
pub(super) fn page_size(limit: Option<usize>, most: usize) -> Result<usize, Problem> {
    match limit {
        None => Ok(most.min(100)),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::malformed(format!("limit has to lie between 1 and {most}"))),
    }
}
