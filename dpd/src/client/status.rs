//! `dpd status`: how the service stands.

use super::table::{cell, table};
use super::{Api, Failure, Result, print, print_json};
use serde_json::Value;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Answer in JSON: all that the API says
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

/// What is shown: a word for it, and where in the answer it stands.
const SHOWN: [(&str, &str); 13] = [
    ("version", "/api_version"),
    ("started", "/startup_time"),
    ("store", "/metadata_store_status/store_type"),
    ("data products", "/metadata_store_status/number_of_dataproducts"),
    ("last change", "/metadata_store_status/last_metadata_update_time"),
    ("volume", "/pv_interface_status/metadata_store_name"),
    ("indexing", "/indexing/progress/indexing_step"),
    ("last walk", "/pv_interface_status/index_time_modified"),
    ("it took", "/pv_interface_status/last_index_duration"),
    ("indexed by", "/indexing/coordination_state/indexed_by"),
    ("files that do not read", "/indexing/failing/count"),
    ("downloads running", "/downloads/running"),
    ("downloads broken off", "/downloads/broken_off"),
];

/// Shows it; where something is down, that is exit code 1.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let status = arguments.api.client()?.get_json("/status")?;
    if arguments.json {
        print_json(&status)?;
    } else {
        let known = |(name, path): &(&str, &str)| {
            let value = status.pointer(path).filter(|value| !value.is_null())?;
            Some(vec![(*name).to_owned(), cell(value)])
        };
        let mut rows: Vec<_> = SHOWN.iter().filter_map(known).collect();
        for failing in status.pointer("/indexing/failing/first").and_then(Value::as_array).into_iter().flatten() {
            rows.push(vec![
                "does not read".to_owned(),
                format!("{}: {}", cell(&failing["path"]), cell(&failing["error"])),
            ]);
        }
        print(&table(&["WHAT", "IS"], &rows))?;
    }
    let down = [("/metadata_store_status/error", "the store"), ("/pv_interface_status/pv_error", "the volume")];
    let mut down = down.iter().filter_map(|(path, what)| Some(format!("{what}: {}", status.pointer(path)?.as_str()?)));
    match down.next() {
        None => Ok(()),
        Some(first) => Err(Failure::Failed(down.fold(first, |all, next| format!("{all}; {next}")))),
    }
}
