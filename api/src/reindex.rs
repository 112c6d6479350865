//! A walk of the whole volume, asked for.

use crate::Api;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::request::Request;
use serde_json::json;
use shared::store::Reindex;
use std::sync::Arc;
use warp::http::StatusCode;

/// `GET` and `POST /reindexdataproducts`
pub(crate) async fn reindex(api: Arc<Api>, _: Request) -> Result<Response> {
    match api.store.request_reindex().await? {
        Reindex::Accepted => Ok(reply::json_with(
            StatusCode::ACCEPTED,
            &json!("Metadata re-index request has been added to the background tasks"),
        )),
        Reindex::InProgress => Err(ApiError::Conflict("A metadata re-index is already in progress.".to_owned())),
        Reindex::NoIndexer => Err(ApiError::Unavailable("No indexer is there to take the request.".to_owned())),
    }
}
