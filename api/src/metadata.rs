//! The metadata of one product.

use crate::Api;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::request::{Request, Wanted, wanted};
use serde_json::Value;
use shared::row;
use shared::store::Lookup;
use std::sync::Arc;

/// `POST /dataproductmetadata`. An execution block with several products answers the one nearest to the storage path.
pub(crate) async fn metadata(api: Arc<Api>, request: Request) -> Result<Response> {
    let (viewer, client) = (request.viewer.clone(), request.client);
    let unknown = || ApiError::NotFound("There is no such data product.".to_owned());
    let wanted = request.body()?.read_object(|body| wanted(&body)).await?;
    let _turn = api.limits.turn(client).await?;
    let hit = match wanted {
        Wanted::Uid(uid) => match api.store.product(uid, &viewer).await? {
            Lookup::Found(hit) => hit,
            Lookup::Forbidden => return Err(ApiError::Forbidden),
            Lookup::Unknown => return Err(unknown()),
        },
        Wanted::ExecutionBlock(id) => {
            api.store.products_of(&id, &viewer).await?.into_iter().next().ok_or_else(unknown)?
        }
    };
    Ok(reply::json(&Value::Object(row::metadata(&hit.product, &api.volume.origin().storage_path))))
}
