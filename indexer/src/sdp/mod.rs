//! Follows the SDP configuration database: its flows become hints in the same queue as files.
//!
//! Everything is read at one revision and watched from the next one on. Whatever breaks that (a killed or silent server,
//! a compacted history, our own interval) ends in reading everything again and comparing: what is remembered is
//! never trusted alone. A worker that takes a flow's hint looks up what the flow is now, and looks at its folder.

mod etcd;
mod mirror;

pub(crate) use mirror::Mirror;

use crate::ingest::Worker;
use crate::queue::{Hint, Queue, Turn};
use crate::reconcile::{Known, Reconciliation};
use crate::run::{Kind, Run};
use etcd::{Error, Etcd};
use mirror::{Counts, Entries};
use shared::clock;
use shared::config::SdpSettings;
use shared::flow::{Flow, FlowId};
use shared::status;
use shared::store::{Change, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// The first pause before connecting again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How often a sign of life is asked for, and after how long without one the server counts as gone.
const ASK: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(3);
/// The least time between two publications of how things stand, and the pause before what failed is tried again.
const PUBLISH: Duration = Duration::from_millis(200);
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often the folder of a flow that has ended is looked at again while no metadata file is in it: a network file
/// system may hide for a while what another machine wrote. The pause doubles each time.
const LOOKS: u32 = 6;
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Follows the database, where there is one.
pub(crate) struct Follower {
    settings: Option<SdpSettings>,
    /// How often everything is read again though nothing broke.
    interval: Duration,
    mirror: Arc<Mirror>,
    queue: Arc<Queue>,
    store: Arc<dyn Store>,
    state: watch::Sender<status::Sdp>,
}

impl Follower {
    pub(crate) fn new(
        settings: Option<SdpSettings>,
        interval: Duration,
        mirror: Arc<Mirror>,
        queue: Arc<Queue>,
        store: Arc<dyn Store>,
    ) -> Follower {
        let state = status::Sdp { disconnected_since: Some(clock::now()), ..status::Sdp::default() };
        Follower { settings, interval, mirror, queue, store, state: watch::Sender::new(state) }
    }

    /// Follows for as long as the future is polled.
    pub(crate) async fn follow(&self) {
        let stored = self.stored().await;
        match &self.settings {
            Some(settings) => {
                tokio::join!(self.follow_for_ever(settings, stored), self.publish_for_ever());
            }
            // What was followed before and is not any more leaves.
            None => {
                let none = self.mirror.entries().anew();
                self.replace(none, Some(stored));
                self.publish(None).await;
            }
        }
    }

    /// The flows that the store has, as soon as it tells.
    async fn stored(&self) -> BTreeMap<FlowId, Flow> {
        loop {
            match self.store.flows().await {
                Ok(flows) => return flows,
                Err(error) => debug!("the flows that are known are not: {error}"),
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }

    async fn follow_for_ever(&self, settings: &SdpSettings, stored: BTreeMap<FlowId, Flow>) {
        let mut stored = Some(stored);
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(error) = self.session(settings, &mut stored).await else { continue };
            if self.state.borrow().connected {
                pause = FIRST_PAUSE;
            }
            self.disconnected(&error);
            tokio::time::sleep(pause.min(settings.longest_pause)).await;
            pause = (pause * 2).min(settings.longest_pause);
        }
    }

    /// Reads everything and watches it, until it is time to read everything again.
    async fn session(&self, settings: &SdpSettings, stored: &mut Option<BTreeMap<FlowId, Flow>>) -> Result<(), Error> {
        let mut etcd = Etcd::connect(settings).await?;
        let mut entries = self.mirror.entries().anew();
        let revision = etcd.read(&mut entries).await?;
        // What the store lost comes back as well. Where it does not tell, the mirror has to do.
        let before = match stored.take() {
            Some(stored) => Some(stored),
            None => self.store.flows().await.ok(),
        };
        self.replace(entries, before);
        self.state.send_modify(|state| {
            state.connected = true;
            state.read_at = Some(clock::now());
        });
        let mut watching = etcd.watch(revision + 1).await?;
        let mut tick = tokio::time::interval(ASK);
        let (begun, mut heard) = (Instant::now(), Instant::now());
        while begun.elapsed() < self.interval {
            tokio::select! {
                told = watching.next() => {
                    let told = told?;
                    heard = Instant::now();
                    let flows = watching.note(&told, &mut self.mirror.entries());
                    self.hint(flows);
                    if watching.is_confirmed() {
                        self.connected(&settings.endpoint);
                    }
                }
                _ = tick.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(Error::Silent(SILENCE));
                    }
                    watching.ask().await?;
                }
            }
        }
        Ok(())
    }

    /// Takes what was read, and hints at the flows that became others.
    fn replace(&self, entries: Entries, stored: Option<BTreeMap<FlowId, Flow>>) {
        let changed = self.mirror.replace(entries, stored);
        debug!(changed = changed.len(), "read all flows");
        self.hint(changed);
    }

    fn hint(&self, flows: impl IntoIterator<Item = FlowId>) {
        self.queue.extend(flows.into_iter().map(|id| (id, Hint::default())), Turn::Due(Instant::now()));
        // The counts are taken when they are published.
        self.state.send_modify(|_| ());
    }

    fn connected(&self, endpoint: &str) {
        self.state.send_if_modified(|state| {
            if state.watcher_connected {
                return false;
            }
            info!(endpoint, "following the SDP configuration database");
            state.watcher_connected = true;
            state.disconnected_since = None;
            state.error = None;
            true
        });
    }

    fn disconnected(&self, error: &Error) {
        let error = error.to_string();
        self.state.send_if_modified(|state| {
            if state.error.as_ref() == Some(&error) && !state.connected {
                return false;
            }
            warn!(%error, "the SDP configuration database cannot be followed");
            state.connected = false;
            state.watcher_connected = false;
            state.disconnected_since.get_or_insert_with(clock::now);
            state.error = Some(error);
            true
        });
    }

    async fn publish_for_ever(&self) {
        let mut changes = self.state.subscribe();
        changes.mark_changed();
        let mut published = None;
        // The sender is ours.
        while changes.changed().await.is_ok() {
            let Counts { flows, passed_over, first_passed_over } = self.mirror.counts();
            let state = changes.borrow_and_update().clone();
            let state = Some(status::Sdp { flows, passed_over, first_passed_over, ..state });
            if state != published {
                self.publish(state.clone()).await;
                published = state;
            }
            tokio::time::sleep(PUBLISH).await;
        }
    }

    /// Publishes how things stand, until the store takes it or they are otherwise again.
    async fn publish(&self, state: Option<status::Sdp>) {
        let mut changes = self.state.subscribe();
        while let Err(error) = self.store.publish_sdp(state.clone()).await {
            debug!("how the SDP configuration database is followed is not published: {error}");
            if tokio::time::timeout(STORE_PAUSE, changes.changed()).await.is_ok() {
                return;
            }
        }
    }
}

