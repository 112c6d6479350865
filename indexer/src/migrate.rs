//! `dpd-indexer migrate`: the tables brought up to date without starting the daemon, or what that would do.

use shared::config::PostgresqlSettings;
use shared::store::Result;
use shared::store::postgres::outlook::{self, Outlook};
use shared::store::postgres::{Database, schema};
use shared::telemetry::say;
use std::time::Duration;

/// What is to be done.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Say what would be done, and change nothing
    #[arg(long)]
    check: bool,
}

/// Migrates, or tells what that would do. Answers whether nothing is left to be done.
///
/// # Errors
/// When the database cannot be used, or must not be as it is.
pub async fn run(postgresql: &PostgresqlSettings, limit: Duration, arguments: &Arguments) -> Result<bool> {
    let database = Database::new(postgresql, "dpd-indexer migrate", 1, limit)?;
    if arguments.check {
        let outlook = outlook::look(&database, &postgresql.state_name).await?;
        lines(&outlook).iter().for_each(|line| say(line));
        return Ok(outlook.is_clear());
    }
    let changed = schema::migrate(&database, &postgresql.state_name).await?;
    say(if changed { "the database's tables are up to date now" } else { "the database's tables were up to date" });
    Ok(true)
}

fn lines(outlook: &Outlook) -> Vec<String> {
    let Outlook { schema: (schema, is_there), version, needed, .. } = outlook;
    let mut lines = Vec::new();
    let made = if *is_there { "is there" } else { "would be made" };
    lines.push(match version {
        None => format!(
            "the schema {schema} {made}; there are no tables of this program in it, and it needs version {needed}"
        ),
        Some(version) => {
            format!("the schema {schema} {made}; its tables are of version {version}, and {needed} is needed")
        }
    });
    for pending in &outlook.pending {
        lines.push(format!("would be applied: {} {}", pending.version, pending.summary));
        if !pending.goes_through.is_empty() {
            let tables = pending.goes_through.iter().map(|(name, bytes)| format!("{name} ({})", size(*bytes)));
            lines.push(format!(
                "  goes through {}: {}",
                tables.collect::<Vec<_>>().join(", "),
                match pending.duration().as_secs() {
                    0 => "a moment".to_owned(),
                    seconds => format!("about {seconds} s, in which nothing is written"),
                }
            ));
        }
    }
    lines.extend(outlook.view.iter().map(|name| format!("would be made: the view {name} of the coordination table")));
    lines.extend(outlook.renamed.iter().map(|(name, to)| {
        format!("would be renamed: {schema}.{name} to {to}; it is not this program's, and whoever uses it loses it")
    }));
    lines.extend(outlook.in_the_way.iter().map(|what| format!("in the way: {what}")));
    lines.extend(outlook.tables.iter().map(|(name, bytes)| format!("size: {name} {}", size(*bytes))));
    if outlook.is_clear() {
        lines.push("nothing is to be done".to_owned());
    }
    lines
}

/// A number of bytes, for people.
fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut shown = bytes as f64;
    let mut unit = 0;
    while shown >= 1024.0 && unit + 1 < units.len() {
        shown /= 1024.0;
        unit += 1;
    }
    format!("{shown:.0} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_units_for_people() {
        for (bytes, shown) in
            [(0, "0 bytes"), (8192, "8 KiB"), (3 << 20, "3 MiB"), (5 << 40, "5 TiB"), (1 << 60, "1048576 TiB")]
        {
            assert_eq!(size(bytes), shown);
        }
    }
}
