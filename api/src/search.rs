//! Searches, filters, and the columns they can use.

use crate::Api;
use crate::error::Result;
use crate::page_token::Token;
use crate::reply::{self, Response};
use crate::request::{BODY_LIMIT, Request};
use crate::rows::Rows;
use serde_json::json;
use shared::access::Viewer;
use shared::column::{self, ColumnKeys};
use shared::filter::{grid, pairs};
use shared::query::Page;
use shared::store::StoreError;
use std::sync::Arc;
use tracing::warn;

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
    let body = request.json(BODY_LIMIT).await?;
    let (mut query, mut page) = grid::parse(&body)?;
    let list = api.pages.list(&headers, &query);
    match Token::read(&body, &query)? {
        Some(token) => token.follow_on(&body, &mut page, &mut query),
        None => api.pages.follow_on(list, page.page, &mut query),
    }
    let full = query.limit;
    let rows = Rows::of(&api, &viewer, query).all().await?;
    let Page { page, page_size } = page;
    let token = rows.end.as_ref().filter(|_| rows.count == full).and_then(|end| Token::of(&body, page + 1, end));
    if let Some(end) = rows.end {
        api.pages.remember(list, page, end);
    }
    let next = token.map(|token| format!(r#","nextPageToken":"{token}""#)).unwrap_or_default();
    let (rows, total) = (rows.text, rows.total);
    Ok(reply::json_text(format!(r#"{{"data":[{rows}],"total":{total},"page":{page},"pageSize":{page_size}{next}}}"#)))
}

/// `GET /muidatagridconfig`
pub(crate) async fn columns(api: Arc<Api>, request: Request) -> Result<Response> {
    let keys = keys(&api, &request.viewer).await?;
    let mut config = json!({ "columns": column::columns(&keys) });
    if keys.left_out > 0 {
        config["columns_left_out"] = keys.left_out.into();
    }
    Ok(reply::json(&config))
}

/// `GET /en/humanreadable`
pub(crate) async fn labels(api: Arc<Api>, request: Request) -> Result<Response> {
    Ok(reply::json(&column::human_readable(&keys(&api, &request.viewer).await?)))
}

/// The keys that rows have; none where the store cannot be asked. The columns and labels that do not depend on it are
/// true all the same, and a dashboard that is loaded meanwhile can say what is wrong.
async fn keys(api: &Api, viewer: &Viewer) -> Result<ColumnKeys> {
    match api.store.keys(viewer).await {
        Err(StoreError::Unavailable(why) | StoreError::TooLong(why)) => {
            warn!("columns and labels are answered without those of the metadata: {why}");
            Ok(ColumnKeys::default())
        }
        keys => Ok(keys?),
    }
}
