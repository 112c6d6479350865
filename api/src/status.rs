//! How the service stands.

use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::request::Request;
use crate::{Api, version};
use serde_json::{Value, json};
use shared::access::Viewer;
use shared::status::{Coordination, Progress, duration_text, time_text};
use shared::store::{Kind, Summary};
use std::sync::Arc;
use std::time::Duration;

/// How many failing files are listed.
const FAILING: usize = 20;

/// How long the store may take, so that the whole answer comes within a second.
const PATIENCE: Duration = Duration::from_millis(800);

/// `GET /livez`: that requests are answered at all.
pub(crate) async fn live(_: Arc<Api>, _: Request) -> Result<Response> {
    Ok(reply::json(&json!({"status": "ok"})))
}

/// `GET /readyz`: that the store can be asked.
pub(crate) async fn ready(api: Arc<Api>, _: Request) -> Result<Response> {
    match summary(&api, &Viewer::anonymous()).await {
        Ok(_) => Ok(reply::json(&json!({"status": "ok"}))),
        Err(why) => Err(ApiError::Unavailable(why)),
    }
}

/// `GET /status`
pub(crate) async fn status(api: Arc<Api>, request: Request) -> Result<Response> {
    let name = &api.volume.origin().name;
    let summary = summary(&api, &request.viewer).await;
    let known = summary.as_ref().ok();
    Ok(reply::json(&json!({
        "api_running": true,
        "api_version": version(&api.settings),
        "startup_time": time_text(api.started),
        "available_data_stores": [name],
        "indexing": indexing(known),
        "pv_interface_status": volume(&api, &summary),
        "metadata_store_status": store(&api, &summary),
        "search_store_status": {"metadata_search_store_in_use": match api.store.kind() {
            Kind::Memory => "In memory search store",
            Kind::Postgresql => "PostgreSQL Search Store",
        }},
        "sdp_config_db": {
            "connected": false,
            "watcher_connected": false,
            "description": "SDP Configuration Database (etcd) for data product flow information",
        },
    })))
}

/// What the store says of itself, or why it does not.
async fn summary(api: &Api, viewer: &Viewer) -> std::result::Result<Summary, String> {
    match tokio::time::timeout(PATIENCE, api.store.summary(viewer, FAILING)).await {
        Ok(summary) => summary.map_err(|error| error.to_string()),
        Err(_) => Err(format!("PostgreSQL gave no answer within {} ms", PATIENCE.as_millis())),
    }
}

fn store(api: &Api, summary: &std::result::Result<Summary, String>) -> Value {
    let configured = api.store.kind() == Kind::Postgresql;
    let known = summary.as_ref().ok();
    let mut status = json!({
        "store_type": match api.store.kind() {
            Kind::Memory => "In memory volume index metadata store",
            Kind::Postgresql => "Stateless PostgreSQL metadata store",
        },
        "db_status": {"configured": configured, "running": configured && summary.is_ok()},
        "last_metadata_update_time": known.map(|summary| time_text(summary.updated)),
        "number_of_dataproducts": known.map_or(0, |summary| summary.products),
        "dlm_interface_enabled": false,
        "dlm_interface_status": {
            "number_of_items": 0,
            "dlm_data_item_accessible": false,
            "dlm_tables_accessible": false,
            "dlm_tables_error": null,
        },
    });
    if let Err(why) = summary {
        status["running"] = false.into();
        status["error"] = why.as_str().into();
    }
    status
}

fn indexing(summary: Option<&Summary>) -> Value {
    let indexing = summary.map(|summary| summary.indexing.clone()).unwrap_or_default();
    let Progress { files_processed, total_files, files_added, files_updated, files_skipped, indexing_step } =
        indexing.progress;
    json!({
        "in_progress": indexing.in_progress,
        "progress": {
            "files_processed": files_processed,
            "total_files": total_files,
            "files_added": files_added,
            "files_updated": files_updated,
            "files_skipped": files_skipped,
            "indexing_step": indexing_step.to_string(),
        },
        "coordination_state": summary.and_then(|summary| summary.coordination.as_ref()).map(coordination),
        "failing": {
            "count": summary.map_or(0, |summary| summary.failing),
            "first": summary.map(|summary| summary.first_failing.as_slice()).unwrap_or_default(),
        },
        "watch": indexing.watch,
    })
}

fn coordination(state: &Coordination) -> Value {
    json!({
        "volume_prefix": state.volume_prefix,
        "indexed_by": state.indexed_by,
        "indexing_running": state.indexing_running,
        "started_at": state.started_at.map(time_text),
        "last_heartbeat": state.last_heartbeat.map(time_text),
        "completed_at": state.completed_at.map(time_text),
        "files_indexed": state.files_indexed,
        "epoch": state.epoch,
        "indexer_alive": state.indexer_alive,
        "reindex_waits": state.reindex_waits,
    })
}

fn volume(api: &Api, summary: &std::result::Result<Summary, String>) -> Value {
    let error = match summary {
        Ok(summary) => summary.indexing.volume_error.clone(),
        Err(why) => Some(format!("not known, for the indexer tells it through the database: {why}")),
    };
    let summary = summary.as_ref().ok();
    let indexing = summary.map(|summary| summary.indexing.clone()).unwrap_or_default();
    json!({
        "metadata_store_name": api.volume.origin().name,
        "pv_available": error.is_none(),
        "pv_error": error,
        "number_of_data_products_on_pv": summary.map_or(0, |summary| summary.products_on_volume),
        "last_index_duration": indexing.last_duration.map(duration_text),
        "index_time_modified": indexing.ended.map(time_text),
        "indexing_timeout_seconds": api.indexing.timeout.as_secs(),
        "indexing_batch_size": api.indexing.batch,
        "indexing_parallel_workers": api.indexing.workers,
        // A unit of work is one folder.
        "indexing_work_unit_depth": 1,
        "last_index_run": indexing.last_run,
    })
}
