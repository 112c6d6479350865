//! How many connections there are, for metrics.

use crate::metrics::{Counter, Gauge, Registry};

/// The connections of a server.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    pub(super) open: Gauge,
    pub(super) most: Gauge,
    pub(super) evicted: Counter,
}

impl Counted {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Connections of clients", self.open.clone());
        registry.register("connections_max", "How many connections there may be", self.most.clone());
        let evicted = "Connections that made way for others, idle or in the middle of a request";
        registry.register("connections_evicted", evicted, self.evicted.clone());
    }
}
