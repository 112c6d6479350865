//! How the service stands.

use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::request::Request;
use crate::trouble::{Failure, UNUSABLE};
use crate::{Api, version};
use serde_json::{Value, json};
use shared::access::Viewer;
use shared::dlm;
use shared::flow;
use shared::status::{Progress, duration_text, time_text};
use shared::store::{Kind, Summary};
use std::sync::Arc;
use std::time::Duration;

/// How many failing files are listed, and how many folders that cannot be read.
const FAILING: usize = 20;

/// How long the store may take, so that the whole answer comes within a second.
const PATIENCE: Duration = Duration::from_millis(800);

/// `GET /livez`: that requests are answered at all.
pub(crate) async fn live(_: Arc<Api>, _: Request) -> Result<Response> {
    Ok(reply::json(&json!({"status": "ok"})))
}

/// `GET /readyz`: that the store could be asked once, and this process is not about to end.
pub(crate) async fn ready(api: Arc<Api>, _: Request) -> Result<Response> {
    if api.readiness.is_stopping() {
        return Err(ApiError::Unavailable("This process is stopping.".to_owned()));
    }
    if !api.readiness.has_reached() {
        summary(&api, &Viewer::anonymous()).await.map_err(ApiError::Unavailable)?;
        api.readiness.reach();
    }
    Ok(reply::json(&json!({"status": "ok"})))
}

/// `GET /status`
pub(crate) async fn status(api: Arc<Api>, request: Request) -> Result<Response> {
    let summary = summary(&api, &request.viewer).await;
    let known = summary.as_ref().ok();
    Ok(reply::json(&json!({
        "api_running": true,
        "api_version": version(&api.settings),
        "startup_time": time_text(api.started),
        "available_data_stores": stores(&api),
        "indexing": indexing(known),
        "pv_interface_status": volume(&api, &summary),
        "metadata_store_status": store(&api, &summary),
        "permissions_api": api.auth.status(),
        "search_store_status": {"metadata_search_store_in_use": match api.store.kind() {
            Kind::Memory => "In memory search store",
            Kind::Postgresql => "PostgreSQL Search Store",
        }},
        "downloads": api.downloads.figures(api.plans.held()),
        "sdp_config_db": sdp(&api, &summary, &request.viewer),
    })))
}

/// The stores that rows may be of, as they name them.
fn stores(api: &Api) -> Vec<&str> {
    let indexing = &api.indexing;
    let dlm = indexing.dlm.as_ref().filter(|_| api.store.kind() == Kind::Postgresql);
    let stores = [dlm.map(|_| dlm::STORE), indexing.sdp.as_ref().map(|_| flow::STORE)];
    stores.into_iter().flatten().chain([api.volume.origin().name.as_str()]).collect()
}

/// What the store says of itself, or why it does not.
async fn summary(api: &Api, viewer: &Viewer) -> std::result::Result<Summary, String> {
    let words = match tokio::time::timeout(PATIENCE, api.store.summary(viewer, FAILING)).await {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(error)) => match error.into() {
            Failure::Told(why) => return Err(why),
            Failure::Unusable(words) | Failure::Refused(words) => words,
        },
        Err(_) => {
            let silent = || format!("PostgreSQL gave no answer within {} ms", PATIENCE.as_millis());
            api.store.trouble().unwrap_or_else(silent)
        }
    };
    api.trouble.tell(&words);
    Err(UNUSABLE.to_owned())
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
        "dlm_interface_enabled": api.indexing.dlm.is_some() && configured,
        "dlm_interface_status": dlm(api, summary),
    });
    if let Err(why) = summary {
        status["running"] = false.into();
        status["error"] = why.as_str().into();
    }
    status
}

/// Why what an indexer follows is not followed at the moment, for all that this process knows.
fn unfollowed(summary: &std::result::Result<Summary, String>) -> Option<String> {
    match summary {
        Err(why) => Some(format!("not known, for the indexer tells it through the database: {why}")),
        Ok(summary) if summary.coordination.as_ref().is_some_and(|state| !state.indexer_alive) => {
            Some("no indexer is running, which would follow it".to_owned())
        }
        Ok(_) => None,
    }
}

fn sdp(api: &Api, summary: &std::result::Result<Summary, String>, viewer: &Viewer) -> Value {
    let known = summary.as_ref().ok().and_then(|summary| summary.sdp.clone());
    let error = api.indexing.sdp.as_ref().and_then(|_| match (unfollowed(summary), &known) {
        (Some(why), _) => Some(why),
        (None, Some(known)) => {
            known.error.as_ref().map(|_| "it cannot be followed; the indexer's log says why".to_owned())
        }
        (None, None) => Some("the indexer does not follow it: is SDP_CONFIG_HOST set there?".to_owned()),
    });
    let (is_followed, known) = (unfollowed(summary).is_none(), known.unwrap_or_default());
    // Whoever is shown no flows is told neither how many there are, nor of which blocks.
    let told = Some(&known).filter(|_| viewer.sees_flows());
    let state = summary.as_ref().ok().and_then(|summary| summary.coordination.as_ref());
    let last_heard = state.filter(|_| !is_followed).and_then(|state| state.last_heartbeat);
    json!({
        "connected": known.connected && is_followed,
        "watcher_connected": known.watcher_connected && is_followed,
        "description": "SDP Configuration Database (etcd) for data product flow information",
        "disconnected_since": known.disconnected_since.or(last_heard).map(time_text),
        "error": error,
        "flows": told.map_or(0, |known| known.flows),
        "entries_passed_over": told.map_or(0, |known| known.passed_over),
        "first_entry_passed_over": told.and_then(|known| known.first_passed_over.as_deref()),
        "read_at": known.read_at.map(time_text),
    })
}

