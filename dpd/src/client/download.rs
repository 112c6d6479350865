//! `dpd download`: a data product's files, fetched however often the connection breaks, unpacked, and checked.

use super::fetch::fetch;
use super::part::Part;
use super::unpack::unpack;
use super::verify::verify;
use super::{Api, Failure, Result, print};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to download: a data product by its uid, or all of an execution block
    #[arg(value_name = "UID|EXECUTION-BLOCK")]
    product: String,
    /// The folder to unpack into; it is made where it is missing
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Keep the archive beside what is unpacked
    #[arg(long)]
    keep_tar: bool,
    /// How long to try again while the server cannot be reached, or nothing more comes
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
    #[command(flatten)]
    api: Api,
}

/// The body that names a product.
pub(crate) fn identifier(product: &str) -> Value {
    match product.parse::<Uuid>() {
        Ok(uid) => json!({"uid": uid}),
        Err(_) => json!({"execution_block": product}),
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.api.client()?;
    let path = match arguments.product.parse::<Uuid>() {
        Ok(uid) => format!("/download/{uid}"),
        Err(_) => {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("execution_block", &arguments.product)
                .finish();
            format!("/download?{query}")
        }
    };
    let output = &arguments.output;
    let cannot = |error| Failure::Failed(format!("{}: {error}", output.display()));
    fs::create_dir_all(output).map_err(cannot)?;
    let folder = Dir::open_ambient_dir(output, ambient_authority()).map_err(cannot)?;
    let mut part = Part::open(output, &arguments.product)?;
    if let Err(failure) = fetch(&client, &path, &mut part, Duration::from_secs(arguments.patience)) {
        if part.length == 0 {
            part.finish(false)?;
        }
        return Err(failure);
    }
    let unpacked = unpack(&mut part, &folder)?;
    let verdict = verify(&client, &arguments.product, &folder);
    let tar = part.finish(arguments.keep_tar)?;
    let mut said = vec![unpacked.to_string()];
    said.extend(tar.map(|tar| format!("the archive is {}", tar.display())));
    match verdict {
        Ok(verdict) => {
            said.extend(verdict.words());
            print(&said.join("\n"))?;
            verdict.outcome()
        }
        Err(why) => {
            said.push(format!("not compared with the server's list of files: {why}"));
            print(&said.join("\n"))
        }
    }
}
