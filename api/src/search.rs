//! Searches, filters, and the columns they can use.

use crate::Api;
use crate::error::Result;
use crate::reply::{self, Response};
use crate::request::{BODY_LIMIT, Request};
use serde_json::{Value, json};
use shared::column;
use shared::filter::{grid, pairs};
use shared::row::row;
use shared::store::Hits;
use std::sync::Arc;

/// `POST /dataproductsearch`
pub(crate) async fn search(api: Arc<Api>, request: Request) -> Result<Response> {
    let viewer = request.viewer.clone();
    let body = request.json(BODY_LIMIT).await?;
    let query = pairs::parse(&body, &api.settings.date_format, api.settings.query_limit)?;
    let hits = api.store.search(query, &viewer).await?;
    Ok(reply::json(&rows(&hits)))
}

/// `POST /filterdataproducts`
pub(crate) async fn filter(api: Arc<Api>, request: Request) -> Result<Response> {
    let (viewer, headers) = (request.viewer.clone(), request.headers.clone());
    let (mut query, page) = grid::parse(&request.json(BODY_LIMIT).await?)?;
    let list = api.pages.list(&headers, &query);
    api.pages.follow_on(list, page.page, &mut query);
    let hits = api.store.search(query.clone(), &viewer).await?;
    api.pages.remember(list, page.page, &query, &hits);
    Ok(reply::json(&json!({
        "data": rows(&hits),
        "total": hits.total,
        "page": page.page,
        "pageSize": page.page_size,
    })))
}

fn rows(hits: &Hits) -> Value {
    hits.hits.iter().map(|hit| row(hit.id, &hit.product, hit.size)).collect()
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
