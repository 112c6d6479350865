//! Products that pipelines announce: a folder on the volume, or metadata alone.

use crate::Api;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::request::{Request, text};
use serde_json::{Map, Value, json};
use shared::access::Viewer;
use shared::folder::{BadFolder, Folder};
use shared::product::{BadMetadata, Product};
use shared::store::{Change, Lookup};
use shared::volume::{Found, ReadError, Volume};
use shared::yaml::YamlError;
use std::sync::Arc;
use uuid::Uuid;
use warp::http::StatusCode;

/// How often a file is read again because it changed while what it was before went to the store.
const ROUNDS: usize = 5;

/// `POST /ingestnewmetadata`
pub(crate) async fn metadata(api: Arc<Api>, request: Request) -> Result<Response> {
    let viewer = request.viewer.clone();
    let store_name = api.volume.origin().name.clone();
    let product = move |body| {
        Product::from_metadata(body, &store_name).map_err(|error| match error {
            BadMetadata::NotAMap(_) | BadMetadata::Yaml(_) => ApiError::BadRequest(error.to_string()),
            BadMetadata::ExecutionBlock(_) | BadMetadata::TooMuch(_) => ApiError::Unprocessable(error.to_string()),
        })
    };
    let (product, turn) = request.body()?.read(product).await?;
    let uid = product.uid;
    may_replace(&api, &product, &viewer).await?;
    turn.finish(async move { Ok(api.store.ingest(product).await?) }).await?;
    Ok(received("New data product metadata received and saved in the DPD datastore.", uid))
}

/// Whoever may not see a product may replace it only by one for the same groups, as pipelines do that send no token: else
/// anybody could open to himself what others wrote about it.
async fn may_replace(api: &Api, product: &Product, viewer: &Viewer) -> Result<()> {
    match api.store.product(product.uid, viewer).await? {
        Lookup::Forbidden => match api.store.product(product.uid, &Viewer::unrestricted()).await? {
            Lookup::Found(before) if before.product.access != product.access => Err(ApiError::Forbidden),
            _ => Ok(()),
        },
        Lookup::Found(_) | Lookup::Unknown => Ok(()),
    }
}

/// `POST /ingestnewdataproduct`
pub(crate) async fn data_product(api: Arc<Api>, request: Request) -> Result<Response> {
    let volume = api.volume.clone();
    let wanted = move |body: Map<String, Value>| {
        let needed = || ApiError::BadRequest("The request needs an 'execution_block'.".to_owned());
        let execution_block = text(&body, "execution_block")?.ok_or_else(needed)?.to_owned();
        Ok((candidates(&body, &execution_block, &volume)?, execution_block))
    };
    let (candidates, execution_block) = request.body()?.read_object(wanted).await?;
    let mut found = read(&api, &candidates, &execution_block).await?;
    let uid = found.product.uid;
    let folder = found.product.folder.clone();
    for _ in 0..ROUNDS {
        // The indexer may have read a newer version meanwhile, which this one must not undo: what is on disk last is
        // also written last.
        let stamp = found.stamp;
        api.store.apply(&[Change::Found(found)]).await?;
        found = match read(&api, &candidates, &execution_block).await {
            Ok(again) if again.stamp == stamp => break,
            Ok(again) => again,
            Err(error) => {
                // It went meanwhile; whoever looked before us may have said so already.
                if let Some(folder) = folder.filter(|_| matches!(error, ApiError::NotFound(_))) {
                    api.store.apply(&[Change::Gone(folder)]).await?;
                }
                return Err(error);
            }
        };
    }
    Ok(received("New data product received and search store index updated", uid))
}

fn received(message: &str, uid: Uuid) -> Response {
    reply::json_with(StatusCode::CREATED, &json!({"status": "success", "message": message, "uid": uid.to_string()}))
}

/// Where the product may be, in the order in which it is looked for.
fn candidates(body: &Map<String, Value>, execution_block: &str, volume: &Volume) -> Result<Vec<Folder>> {
    let folder =
        |text: &str| text.parse::<Folder>().map_err(|error: BadFolder| ApiError::BadRequest(error.to_string()));
    let mut candidates = Vec::new();
    if let Some(relative) = text(body, "relativePathName")? {
        let relative = folder(relative)?;
        let last = volume.origin().storage_path.rsplit('/').next().unwrap_or_default();
        let without = relative.without_first(last);
        candidates.push(relative);
        candidates.extend(without);
    }
    candidates.push(folder(execution_block)?);
    match candidates.iter().find(|folder| volume.prunes_any(folder)) {
        Some(folder) => Err(ApiError::BadRequest(format!("'{folder}' lies in a folder that holds no data products."))),
        None => Ok(candidates),
    }
}

/// Reads the first of these folders that has a metadata file, as a scan would.
async fn read(api: &Arc<Api>, candidates: &[Folder], execution_block: &str) -> Result<Found> {
    let (volume, candidates) = (api.volume.clone(), candidates.to_vec());
    let found =
        tokio::task::spawn_blocking(move || first_of(&volume, &candidates)).await.map_err(|_| ApiError::Internal)??;
    if found.product.execution_block != execution_block {
        // It is not said which: the caller may not be one who may know.
        return Err(ApiError::BadRequest("The metadata file names another execution block.".to_owned()));
    }
    Ok(found)
}

/// Of a file that speaks of an access group, where it does not read, and nothing that stands in it.
fn place_only(error: &BadMetadata) -> String {
    match error {
        BadMetadata::Yaml(YamlError { line, column, .. }) => {
            format!("the metadata file cannot be read (line {line}, column {column})")
        }
        other => other.to_string(),
    }
}

fn first_of(volume: &Volume, candidates: &[Folder]) -> Result<Found> {
    let root = volume.open().map_err(|error| ApiError::Unavailable(format!("The volume cannot be read: {error}.")))?;
    for folder in candidates {
        match root.read(folder) {
            Ok(found) => return Ok(found),
            Err(ReadError::Missing) if !root.leads_out(folder) => {}
            Err(ReadError::Missing | ReadError::Outside) => {
                return Err(ApiError::BadRequest(format!("'{folder}' leads out of the storage path.")));
            }
            Err(ReadError::Bad { error, guarded: true, .. }) => {
                return Err(ApiError::Unprocessable(format!("'{folder}': {}", place_only(&error))));
            }
            Err(error) => return Err(ApiError::Unprocessable(format!("'{folder}': {error}"))),
        }
    }
    let looked: Vec<String> = candidates.iter().map(|folder| format!("'{folder}'")).collect();
    Err(ApiError::NotFound(format!("There is no {} in {}.", volume.origin().metadata_file, looked.join(" or "))))
}
