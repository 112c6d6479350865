//! A holder's silence, as who stands by hears it: the database's clock may be set back, and then an old heartbeat lies in the
//! future. So it is also watched, on a clock that only goes forward, whether the heartbeat stays the same.

use crate::identity::VolumePrefix;
use crate::store::Result;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::time::{Duration, Instant};

/// The last sign of life of a lease's holder.
#[derive(Debug, Clone, Copy, PartialEq, sqlx::FromRow)]
pub(super) struct Beat {
    pub(super) epoch: i64,
    #[sqlx(rename = "last_heartbeat")]
    pub(super) at: Option<DateTime<Utc>>,
    /// The term that the holder promised, in seconds.
    lease_seconds: f64,
}

impl Beat {
    pub(super) async fn read(connection: &mut PgConnection, prefix: &VolumePrefix) -> Result<Option<Beat>> {
        let beat = sqlx::query_as(
            "SELECT epoch, last_heartbeat, lease_seconds FROM dpd_indexing_state WHERE volume_prefix = $1",
        );
        Ok(beat.bind(prefix.as_str()).fetch_optional(connection).await?)
    }
}

/// Since when a holder has been silent, as far as was heard.
#[derive(Debug, Default)]
pub(super) struct Silence(Option<(Beat, Instant)>);

impl Silence {
    /// Takes in the last sign of life that there is.
    pub(super) fn hear(&mut self, beat: Option<Beat>) {
        if self.0.map(|(before, _)| before) != beat {
            self.0 = beat.map(|beat| (beat, Instant::now()));
        }
    }

    /// The sign of life after which nothing was heard for as long as the term.
    pub(super) fn outlasted(&self) -> Option<Beat> {
        let (beat, since) = self.0?;
        let term = Duration::try_from_secs_f64(beat.lease_seconds).ok()?;
        (since.elapsed() > term).then_some(beat)
    }
}
