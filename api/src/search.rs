//! Searches, filters, and the columns they can use.

use crate::Api;
use crate::error::Result;
use crate::reply::{self, Response};
use crate::request::{BODY_LIMIT, Request};
use crate::rows::Rows;
use serde_json::json;
use shared::column;
use shared::filter::{grid, pairs};
use shared::query::Page;
use std::sync::Arc;

/// `POST /dataproductsearch`
pub(crate) async fn search(api: Arc<Api>, request: Request) -> Result<Response> {
    let viewer = request.viewer.clone();
    let body = request.json(BODY_LIMIT).await?;
    let query = pairs::parse(&body, &api.settings.date_format, api.settings.query_limit)?;
    Rows::of(&api, &viewer, query).respond().await
}

/// `POST /filterdataproducts`
pub(crate) async fn filter(api: Arc<Api>, request: Request) -> Result<Response> {
    let (viewer, headers) = (request.viewer.clone(), request.headers.clone());
    let (mut query, page) = grid::parse(&request.json(BODY_LIMIT).await?)?;
    let list = api.pages.list(&headers, &query);
    api.pages.follow_on(list, page.page, &mut query);
    let (rows, total, end) = Rows::of(&api, &viewer, query).all().await?;
    if let Some(end) = end {
        api.pages.remember(list, page.page, end);
    }
    let Page { page, page_size } = page;
    Ok(reply::json_text(format!(r#"{{"data":[{rows}],"total":{total},"page":{page},"pageSize":{page_size}}}"#)))
}

/// `GET /muidatagridconfig`
pub(crate) async fn columns(api: Arc<Api>, request: Request) -> Result<Response> {
    let keys = api.store.keys(&request.viewer).await?;
    Ok(reply::json(&json!({ "columns": column::columns(&keys) })))
}

/// `GET /en/humanreadable`
pub(crate) async fn labels(api: Arc<Api>, request: Request) -> Result<Response> {
    let keys = api.store.keys(&request.viewer).await?;
    Ok(reply::json(&column::human_readable(&keys)))
}
