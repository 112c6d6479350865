//! The keys of the rows that a viewer may see, kept until something changes: a dashboard asks for them again and again.

use super::history::{self, Moment};
use super::read;
use crate::access::Viewer;
use crate::column::ColumnKeys;
use crate::store::Result;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// For how many viewers of different rights they are kept.
const VIEWERS: usize = 32;

/// By the access rules that let a viewer pass: the moment at which they were counted, and the keys.
#[derive(Debug, Default)]
pub(super) struct KeyCounts(Mutex<HashMap<Vec<i32>, (Moment, ColumnKeys)>>);

impl KeyCounts {
    /// The keys of the rows that a viewer may see.
    pub(super) async fn of(&self, connection: &mut PgConnection, prefix: &str, viewer: &Viewer) -> Result<ColumnKeys> {
        let mut rules = read::visible_rule_ids(connection, prefix, viewer).await?;
        rules.sort_unstable();
        // Before they are counted: what changes meanwhile leads to another one.
        let moment = history::moment(&mut *connection, prefix).await?;
        if let Some((_, keys)) = self.lock().get(&rules).filter(|(counted, _)| *counted == moment) {
            return Ok(keys.clone());
        }
        let keys = read::keys(connection, &rules).await?;
        let mut kept = self.lock();
        if kept.len() >= VIEWERS && !kept.contains_key(&rules) {
            kept.clear();
        }
        kept.insert(rules, (moment, keys.clone()));
        Ok(keys)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<i32>, (Moment, ColumnKeys)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
