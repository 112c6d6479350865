//! What is asked all the time, and whether the answers are right.

use crate::ARRIVALS;
use crate::figures::Figures;
use crate::world::{Product, World};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};
use tests::permissions::{MEMBER, OUTSIDER};
use tests::program::{Answer, Server};

/// How long an arrival may take to be found: a takeover, and as long again as a walk comes late.
const ARRIVED: Duration = Duration::from_secs(90);
/// How long a worker rests after a request, so that there is a load and not only as much of one as there can be.
const REST: Duration = Duration::from_millis(20);

/// The load.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) world: &'a World<'a>,
    pub(crate) apis: &'a [Server],
    pub(crate) figures: &'a Figures,
    pub(crate) ending: &'a AtomicBool,
}

/// What a kind of request found wrong; nothing where it was announced that it cannot be answered.
type Checked = Result<(), String>;
/// A kind of request, made with a random number.
type Ask<'a> = fn(&Load<'a>, u64) -> Checked;

impl<'scope> Load<'scope> {
    /// Starts all of it.
    pub(crate) fn start<'env>(self, scope: &'scope Scope<'scope, 'env>) -> Vec<ScopedJoinHandle<'scope, ()>> {
        let kinds: [(&'static str, usize, Ask<'scope>); 7] = [
            ("search", 2, Load::search),
            ("filter", 2, Load::filter),
            ("metadata", 1, Load::metadata),
            ("download", 2, Load::download),
            ("download cut off", 1, Load::cut_download),
            ("annotation", 1, Load::annotate),
            ("status", 1, Load::status),
        ];
        let mut workers = Vec::new();
        for (name, count, ask) in kinds {
            for _ in 0..count {
                workers.push(scope.spawn(move || self.work(name, ask)));
            }
        }
        workers.push(scope.spawn(move || self.arrivals()));
        workers.push(scope.spawn(move || self.find_arrivals()));
        workers
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    fn work(&self, name: &'static str, ask: Ask<'scope>) {
        while !self.is_ending() {
            let begun = Instant::now();
            let checked = ask(self, random());
            self.figures.count(name, begun.elapsed(), checked.err());
            std::thread::park_timeout(REST);
        }
    }

    fn arrivals(&self) {
        let begun = Instant::now();
        let mut arrived = 0;
        while !self.is_ending() {
            while f64::from(arrived) < begun.elapsed().as_secs_f64() * f64::from(ARRIVALS) {
                self.world.arrive();
                arrived += 1;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn find_arrivals(&self) {
        while !self.is_ending() {
            for (product, since) in self.world.unseen() {
                match self.world.look(self.api(), product) {
                    Ok(true) => self.figures.count("arrival", since.elapsed(), None),
                    Ok(false) if since.elapsed() > ARRIVED => {
                        self.figures.count("arrival", since.elapsed(), Some(format!("{product:?} does not turn up")));
                    }
                    Ok(false) => {}
                    Err(wrong) => self.figures.count("arrival", since.elapsed(), Some(wrong)),
                }
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn api(&self) -> &Server {
        &self.apis[usize::try_from(random()).unwrap_or(0) % self.apis.len()]
    }

    /// The JSON of a good answer; `None` where it was announced that there is none.
    fn json(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Result<Option<Value>, String> {
        let answer = self.api().ask(method, path, token, body.to_string().as_bytes());
        match answer.status {
            200 => Ok(Some(answer.json())),
            _ if self.is_announced(&answer) => Ok(None),
            status => Err(format!("{method} {path} {body}: {status} {}", String::from_utf8_lossy(&answer.body))),
        }
    }

    fn is_announced(&self, answer: &Answer) -> bool {
        let announced = answer.status == 503 && !answer.header("retry-after").is_empty();
        if announced {
            self.figures.announced();
        }
        announced
    }

    /// By a value that one product has: its members find it, and nobody else does where it is restricted.
    fn search(&self, random: u64) -> Checked {
        let (product, uid) = self.world.any(random);
        let body = json!({"key_value_pairs": [format!("execution_block:{}", product.block())]});
        for (token, sees) in callers(product) {
            let Some(rows) = self.json("POST", "/dataproductsearch", token, &body)? else { return Ok(()) };
            let found: Vec<&str> =
                rows.as_array().into_iter().flatten().filter_map(|row| row["uid"].as_str()).collect();
            let expected: &[&str] = if sees { &[&uid] } else { &[] };
            if found != expected {
                return Err(format!("{product:?} as {token:?}: {found:?} and not {expected:?}"));
            }
        }
        Ok(())
    }

    /// A page of those of one kind: as many as there must be, no more than there can be, in order, none twice.
    fn filter(&self, random: u64) -> Checked {
        let kind = random % 10;
        let of_kind = |all: usize| (0..all).filter(|n| *n as u64 % 10 == kind && !Product(*n).is_restricted()).count();
        // Those seen need not be those of the least numbers, but nearly so; the totals are bounds.
        let least = of_kind(self.world.seen()).saturating_sub(500);
        let item = json!({"field": "soak.kind", "operator": "equals", "value": format!("kind_{kind}")});
        let body = json!({"filterModel": {"items": [item]}, "pageSize": 50, "page": random / 10 % 3});
        let Some(answer) = self.json("POST", "/filterdataproducts", None, &body)? else { return Ok(()) };
        let most = of_kind(self.world.products());
        let total = answer["total"].as_u64().and_then(|total| usize::try_from(total).ok()).unwrap_or(usize::MAX);
        if !(least..=most).contains(&total) {
            return Err(format!("kind {kind}: {total} is not from {least} to {most}"));
        }
        let rows = answer["data"].as_array().cloned().unwrap_or_default();
        let place =
            |row: &Value| (row["date_created"].as_str().map(str::to_owned), row["uid"].as_str().map(str::to_owned));
        for pair in rows.windows(2) {
            let ((date, uid), (next_date, next_uid)) = (place(&pair[0]), place(&pair[1]));
            if date < next_date || date == next_date && uid >= next_uid {
                return Err(format!("not in order: {} {}", pair[0], pair[1]));
            }
        }
        match rows.iter().find(|row| {
            let n = row["soak.n"].as_u64().unwrap_or(u64::MAX);
            n % 10 != kind || Product(usize::try_from(n).unwrap_or(0)).is_restricted()
        }) {
            Some(strange) => Err(format!("kind {kind}: {strange}")),
            None => Ok(()),
        }
    }

    fn metadata(&self, random: u64) -> Checked {
        let (product, uid) = self.world.any(random);
        for (token, sees) in callers(product) {
            let answer =
                self.api().ask("POST", "/dataproductmetadata", token, json!({"uid": uid}).to_string().as_bytes());
            let right = if sees {
                answer.status == 200
                    && answer.json()["execution_block"] == product.block()
                    && answer.json()["soak"]["n"] == product.0
            } else {
                answer.status == 403
            };
            if !right && !self.is_announced(&answer) {
                return Err(format!(
                    "{product:?} as {token:?}: {} {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                ));
            }
        }
        Ok(())
    }

    fn download(&self, random: u64) -> Checked {
        let (product, uid) = self.world.any(random);
        let answer = self.api().ask("POST", "/download", Some(MEMBER), json!({"uid": uid}).to_string().as_bytes());
        if self.is_announced(&answer) {
            return Ok(());
        }
        self.figures.bytes(answer.body.len());
        let mut archive = tar::Archive::new(answer.body.as_slice());
        let mut files = 0;
        for entry in archive.entries().map_err(|error| error.to_string())? {
            let mut entry = entry.map_err(|error| format!("{product:?}: {error}"))?;
            let path = entry.path().map_err(|error| error.to_string())?.into_owned();
            if !path.starts_with(product.folder()) && !path.starts_with(product.block()) {
                return Err(format!("{product:?}: {} is not its own", path.display()));
            }
            if path.ends_with("data.bin") {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
                files += usize::from(bytes == product.content());
            }
        }
        if files == 1 {
            Ok(())
        } else {
            Err(format!("{product:?}: {} with {files} files as they should be", answer.status))
        }
    }

    /// A client that goes in the middle.
    fn cut_download(&self, random: u64) -> Checked {
        let (product, _) = self.world.any(random);
        let body = json!({"execution_block": product.block()}).to_string();
        let mut stream = self.api().connect();
        let head = format!("POST /download HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MEMBER}\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).map_err(|error| error.to_string())?;
        let mut part = vec![0; usize::try_from(1 + random % 100_000).unwrap_or(1)];
        let read = stream.read(&mut part).map_err(|error| error.to_string())?;
        let answer = String::from_utf8_lossy(&part[..read.min(12)]).into_owned();
        if "HTTP/1.1 200".starts_with(&answer) || "HTTP/1.1 503".starts_with(&answer) { Ok(()) } else { Err(answer) }
    }

    fn annotate(&self, random: u64) -> Checked {
        let (product, uid) = self.world.any(random);
        let text = format!("said of {} at {random}", product.0);
        let body = json!({"data_product_uid": uid, "annotation_text": text});
        let answer = self.api().ask("POST", "/annotation", Some(MEMBER), body.to_string().as_bytes());
        let kept = match answer.status {
            201 => Some(true),
            // It may have been written without our hearing of it.
            _ if self.is_announced(&answer) => None,
            status => {
                return Err(format!(
                    "an annotation of {product:?}: {status} {}",
                    String::from_utf8_lossy(&answer.body)
                ));
            }
        };
        self.world.note(product, text, kept);
        let refused = self.api().ask("POST", "/annotation", None, body.to_string().as_bytes());
        if refused.status == 401 || self.is_announced(&refused) {
            return Ok(());
        }
        Err(format!("an annotation by nobody: {}", refused.status))
    }

    fn status(&self, _: u64) -> Checked {
        let Some(status) = self.json("GET", "/status", Some(OUTSIDER), &Value::Null)? else {
            return Err("/status says 503".to_owned());
        };
        let text = status.to_string();
        let known = status["metadata_store_status"]["number_of_dataproducts"].as_u64();
        let most = (0..self.world.products()).filter(|n| !Product(*n).is_restricted()).count() as u64;
        if known > Some(most) || !status["api_running"].as_bool().unwrap_or_default() {
            return Err(format!("more than {most}, or not running: {text}"));
        }
        Ok(())
    }
}

/// Who asks for a product, and whether he sees it.
fn callers(product: Product) -> [(Option<&'static str>, bool); 3] {
    let public = !product.is_restricted();
    [(Some(MEMBER), true), (Some(OUTSIDER), public), (None, public)]
}

/// A number that no other call gives.
fn random() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(42);
    let step = LAST.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mixed = (step ^ (step >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 8
}
