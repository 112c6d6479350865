//! Searches, filters, and the columns they can use.

use crate::Api;
use crate::error::Result;
use crate::limits::Lane;
use crate::page_token::{self, Token};
use crate::reply::{self, Response};
use crate::request::Request;
use crate::rows::Rows;
use serde_json::{Value, json};
use shared::column::{self, ColumnKeys};
use shared::filter::{grid, pairs};
use shared::query::Page;
use shared::store::StoreError;
use std::sync::Arc;
use tracing::warn;

/// `POST /dataproductsearch`
pub(crate) async fn search(api: Arc<Api>, request: Request) -> Result<Response> {
    let (viewer, asker) = (request.viewer.clone(), request.asker);
    let (format, limit) = (api.settings.date_format.clone(), api.settings.query_limit);
    let (query, _) = request.body()?.read(move |body| Ok(pairs::parse(&body, &format, limit)?)).await?;
    Rows::of(&api, &viewer, asker, query).respond().await
}

/// `POST /filterdataproducts`
pub(crate) async fn filter(api: Arc<Api>, request: Request) -> Result<Response> {
    let (viewer, asker, headers) = (request.viewer.clone(), request.asker, request.headers.clone());
    let own = api.clone();
    // What came of the body is much less than the body, and lives as long as the search.
    let read = move |body: Value| {
        let (mut query, mut page) = grid::parse(&body)?;
        let list = own.pages.list(&headers, &query);
        match Token::read(&body, &query)? {
            Some(token) => token.follow_on(&body, &mut page, &mut query),
            None => own.pages.follow_on(list, page.page, &mut query),
        }
        Ok((query, page, list, page_token::search(&body)))
    };
    let ((query, page, list, search), _) = request.body()?.read(read).await?;
    let full = query.limit;
    let rows = Rows::of(&api, &viewer, asker, query).all().await?;
    let Page { page, page_size } = page;
    let end = rows.end.as_ref().filter(|_| rows.count == full);
    let token = search.zip(end).and_then(|(search, end)| Token::of(search, page + 1, end));
    if let Some(end) = rows.end {
        api.pages.remember(list, page, end);
    }
    let next = token.map(|token| format!(r#","nextPageToken":"{token}""#)).unwrap_or_default();
    let (rows, total) = (rows.text, rows.total);
    Ok(reply::json_text(format!(r#"{{"data":[{rows}],"total":{total},"page":{page},"pageSize":{page_size}{next}}}"#)))
}

/// `GET /muidatagridconfig`
pub(crate) async fn columns(api: Arc<Api>, request: Request) -> Result<Response> {
    let _turn = api.limits.turn(Lane::LookUps, request.asker).await?;
    let keys = keys(&api, &request).await?;
    let mut config = json!({ "columns": column::columns(&keys) });
    if keys.left_out > 0 {
        config["columns_left_out"] = keys.left_out.into();
    }
    Ok(reply::json(&config))
}

/// `GET /en/humanreadable`
pub(crate) async fn labels(api: Arc<Api>, request: Request) -> Result<Response> {
    let _turn = api.limits.turn(Lane::LookUps, request.asker).await?;
    Ok(reply::json(&column::human_readable(&keys(&api, &request).await?)))
}

/// The keys that rows have; none where the store cannot be asked. The columns and labels that do not depend on it are
/// true all the same, and a dashboard that is loaded meanwhile can say what is wrong.
async fn keys(api: &Api, request: &Request) -> Result<ColumnKeys> {
    match api.store.keys(&request.viewer).await {
        Err(StoreError::Unavailable(why) | StoreError::NotReady(why) | StoreError::TooLong(why)) => {
            warn!(error = %why, "columns and labels are answered without those of the metadata");
            Ok(ColumnKeys::default())
        }
        keys => Ok(keys?),
    }
}
