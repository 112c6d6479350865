//! What is counted of answers, and what of an API is registered for metrics.

use crate::Api;
use crate::error::ApiError;
use shared::metrics::{Counter, Family, Figures as _, Histogram, Label, Registry, histogram};
use shared::server::Counted;
use std::sync::Arc;
use std::time::Duration;
use warp::http::{Method, StatusCode};

/// What stands for the route of a path that is none's.
pub(crate) const UNMATCHED: &str = "unmatched";
/// What stands for a method or a status that is not among those that we know.
const OTHER: &str = "other";

const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "OPTIONS"];
/// The statuses that answers have.
const CODES: [&str; 23] = [
    "200", "201", "202", "206", "302", "304", "307", "308", "400", "401", "403", "404", "405", "408", "409", "412",
    "413", "415", "416", "421", "422", "431", "500",
];
const UNAVAILABLE: &str = "503";

/// What is counted of answers, and of the connections on which they go.
#[derive(Debug)]
pub(crate) struct Answers {
    all: Family<[(&'static str, &'static str); 3], Counter>,
    took: Family<Label, Histogram>,
    rejected: Family<Label, Counter>,
    pub(crate) connections: Counted,
}

impl Default for Answers {
    fn default() -> Answers {
        let took = Family::new_with_constructor(histogram as fn() -> Histogram);
        let rejected = Family::default();
        for kind in ["requests", "downloads", "bytes of requests"] {
            drop(rejected.get_or_create_owned(&[("kind", kind)]));
        }
        Answers { all: Family::default(), took, rejected, connections: Counted::default() }
    }
}

impl Answers {
    /// Counts an answer to a request to a route of the table, or to [none](UNMATCHED).
    pub(crate) fn count(&self, route: &'static str, method: &'static str, status: StatusCode, took: Duration) {
        let code = CODES.into_iter().chain([UNAVAILABLE]).find(|code| *code == status.as_str()).unwrap_or(OTHER);
        self.all.get_or_create(&[("route", route), ("method", method), ("code", code)]).inc();
        self.took.get_or_create(&[("route", route)]).observe(took.as_secs_f64());
    }

    /// Counts a request that is refused for want of a place.
    pub(crate) fn refuse(&self, error: &ApiError) {
        if let ApiError::Busy(what) = error {
            self.rejected.get_or_create(&[("kind", *what)]).inc();
        }
    }
}

/// The method of a request, as metrics and the log name it: anybody may make one up.
pub(crate) fn method(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

impl Api {
    /// Registers what is counted here.
    pub fn register(self: &Arc<Api>, registry: &mut Registry) {
        let Answers { all, took, rejected, connections } = &self.answers;
        registry.register("http_requests", "Answers by route, method and status", all.clone());
        let help = "From a request's head to the beginning of its answer";
        registry.register("http_request_duration_seconds", help, took.clone());
        registry.register("http_rejected", "Requests that were refused for want of a place", rejected.clone());
        connections.register(registry);
        let own = self.clone();
        registry.gauges("http_requests_in_flight", "Requests that have a place", "kind", move || {
            let (requests, downloads) = own.limits.taken();
            vec![("requests", requests as f64), ("downloads", downloads as f64)]
        });
        let (requests, downloads) = (self.settings.max_requests as f64, self.settings.max_downloads as f64);
        let help = "How many places there are (DPD_MAX_REQUESTS, DPD_MAX_DOWNLOADS)";
        registry
            .gauges("http_requests_max", help, "kind", move || vec![("requests", requests), ("downloads", downloads)]);
        let own = self.clone();
        registry.gauges("http_requests_waiting", "Requests that wait for a turn to be worked on", "lane", move || {
            let (look_ups, searches) = own.limits.waiting();
            vec![("look_ups", look_ups as f64), ("searches", searches as f64)]
        });
        self.downloads.register(registry);
        self.plans.register(registry);
        let own = self.clone();
        registry.gauge("download_plan_bytes", "Memory of the plans of archives that are kept", move || {
            Some(own.plans.held().1 as f64)
        });
        let own = self.clone();
        registry
            .gauge("download_plans_kept", "Plans of archives that are kept", move || Some(own.plans.held().0 as f64));
        self.auth.register(registry);
        self.volume.register(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_clients_send_makes_a_label() {
        assert_eq!(method(&Method::POST), "POST");
        assert_eq!(method(&Method::from_bytes(b"SECRET").expect("a method")), OTHER);
        let answers = Answers::default();
        for status in 100..1000 {
            let status = StatusCode::from_u16(status).expect("a status");
            answers.count(UNMATCHED, OTHER, status, Duration::ZERO);
        }
        let mut metrics = shared::metrics::Metrics::of("test", "1");
        metrics.families().register("all", "All", answers.all.clone());
        let text = metrics.text(shared::metrics::Format::OpenMetrics);
        assert_eq!(text.lines().filter(|line| line.starts_with("dpd_all_total")).count(), CODES.len() + 2);
    }
}
