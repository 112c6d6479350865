//! Keys by their numbers, kept between searches, and which of them a query speaks of.

use super::history::Moment;
use super::text::unescaped;
use crate::filter::{Key, KeySuffixes};
use crate::query::Query;
use crate::segment;
use crate::store::Result;
use sqlx::PgConnection;

/// The keys of a volume as of one moment. Within a history of the database none goes, so it is known by their count whether
/// some came.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownKeys {
    pub(super) moment: Moment,
    last: i32,
    suffixes: KeySuffixes,
}

impl KnownKeys {
    /// Makes them those of the moment that a transaction sees. A key is numbered before the first product that has it is
    /// written, so at one moment all are known that searches can find something under.
    pub(super) async fn follow(&mut self, moment: &Moment, connection: &mut PgConnection, prefix: &str) -> Result<()> {
        if self.moment.history != moment.history {
            *self = KnownKeys::default();
        }
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM metadata_key WHERE volume_prefix = $1")
            .bind(prefix)
            .fetch_one(&mut *connection)
            .await?;
        let count = usize::try_from(count).unwrap_or_default();
        if count != self.suffixes.len() {
            self.read(connection, prefix).await?;
        }
        // Numbers are not committed in their order: one that is lower came later.
        if count != self.suffixes.len() {
            *self = KnownKeys::default();
            self.read(connection, prefix).await?;
        }
        self.moment = moment.clone();
        Ok(())
    }

    async fn read(&mut self, connection: &mut PgConnection, prefix: &str) -> Result<()> {
        let new: Vec<(i32, String)> =
            sqlx::query_as("SELECT id, path FROM metadata_key WHERE volume_prefix = $1 AND id > $2")
                .bind(prefix)
                .bind(self.last)
                .fetch_all(connection)
                .await?;
        self.last = new.iter().map(|(id, _)| *id).max().unwrap_or(0).max(self.last);
        self.suffixes.extend(new.into_iter().map(|(id, path)| (id, unescaped(&path).into())));
        Ok(())
    }
}

/// The keys that a query speaks of, by the numbers of those that they pick.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<(Key, Vec<i32>)>);

impl Keys {
    /// Looks up the keys that a query speaks of.
    pub(super) fn of(query: &Query, known: &KnownKeys) -> Keys {
        let picked = |key: Key| {
            let numbers = known.suffixes.picked(&key);
            (key, numbers)
        };
        Keys(query.keys().into_iter().map(picked).collect())
    }

    /// The numbers of those that a key picks.
    pub(super) fn picked(&self, key: &Key) -> segment::Keys {
        match key {
            Key::Every => segment::Keys::All,
            key => {
                let own = self.0.binary_search_by(|(own, _)| own.cmp(key)).ok().and_then(|at| self.0.get(at));
                segment::Keys::These(own.map(|(_, numbers)| numbers.clone()).unwrap_or_default())
            }
        }
    }
}
