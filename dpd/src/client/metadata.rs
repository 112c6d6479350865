//! `dpd metadata`: all that is known of one data product.

use super::download::identifier;
use super::table::{cell, table};
use super::{Api, Result, print, print_json};
use serde_json::Value;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The data product: its uid, or its execution block
    #[arg(value_name = "UID|EXECUTION-BLOCK")]
    product: String,
    /// Answer in JSON: the metadata as they are, nested
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: Api,
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.api.client()?;
    let metadata = client.post_json("/dataproductmetadata", &identifier(&arguments.product))?;
    if arguments.json {
        return print_json(&metadata);
    }
    let mut rows = Vec::new();
    flatten(String::new(), &metadata, &mut rows);
    print(&table(&["KEY", "VALUE"], &rows))
}

/// Each value under its dotted path.
fn flatten(path: String, value: &Value, rows: &mut Vec<Vec<String>>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(name, value)| flatten(below(name), value, rows)),
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(n, value)| flatten(below(&n.to_string()), value, rows));
        }
        value => rows.push(vec![path, cell(value)]),
    }
}
