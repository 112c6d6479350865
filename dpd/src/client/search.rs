//! `dpd search`: the data products that have all the pairs given.

use super::table::{bytes, cell, table};
use super::{Api, Failure, Result, print, print_json};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the metadata must have: a key, or the end of one, and text that its value holds, such as
    /// processing_script:vis-receive. All pairs must be there; without any, everything is found.
    #[arg(value_name = "KEY:VALUE")]
    pairs: Vec<String>,
    /// The first day of observations
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "1900-01-01")]
    since: String,
    /// The last day of observations
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "2100-01-01")]
    until: String,
    /// Show so many at the most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Answer in JSON: the rows of the API
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

/// Shows what is found; finding nothing is exit code 3.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.api.client()?;
    let body = json!({"start_date": arguments.since, "end_date": arguments.until, "key_value_pairs": arguments.pairs});
    let Value::Array(mut rows) = client.post_json("/dataproductsearch", &body)? else {
        return Err(Failure::Failed("the server's answer is no list of data products".to_owned()));
    };
    let found = rows.len();
    rows.truncate(arguments.limit.unwrap_or(usize::MAX));
    if arguments.json {
        print_json(&Value::Array(rows))?;
    } else if found > 0 {
        let line = |row: &Value| {
            let texts = ["execution_block", "date_created", "status", "uid", "dataproduct_file"];
            let mut line = texts.map(|key| cell(&row[key])).to_vec();
            line.insert(3, bytes(&row["size"]));
            line
        };
        let heading = ["EXECUTION BLOCK", "DATE", "STATUS", "SIZE", "UID", "FOLDER"];
        print(&table(&heading, &rows.iter().map(line).collect::<Vec<_>>()))?;
    }
    match found {
        0 => Err(Failure::NotFound("no data product is found".to_owned())),
        _ => Ok(()),
    }
}