impl Worker {
    /// Hands on what a flow is now, and looks at its folder.
    pub(crate) fn flow(&self, id: &FlowId, looks: u32) {
        let Some(flow) = self.flows.flow(id) else {
            return self.send(Change::FlowGone(id.clone()), None, Vec::new());
        };
        if !self.look(&flow) && flow.has_ended() && looks < LOOKS {
            let again = Hint { attempt: looks + 1, ..Hint::default() };
            let due = Instant::now() + FIRST_LOOK * 2u32.pow(looks);
            self.queue.push(id.clone(), again, Turn::Due(due));
        }
        self.send(Change::Flow(flow), None, Vec::new());
    }

    /// Hints at a flow's folder and all below it. False where no metadata file is in it.
    fn look(&self, flow: &Flow) -> bool {
        let Ok(root) = self.volume.open() else { return false };
        let mut found = false;
        for folder in flow.folders.iter().filter(|folder| !self.volume.prunes_any(folder)) {
            if root.open_folder(folder).is_err() {
                continue;
            }
            found |= root.stamp(folder).is_some();
            // Against nothing: whatever is there is read, and what is gone the walk finds out.
            let nothing = Reconciliation::against(Known::default());
            let ticket = Run::begin(Kind::Subtree, folder.clone(), nothing, &self.settle);
            let hint = Hint { read: true, ..Hint::list(vec![ticket]) };
            self.queue.push(folder.clone(), hint, Turn::Due(Instant::now()));
        }
        found
    }
}
