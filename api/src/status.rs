//! How the service stands.

use crate::error::Result;
use crate::reply::{self, Response};
use crate::request::Request;
use crate::{Api, version};
use serde_json::{Value, json};
use shared::status::{duration_text, time_text};
use shared::store::Summary;
use std::sync::Arc;

/// How many failing files are listed.
const FAILING: usize = 20;

/// `GET /status`
pub(crate) async fn status(api: Arc<Api>, request: Request) -> Result<Response> {
    let summary = api.store.summary(&request.viewer, FAILING).await?;
    let name = &api.volume.origin().name;
    Ok(reply::json(&json!({
        "api_running": true,
        "api_version": version(&api.settings),
        "startup_time": time_text(api.started),
        "available_data_stores": [name],
        "indexing": indexing(&summary),
        "pv_interface_status": volume(&api, &summary),
        "metadata_store_status": {
            "store_type": "In memory volume index metadata store",
            "db_status": {"configured": false, "running": false},
            "last_metadata_update_time": time_text(summary.updated),
            "number_of_dataproducts": summary.products,
            "dlm_interface_enabled": false,
            "dlm_interface_status": {
                "number_of_items": 0,
                "dlm_data_item_accessible": false,
                "dlm_tables_accessible": false,
                "dlm_tables_error": null,
            },
        },
        "search_store_status": {"metadata_search_store_in_use": "In memory search store"},
        "sdp_config_db": {
            "connected": false,
            "watcher_connected": false,
            "description": "SDP Configuration Database (etcd) for data product flow information",
        },
    })))
}

fn indexing(summary: &Summary) -> Value {
    json!({
        "in_progress": summary.indexing.in_progress,
        "progress": summary.indexing.progress,
        "coordination_state": null,
        "failing": {"count": summary.failing, "first": summary.first_failing},
        "watch": summary.indexing.watch,
    })
}

fn volume(api: &Api, summary: &Summary) -> Value {
    let indexing = &summary.indexing;
    json!({
        "metadata_store_name": api.volume.origin().name,
        "pv_available": indexing.volume_error.is_none(),
        "pv_error": indexing.volume_error,
        "number_of_data_products_on_pv": summary.products_on_volume,
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
