//! Pages of the grid: every filter of the table of targets, unsorted and in other orders, and what else one client asks.

use crate::client::{Client, get, post};
use crate::measure::latency;
use crate::plain::Plain;
use crate::report::{Report, Target, Times, milliseconds};
use crate::searches::{Asked, JOINED, SEARCHES, Search, UNFORESEEN, page};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::permissions::MEMBER;
use tests::program::Server;

/// The orders that are asked for beside the default one: a text and a number, each either way.
const SORTS: [(&str, &str); 4] = [
    ("config.processing_block", "asc"),
    ("config.processing_block", "desc"),
    ("obscore.t_min", "asc"),
    ("obscore.t_min", "desc"),
];
/// What the targets call a page's times: unsorted and sorted, few and half.
const TARGETS: [[f64; 2]; 2] = [[50.0, 250.0], [100.0, 400.0]];

/// One client, what its answers stand beside, and where the figures go.
pub(crate) struct Pages<'a> {
    client: Client,
    /// What rows begin with.
    pub(crate) prefix: &'static str,
    plain: Option<&'a Plain<'a>>,
    /// How long a request takes that asks nothing of the index.
    idle: Duration,
}

impl<'a> Pages<'a> {
    pub(crate) fn of(server: &Server, prefix: &'static str, plain: Option<&'a Plain<'a>>) -> Pages<'a> {
        let mut client = Client::of(server);
        let idle = latency(|_| client.good(&get("/livez"))).median();
        Pages { client, prefix, plain, idle }
    }

    /// Everything that the table names.
    pub(crate) fn all(&mut self, scale: usize, report: &mut Report) {
        self.unfiltered(scale, report);
        for search in &SEARCHES {
            self.search(search, "and", report);
        }
        for (logic, search) in &JOINED {
            self.search(search, logic, report);
        }
        for search in &UNFORESEEN {
            self.unforeseen(search, report);
        }
    }

    /// Some of it, for what answers by other means and has no targets.
    pub(crate) fn some(&mut self, report: &mut Report) {
        for search in SEARCHES.iter().take(4).chain(&SEARCHES[6..8]) {
            for asked in [search.few, search.half].into_iter().flatten() {
                let (times, share) = self.times(&asked, "and", None, None);
                self.plain_row(&format!("{}, {share}", search.name), &times, report);
            }
        }
        for sort in SORTS {
            let (times, _) = self.times(&NONE, "and", Some(sort), None);
            self.plain_row(&format!("no filter, sorted by `{}` {}", sort.0, sort.1), &times, report);
        }
    }

    fn plain_row(&self, what: &str, times: &Times, report: &mut Report) {
        let ratio = crate::report::ratio(times.median(), self.idle);
        report.row(&format!("{}{what}", self.prefix), &times.text(95), &self.beside_idle(), &ratio);
    }

    fn beside_idle(&self) -> String {
        format!("`/livez`, {}", milliseconds(self.idle))
    }

    fn unfiltered(&mut self, scale: usize, report: &mut Report) {
        let (times, _) = self.times(&NONE, "and", None, None);
        let (beside, plain) = self.beside(&NONE, None);
        report.times("first page, no filter", &times, Target::Within(95, 10.0), &beside, plain);
        for sort in SORTS {
            let (times, _) = self.times(&NONE, "and", Some(sort), None);
            let what = format!("first page, no filter, sorted by `{}` {}", sort.0, sort.1);
            let (beside, plain) = self.beside(&NONE, Some(sort));
            report.times(&what, &times, Target::Within(95, TARGETS[1][1]), &beside, plain);
        }
        // At a quarter of the volume: page 10,000 of a million products.
        let far = scale / 100;
        let times = self.timed(|n| {
            let mut body = page(&json!([]), "and", None);
            // Neither the page after the one before nor the same, which would be easier.
            body["page"] = json!(far - n * 37 % (far / 10).max(1));
            post("/filterdataproducts", &body, None)
        });
        let what = format!("page {far}, no filter");
        let (beside, plain) = self.beside_page(far * 25);
        report.times(&what, &times.0, Target::Within(95, 100.0), &beside, plain);
    }

    fn search(&mut self, search: &Search, logic: &str, report: &mut Report) {
        let token = search.member.then_some(MEMBER);
        for (asked, measure) in [(search.few, 0), (search.half, 1)] {
            let Some(asked) = asked else { continue };
            let (times, share) = self.times(&asked, logic, None, token);
            let what = format!("{}, {share}", search.name);
            let (beside, plain) = self.beside(&asked, None);
            report.times(&what, &times, Target::Within(95, TARGETS[0][measure]), &beside, plain);
            let sorted = SORTS.map(|sort| (self.times(&asked, logic, Some(sort), token).0, sort));
            let worst = sorted.iter().max_by_key(|(times, _)| times.percentile(95));
            let Some((sorted, (field, direction))) = worst else { continue };
            let what = format!("{what}, worst of four orders: `{field}` {direction}");
            let beside = format!("unsorted, {}", milliseconds(times.median()));
            report.times(&what, sorted, Target::Within(95, TARGETS[1][measure]), &beside, Some(times.median()));
        }
    }

    fn unforeseen(&mut self, search: &Search, report: &mut Report) {
        for (asked, is_half) in [(search.few, false), (search.half, true)] {
            let Some(asked) = asked else { continue };
            let (times, share) = self.times(&asked, "and", None, None);
            let what = format!("{}, {share}", search.name);
            let (beside, plain) = self.beside(&asked, None);
            if is_half {
                let ratio = plain.map_or(String::new(), |plain| crate::report::ratio(times.median(), plain));
                report.row(&what, &times.text(95), &beside, &ratio);
            } else {
                report.times(&what, &times, Target::Within(95, 300.0), &beside, plain);
            }
        }
    }

    /// How long pages of a filter take, and how many products match, in words.
    fn times(
        &mut self,
        asked: &Asked,
        logic: &str,
        sort: Option<(&str, &str)>,
        token: Option<&str>,
    ) -> (Times, String) {
        let (times, last) = self.timed(|n| post("/filterdataproducts", &page(&(asked.body)(n), logic, sort), token));
        let total = match last {
            Ok(total) => total,
            Err(refused) => return (times, refused),
        };
        let (_, all) = self.client.ask(&post("/filterdataproducts", &page(&json!([]), "and", None), token));
        let share = total as f64 / total_of(all).unwrap_or_default().max(1) as f64 * 100.0;
        let digits = if share < 10.0 { 2 } else { 0 };
        (times, format!("{share:.digits$} % match"))
    }

    /// Times requests. Answers the total that came last, or, in words, that there were other answers than good ones: a
    /// search may be refused, and that must be seen.
    fn timed(&mut self, request: impl Fn(usize) -> Vec<u8>) -> (Times, Result<u64, String>) {
        let (client, mut statuses, mut last) = (&mut self.client, BTreeMap::new(), Vec::new());
        let times = latency(|n| {
            let (status, body) = client.ask(&request(n));
            *statuses.entry(status).or_insert(0) += 1;
            // To be read when it is not timed any more.
            last.clear();
            last.extend_from_slice(body);
        });
        let refused = || format!("answered with {statuses:?}");
        let all_good = statuses.keys().all(|status| *status == 200);
        (times, total_of(&last).filter(|_| all_good).ok_or_else(refused))
    }

    /// What the service before would have taken, where it is asked for.
    fn beside(&self, asked: &Asked, sort: Option<(&str, &str)>) -> (String, Option<Duration>) {
        match (self.plain, asked.plain) {
            (Some(plain), Some(condition)) => {
                let time = plain.page(condition, sort, 0);
                (format!("JSONB, {}", milliseconds(time)), Some(time))
            }
            _ => (self.beside_idle(), Some(self.idle)),
        }
    }

    fn beside_page(&self, offset: usize) -> (String, Option<Duration>) {
        match self.plain {
            Some(plain) => {
                let time = plain.page("true", None, offset);
                (format!("JSONB, {}", milliseconds(time)), Some(time))
            }
            None => (self.beside_idle(), Some(self.idle)),
        }
    }
}

/// No filter.
const NONE: Asked = Asked { body: |_| json!([]), plain: Some("true") };

/// The total in a page.
fn total_of(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(body).ok()?["total"].as_u64()
}
