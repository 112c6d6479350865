//! Annotations: texts that people add to products. They are kept in PostgreSQL only; without it each call says so.

use crate::Api;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::request::{Request, text};
use serde_json::{Value, json};
use std::sync::Arc;
use warp::http::StatusCode;

/// The answer by contract, misspelling and all.
fn no_postgresql() -> Value {
    json!({
        "status": "Received but not processed",
        "message": "PostgresSQL is not available, cannot access data annotations.",
    })
}

/// `POST /annotation`
pub(crate) async fn save(_: Arc<Api>, request: Request) -> Result<Response> {
    let body = request.object().await?;
    for name in ["data_product_uid", "annotation_text"] {
        if text(&body, name)?.is_none() {
            return Err(ApiError::BadRequest(format!("An annotation needs '{name}'.")));
        }
    }
    Ok(reply::json_with(StatusCode::SERVICE_UNAVAILABLE, &no_postgresql()))
}

/// `GET /annotations/{uid}`
pub(crate) async fn list(_: Arc<Api>, _: Request) -> Result<Response> {
    Ok(reply::json_with(StatusCode::ACCEPTED, &no_postgresql()))
}
