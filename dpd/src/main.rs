//! `dpd`, the data product index for people.

mod progress;
mod serve;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// Find, look at and download the data products on a volume.
#[derive(Parser)]
#[command(name = "dpd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Index a volume and serve it over HTTP, all in this process and in memory.
    ///
    /// A data product is a folder with a `ska-data-product.yaml`. The folder is walked once and then watched: what is
    /// written, changed, moved or removed in it shows in searches within a second. Nothing is written to it.
    ///
    /// The API answers from the first moment; /docs describes it, /status says how far indexing is and which metadata
    /// files do not read. Products with an access group are shown to nobody.
    Serve(serve::Arguments),
}

fn main() -> ExitCode {
    let matches = Arguments::command()
        .mut_subcommand("serve", |serve| serve.after_long_help(shared::config::help()))
        .get_matches();
    let result = match Arguments::from_arg_matches(&matches) {
        Ok(Arguments { command: Command::Serve(arguments) }) => serve::run(arguments),
        Err(error) => error.exit(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("dpd: {problem}");
            ExitCode::from(2)
        }
    }
}