fn dlm(api: &Api, summary: &std::result::Result<Summary, String>) -> Value {
    let known = summary.as_ref().ok().and_then(|summary| summary.dlm.clone());
    let error = api.indexing.dlm.as_ref().and_then(|_| match (unfollowed(summary), &known) {
        (Some(why), _) => Some(why),
        (None, Some(known)) => known.error.as_ref().map(|_| "it cannot be read; the indexer's log says why".to_owned()),
        (None, None) => Some(match api.store.kind() {
            Kind::Memory => "it needs PostgreSQL, which this program does not use".to_owned(),
            Kind::Postgresql => {
                "the indexer does not follow it: is SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED set there?".to_owned()
            }
        }),
    });
    let known = known.unwrap_or_default();
    let accessible = known.accessible && unfollowed(summary).is_none();
    json!({
        "number_of_items": known.items,
        "dlm_data_item_accessible": accessible,
        "dlm_tables_accessible": accessible,
        "dlm_tables_error": error,
        "number_of_dataproducts": known.products,
        "items_passed_over": known.passed_over,
        "first_item_passed_over": known.first_passed_over,
        "read_at": known.read_at.map(time_text),
    })
}

fn indexing(summary: Option<&Summary>) -> Value {
    let indexing = summary.map(|summary| summary.indexing.clone()).unwrap_or_default();
    // To a caller who may not see everything, nothing is counted that he may not see; what cannot be told apart is null.
    let limited = summary.filter(|summary| !summary.sees_all);
    let progress = limited.map_or(indexing.progress, |summary| indexing.counts_for(files(summary)));
    let Progress { files_processed, total_files, files_added, files_updated, files_skipped, indexing_step } = progress;
    let mut watch = json!(indexing.watch);
    let mut unreadable = json!(indexing.unreadable);
    if limited.is_some() {
        unreadable["count"] = indexing.unreadable.first.len().into();
        if let Some(watch) = watch.as_object_mut() {
            for folders in ["folders_watched", "folders_polled"] {
                watch.insert(folders.to_owned(), Value::Null);
            }
        }
    }
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
        "coordination_state": summary.and_then(coordination),
        // What was on the volume when the last walk began that came to its end, and what was told until the last change.
        "complete_as_of": {
            "scan": indexing.complete_as_of.map(time_text),
            "event": summary.map(|summary| time_text(summary.updated)),
        },
        "failing": {
            "count": summary.map_or(0, |summary| summary.failing),
            "first": summary.map(|summary| summary.first_failing.as_slice()).unwrap_or_default(),
        },
        "unreadable": unreadable,
        "watch": watch,
    })
}

/// How many metadata files a caller may know of.
fn files(summary: &Summary) -> u64 {
    summary.products_on_volume + summary.failing
}

fn coordination(summary: &Summary) -> Option<Value> {
    let state = summary.coordination.as_ref()?;
    Some(json!({
        "volume_prefix": state.volume_prefix,
        "indexed_by": state.indexed_by,
        "indexing_running": state.indexing_running,
        "started_at": state.started_at.map(time_text),
        "last_heartbeat": state.last_heartbeat.map(time_text),
        "completed_at": state.completed_at.map(time_text),
        "files_indexed": if summary.sees_all { state.files_indexed } else { files(summary) },
        "epoch": state.epoch,
        "indexer_alive": state.indexer_alive,
        "reindex_waits": state.reindex_waits,
    }))
}

fn volume(api: &Api, summary: &std::result::Result<Summary, String>) -> Value {
    let error = match summary {
        Ok(summary) => summary.indexing.volume_error.clone(),
        Err(why) => Some(format!("not known, for the indexer tells it through the database: {why}")),
    };
    let summary = summary.as_ref().ok();
    let indexing = summary.map(|summary| summary.indexing.clone()).unwrap_or_default();
    let sees_all = summary.is_none_or(|summary| summary.sees_all);
    let last_run = if sees_all {
        json!(indexing.last_run)
    } else {
        let ingested = indexing.public.added + indexing.public.updated;
        // Folders of what everybody may see.
        let work_units = indexing.public.all();
        json!({"timed_out": indexing.last_run.timed_out, "work_units": work_units, "files_ingested": ingested})
    };
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
        "last_index_run": last_run,
    })
}
