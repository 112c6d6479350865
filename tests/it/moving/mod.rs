//! Moving over from the service before this one: [`import`] takes over what people wrote, [`migrate`] says beforehand what
//! becomes of the tables, and [`shadow`] compares the two while both run. [`backup`] moves an index to another database.

mod backup;
mod import;
mod migrate;
mod old_service;
mod shadow;

use crate::daemons::setup;
use tests::program::Daemons;

/// The exit code of a `dpd-indexer` that ends, what it answers, and what it says beside that.
fn ended(daemons: &Daemons, arguments: &[&str]) -> (i32, String, String) {
    let output = setup::run(daemons, "dpd-indexer", arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}
