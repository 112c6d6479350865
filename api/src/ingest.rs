//! Products that pipelines announce: a folder on the volume, or metadata alone.

use crate::Api;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::request::{Request, text};
use serde_json::{Map, Value, json};
use shared::access::{Access, Ingested, Viewer};
use shared::folder::{BadFolder, Folder};
use shared::product::{BadMetadata, Product};
use shared::store::{Change, Outcome};
use shared::volume::{Found, ReadError, Root, Stamp, Volume};
use shared::yaml::YamlError;
use std::sync::Arc;
use tracing::info;
use uuid::Uuid;
use warp::http::StatusCode;

/// How often a file is read again because it changed while what it was before went to the store.
const ROUNDS: usize = 5;

/// The request of somebody whose announcements are taken.
async fn admitted(api: &Api, request: Request) -> Result<Request> {
    api.auth.may_ingest(&request.headers).await?;
    Ok(request)
}

/// `POST /ingestnewmetadata`. Whoever may not see what is there changes nothing, and is answered as if there were nothing.
pub(crate) async fn metadata(api: Arc<Api>, request: Request) -> Result<Response> {
    let request = admitted(&api, request).await?;
    let viewer = request.viewer.clone();
    let store_name = api.volume.origin().name.clone();
    let product = move |body| {
        let mut product = Product::from_metadata(body, &store_name).map_err(|error| match error {
            BadMetadata::NotAMap(_) | BadMetadata::Yaml(_) => ApiError::BadRequest(error.to_string()),
            BadMetadata::ExecutionBlock(_) | BadMetadata::TooMuch(_) => ApiError::Unprocessable(error.to_string()),
        })?;
        product.access =
            Access::brought(&product.metadata).map_err(|error| ApiError::Unprocessable(error.to_string()))?;
        Ok(product)
    };
    let (product, turn) = request.body()?.read(product).await?;
    let uid = product.uid;
    match turn.finish(async move { Ok(api.store.ingest(product, &viewer).await?) }).await? {
        Ingested::Taken => {}
        Ingested::Kept => info!(%uid, "metadata were brought by somebody who may not see what is there, which stays"),
        Ingested::Refused => return Err(ApiError::Restricting),
    }
    Ok(received("New data product metadata received and saved in the DPD datastore.", uid))
}

/// `POST /ingestnewdataproduct`. Anybody may have a file read again, which says itself who may see it; whoever may not is
/// answered as if there were none.
pub(crate) async fn data_product(api: Arc<Api>, request: Request) -> Result<Response> {
    let request = admitted(&api, request).await?;
    let viewer = request.viewer.clone();
    let volume = api.volume.clone();
    let wanted = move |body: Map<String, Value>| {
        let needed = || ApiError::BadRequest("The request needs an 'execution_block'.".to_owned());
        let execution_block = text(&body, "execution_block")?.ok_or_else(needed)?.to_owned();
        Ok((candidates(&body, &execution_block, &volume)?, execution_block))
    };
    let (candidates, execution_block) = request.body()?.read_object(wanted).await?;
    for folder in candidates {
        if let Some(uid) = announced(&api, &folder, &execution_block, &viewer).await? {
            return Ok(received("New data product received and search store index updated", uid));
        }
    }
    // The same for all, whatever there is.
    Err(ApiError::NotFound(format!(
        "There is no {} there, or it is of a data product that you may not see.",
        api.volume.origin().metadata_file
    )))
}

/// Takes in what is in a folder. `None` where that is nothing, or nothing that the caller may know of.
async fn announced(api: &Arc<Api>, folder: &Folder, execution_block: &str, viewer: &Viewer) -> Result<Option<Uuid>> {
    let mut known = None;
    // The version that is in the store because of us.
    let mut written = None;
    for _ in 0..ROUNDS {
        let found = match look(api, folder).await? {
            Ok(found) => found,
            Err(ReadError::Missing) => match written.take() {
                None => return Ok(None),
                // It went meanwhile. Whoever put another there since may have told the store of that already.
                Some(stamp) => {
                    api.store.apply(&[Change::Withdrawn { folder: folder.clone(), stamp }]).await?;
                    continue;
                }
            },
            Err(error) => {
                return if may_know(api, folder, &error, viewer).await? { Err(told(folder, &error)) } else { Ok(None) };
            }
        };
        let product = &found.product;
        known = viewer.may_see(&product.access).then_some(product.uid);
        if known.is_some() && product.execution_block != execution_block {
            return Err(ApiError::BadRequest("The metadata file names another execution block.".to_owned()));
        }
        let stamp = found.stamp;
        let outcomes = api.store.apply(&[Change::Found(found)]).await?;
        if outcomes != [Outcome::Unchanged] {
            written = Some(stamp);
        }
        // The indexer may have read a newer version meanwhile, which this one must not undo: what is on disk last is
        // also written last.
        if version(api, folder).await? == Some(stamp) {
            break;
        }
    }
    Ok(known)
}

/// Whether a caller may be told why a metadata file is not taken in.
async fn may_know(api: &Api, folder: &Folder, error: &ReadError, viewer: &Viewer) -> Result<bool> {
    let guarded = matches!(error, ReadError::Bad { guarded: true, .. });
    Ok(api.store.may_know(folder, viewer).await?.unwrap_or(!guarded))
}

/// What he is told.
fn told(folder: &Folder, error: &ReadError) -> ApiError {
    match error {
        ReadError::Outside => ApiError::BadRequest(format!("'{folder}' leads out of the storage path.")),
        ReadError::Bad { error, guarded: true, .. } => {
            ApiError::Unprocessable(format!("'{folder}': {}", place_only(error)))
        }
        error => ApiError::Unprocessable(format!("'{folder}': {error}")),
    }
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

/// Reads the metadata file of a folder, as a scan would.
async fn look(api: &Arc<Api>, folder: &Folder) -> Result<std::result::Result<Found, ReadError>> {
    let folder = folder.clone();
    on_volume(api, move |root| match root.read(&folder) {
        Err(ReadError::Missing) if root.leads_out(&folder) => Err(ReadError::Outside),
        read => read,
    })
    .await
}

/// The version of a folder's metadata file that there is now.
async fn version(api: &Arc<Api>, folder: &Folder) -> Result<Option<Stamp>> {
    let folder = folder.clone();
    on_volume(api, move |root| root.stamp(&folder)).await
}

/// Asks the volume where that holds up nobody.
async fn on_volume<T: Send + 'static>(api: &Arc<Api>, ask: impl FnOnce(&Root<'_>) -> T + Send + 'static) -> Result<T> {
    let volume = api.volume.clone();
    let asking = tokio::task::spawn_blocking(move || volume.open().map(|root| ask(&root)));
    let answer = asking.await.map_err(|_| ApiError::Internal)?;
    answer.map_err(|error| ApiError::Unavailable(format!("The volume cannot be read: {error}.")))
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
