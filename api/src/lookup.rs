//! One product that is asked for by its uid, and what those are told who may not see it.

use crate::Api;
use crate::error::{ApiError, Result};
use shared::access::{Standing, Viewer};
use shared::product::Product;
use shared::store::Lookup;
use std::sync::Arc;
use uuid::Uuid;

/// The product of a uid.
///
/// # Errors
/// [`ApiError::Forbidden`] where whoever asks is known and may not see it. For a stranger it is [not there](unknown), since
/// uids can be reckoned from names. Of whom it could not be found out who he is, neither may be told: that is
/// [`ApiError::Forbidden`] for both.
pub(crate) async fn product(api: &Api, uid: Uuid, viewer: &Viewer) -> Result<Arc<Product>> {
    match (api.store.product(uid, viewer).await?, viewer.standing()) {
        (Lookup::Found(hit), _) => Ok(hit.product),
        (Lookup::Forbidden, Standing::Known) | (_, Standing::Unsettled) => Err(ApiError::Forbidden),
        (Lookup::Forbidden | Lookup::Unknown, _) => Err(unknown()),
    }
}

/// That there is none.
pub(crate) fn unknown() -> ApiError {
    ApiError::NotFound("There is no such data product.".to_owned())
}
