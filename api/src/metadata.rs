//! The metadata of one product.

use crate::error::Result;
use crate::limits::Lane;
use crate::reply::{self, Response};
use crate::request::{Request, Wanted, wanted};
use crate::{Api, lookup};
use serde_json::Value;
use shared::row;
use std::sync::Arc;

/// `POST /dataproductmetadata`. An execution block with several products answers the one nearest to the storage path.
pub(crate) async fn metadata(api: Arc<Api>, request: Request) -> Result<Response> {
    let (viewer, asker) = (request.viewer.clone(), request.asker);
    let wanted = request.body()?.read_object(|body| wanted(&body)).await?;
    let _turn = api.limits.turn(Lane::LookUps, asker).await?;
    let product = match wanted {
        Wanted::Uid(uid) => lookup::product(&api, uid, &viewer).await?,
        Wanted::ExecutionBlock(id) => {
            let mut products = api.store.products_of(&id, &viewer).await?.into_iter();
            products.next().ok_or_else(lookup::unknown)?.product
        }
    };
    Ok(reply::json(&Value::Object(row::metadata(&product, &api.volume.origin().storage_path))))
}
