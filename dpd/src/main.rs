//! `dpd`, the data product index for people.

mod client;
mod progress;
mod serve;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use client::Failure;
use std::process::ExitCode;

/// `dpd serve` holds few large things for long among many small ones that it holds for a moment. In the C library's
/// allocator the former pin the pages of the latter, which came to three times what is held.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
    /// Find data products by what their metadata say.
    Search(client::search::Arguments),
    /// Show all metadata of one data product.
    Metadata(client::metadata::Arguments),
    /// Fetch the files of a data product, or of all of an execution block, and unpack them.
    ///
    /// What breaks off goes on by itself: when the connection drops, when the server is restarted, and when this command
    /// is given again after it was ended. If the files changed on the server meanwhile, it begins again, so that what is
    /// unpacked is of one time. The archive is fetched whole before it is unpacked, which takes room for both.
    ///
    /// Sizes are compared with those on the server, and checksums where the metadata give a CRC-32; what could not be
    /// compared is said.
    Download(client::download::Arguments),
    /// Show how the service stands.
    Status(client::status::Arguments),
    /// Ask two services the same, and tell where they differ: the one before this one, and the one that is to follow it.
    ///
    /// Nothing is written to either. Compared are which data products there are, their metadata and annotations, the columns,
    /// the totals of filters by each column's operators and values that occur, and the sizes of archives. Differences that
    /// come from a known fault of the old service are counted under that fault; all others are unexplained, and named.
    ///
    /// Both have to show the caller the same, so give a token that both take where products are restricted. Where the
    /// volume is mounted here as well, --volume tells what the old service has not noticed.
    Shadow(client::shadow::Arguments),
}

fn main() -> ExitCode {
    let mut command =
        Arguments::command().mut_subcommand("serve", |serve| serve.after_long_help(shared::config::help()));
    for name in ["search", "metadata", "download", "status", "shadow"] {
        command = command.mut_subcommand(name, |command| command.after_help(client::EXIT_CODES));
    }
    let result = match Arguments::from_arg_matches(&command.get_matches()).map(|arguments| arguments.command) {
        Ok(Command::Serve(arguments)) => serve::run(arguments).map_err(Failure::Unusable),
        Ok(Command::Search(arguments)) => client::search::run(arguments),
        Ok(Command::Metadata(arguments)) => client::metadata::run(arguments),
        Ok(Command::Download(arguments)) => client::download::run(arguments),
        Ok(Command::Status(arguments)) => client::status::run(arguments),
        Ok(Command::Shadow(arguments)) => client::shadow::run(arguments),
        Err(error) => error.exit(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            client::tell(&failure);
            failure.exit_code()
        }
    }
}
