//! Downloads: the folders of products as one tar, planned before it is sent, so that it can be resumed at any byte.
//!
//! [`select`] says which folders a request is about and what in them its caller may see; [`walk`] makes a [`mod@plan`] of
//! them, which [`plans`] keeps for a while; [`range`] decides what a request wants of it, and [`mod@respond`] answers with the
//! bytes that [`source`] reads. What is public here is pure.

pub(crate) mod content;
mod count;
pub mod header;
mod listing;
pub mod plan;
mod plans;
pub mod range;
pub(crate) mod respond;
pub(crate) mod select;
pub(crate) mod source;
pub mod version;
mod walk;

pub(crate) use count::Running;
pub(crate) use plans::{Plans, plan};

use crate::Api;
use crate::error::{ApiError, Result};
use crate::reply::Response;
use crate::request::{Request, Wanted, wanted, wanted_in_query, wanted_uid};
use plan::as_path;
use respond::{Head, Representation, disposition, respond};
use select::Selection;
use shared::access::Viewer;
use source::Archive;
use std::sync::Arc;
use tracing::debug;

/// `POST /download`
pub(crate) async fn by_body(api: Arc<Api>, request: Request) -> Result<Response> {
    let (head, viewer) = (request.head(), request.viewer.clone());
    let wanted = request.body()?.read_object(|body| wanted(&body)).await?;
    archive(api, head, &viewer, &wanted).await
}

/// `GET /download`, with the same names in the query.
pub(crate) async fn by_query(api: Arc<Api>, request: Request) -> Result<Response> {
    let wanted = wanted_in_query(&request)?;
    archive(api, request.head(), &request.viewer, &wanted).await
}

/// `GET /download/{uid}`
pub(crate) async fn by_uid(api: Arc<Api>, request: Request) -> Result<Response> {
    let wanted = Wanted::Uid(wanted_uid(&request)?);
    archive(api, request.head(), &request.viewer, &wanted).await
}

async fn archive(api: Arc<Api>, head: Head, viewer: &Viewer, wanted: &Wanted) -> Result<Response> {
    let selection = Selection::of(&api, wanted, viewer).await?;
    let plan = plan(&api, &selection).await?;
    if let Some((count, first)) = plan.unreadable() {
        return Err(ApiError::unreadable(count, as_path(&plan.path(first))));
    }
    let representation = Representation {
        etag: plan.etag().to_owned(),
        settled: plan.settled(),
        total: plan.total(),
        content_type: "application/x-tar",
        disposition: disposition("attachment", format!("{}.tar", selection.name).as_bytes()),
    };
    debug!(bytes = plan.total(), "a download is asked for");
    let opened = api.clone();
    let open = move |part| {
        let (volume, forgetting) = (opened.volume.clone(), opened.clone());
        Archive::new(volume, plan, part, move |plan: &Arc<_>| forgetting.plans.forget(plan))
    };
    respond(&head, representation, &api.downloads, api.settings.chunk, open).await
}
