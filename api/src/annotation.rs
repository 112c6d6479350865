//! Annotations: texts that people add to products. They are kept in PostgreSQL only; without it each call says so.

use crate::error::{ApiError, Result};
use crate::limits::Lane;
use crate::reply::{self, Response};
use crate::request::{Request, text};
use crate::{Api, lookup};
use futures::stream;
use serde_json::{Map, Value, json};
use shared::annotation::{self, Annotation, Draft, Part, Revision};
use shared::store::{ANNOTATIONS, Lookup, StoreError};
use std::sync::Arc;
use uuid::Uuid;
use warp::http::StatusCode;

/// The answer by contract, misspelling and all.
fn no_postgresql() -> Value {
    json!({
        "status": "Received but not processed",
        "message": "PostgresSQL is not available, cannot access data annotations.",
    })
}

/// `POST /annotation`
pub(crate) async fn save(api: Arc<Api>, request: Request) -> Result<Response> {
    let (viewer, headers) = (request.viewer.clone(), request.headers.clone());
    let read = |body: Map<String, Value>| {
        let (id, product) = (annotation_id(&body)?, text(&body, "data_product_uid")?.map(str::to_owned));
        let mut draft = Draft { product: Uuid::nil(), text: annotation_text(&body)?, author: String::new() };
        match (id, &product) {
            (None, Some(product)) => draft.product = uid(product)?,
            (None, None) => return Err(needed("data_product_uid")),
            (Some(_), _) => {}
        }
        Ok((draft, id, product))
    };
    let (mut draft, id, product) = request.body()?.read_object(read).await?;
    let Some(annotations) = api.store.annotations() else {
        return Ok(reply::json_with(StatusCode::SERVICE_UNAVAILABLE, &no_postgresql()));
    };
    draft.author = api.auth.author(&headers).await?;
    let Some(id) = id else {
        lookup::product(&api, draft.product, &viewer).await?;
        if !annotations.create(&draft).await? {
            return Err(ApiError::Conflict(format!(
                "There are {ANNOTATIONS} annotations of this data product by the same author, and no more can be kept; change \
                 one of them."
            )));
        }
        return Ok(saved(StatusCode::CREATED, "New Data Annotation received and successfully saved."));
    };
    // Whoever may not see the product is not told that there is an annotation of it.
    let unknown = || ApiError::NotFound(format!("There is no annotation {id}, or it is not of this data product."));
    draft.product = annotations.product_of(id).await?.ok_or_else(unknown)?;
    if product.is_some_and(|product| product.parse() != Ok(draft.product)) {
        return Err(unknown());
    }
    match api.store.product(draft.product, &viewer).await? {
        Lookup::Found(_) => {}
        Lookup::Unknown | Lookup::Forbidden => return Err(unknown()),
    }
    match annotations.update(id, &draft).await? {
        Revision::Done => Ok(saved(StatusCode::OK, "Data Annotation received and updated successfully.")),
        Revision::Unknown => Err(unknown()),
        Revision::NotTheAuthor => Err(ApiError::NotTheAuthor),
    }
}

fn saved(status: StatusCode, message: &str) -> Response {
    reply::json_with(status, &json!({"status": "success", "message": message}))
}

fn needed(name: &str) -> ApiError {
    ApiError::BadRequest(format!("An annotation needs '{name}'."))
}

/// What is to be written.
fn annotation_text(body: &Map<String, Value>) -> Result<String> {
    let text = text(body, "annotation_text")?.ok_or_else(|| needed("annotation_text"))?;
    annotation::check(text).map_err(|error| ApiError::BadRequest(format!("annotation_text {error}.")))?;
    Ok(text.to_owned())
}

fn uid(text: &str) -> Result<Uuid> {
    text.parse().map_err(|_| ApiError::BadRequest(format!("'{text}' is not a UUID.")))
}

/// The annotation that is to be changed; `None` for a new one. Old clients send the number as a string as well.
fn annotation_id(body: &Map<String, Value>) -> Result<Option<i64>> {
    let bad = || ApiError::BadRequest("annotation_id must be a whole number.".to_owned());
    match body.get("annotation_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| bad()),
        Some(number) => number.as_i64().map(Some).ok_or_else(bad),
    }
}

/// `GET /annotations/{uid}`. Those of a product that is not there are shown when it is back: until then nobody knows who
/// may see them. What is no uid has none.
pub(crate) async fn list(api: Arc<Api>, request: Request) -> Result<Response> {
    let Some(annotations) = api.store.annotations() else {
        return Ok(reply::json_with(StatusCode::ACCEPTED, &no_postgresql()));
    };
    let Ok(product) = request.parameter.unwrap_or_default().parse() else { return Ok(reply::empty()) };
    let asker = request.asker;
    let turn = api.limits.turn(Lane::LookUps, asker).await?;
    match lookup::product(&api, product, &request.viewer).await {
        Ok(_) => {}
        Err(ApiError::NotFound(_)) => return Ok(reply::empty()),
        Err(error) => return Err(error),
    }
    let Some((first, next)) = written(annotations.list(product, None).await?) else { return Ok(reply::empty()) };
    drop(turn);
    if next.is_none() {
        return Ok(reply::json_text(format!("[{first}]")));
    }
    // No connection to a database is held while a client reads.
    let more = stream::try_unfold(next, move |last| {
        let (api, own) = (api.clone(), api.clone());
        let part = async move {
            let (Some(last), Some(annotations)) = (last, own.store.annotations()) else { return Ok(None) };
            let _turn = own.limits.go_on(Lane::LookUps, asker).await;
            Ok::<_, StoreError>(written(annotations.list(product, Some(&last)).await?))
        };
        async move { api.work.of(part).await }
    });
    Ok(reply::array(&first, more))
}

/// A part as text, and the annotation that the next part follows on; `None` where nothing is in it.
fn written(Part { annotations, is_last }: Part) -> Option<(String, Option<Annotation>)> {
    let texts: Vec<String> = annotations.iter().map(|annotation| json!(annotation).to_string()).collect();
    let last = annotations.into_iter().next_back()?;
    Some((texts.join(","), (!is_last).then_some(last)))
}
