//! What processes tell each other: that a lease was given back, that a reindex is wanted.
//!
//! Notifications make it fast and may be lost with a connection; who waits looks at the tables themselves now and then.

use super::database::Database;
use super::lease::CHANNEL;
use crate::identity::VolumePrefix;
use crate::store::Result;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::debug;

/// How long to wait before listening anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Hears what is told of one volume, for as long as it is kept.
#[derive(Debug)]
pub struct Ear {
    released: Arc<Notify>,
    reindex: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Ear {
    /// Listens from now on.
    pub fn on(database: &Database, prefix: &VolumePrefix) -> Ear {
        let (released, reindex) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let told = [(format!("released {prefix}"), released.clone()), (format!("reindex {prefix}"), reindex.clone())];
        let task = tokio::spawn(listen(database.clone(), told));
        Ear { released, reindex, task }
    }

    /// Waits until a lease may have been given back.
    pub async fn released(&self) {
        self.released.notified().await;
    }

    /// Waits until a reindex may have been asked for.
    pub(super) async fn reindex(&self) {
        self.reindex.notified().await;
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(database: Database, told: [(String, Arc<Notify>); 2]) {
    loop {
        if let Err(error) = hear(&database, &told).await {
            debug!("notifications are not heard for now: {error}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens until the connection breaks.
async fn hear(database: &Database, told: &[(String, Arc<Notify>); 2]) -> Result<()> {
    let (mut listener, _used) = database.listener().await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    // Something may have been told before.
    told.iter().for_each(|(_, notify)| notify.notify_one());
    while let Some(notification) = listener.try_recv().await? {
        told.iter().filter(|(text, _)| text == notification.payload()).for_each(|(_, notify)| notify.notify_one());
    }
    Ok(())
}
