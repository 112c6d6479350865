//! A service like the one before this one, as its HTTP guide shows it, since that one itself cannot be had: it answers from
//! what a real API of ours answered, with what a test changes of it, and notes what it was asked.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use tests::program::Server;

/// What it has, and how it fails.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Rows and metadata by uid, in the order of its lists.
    pub(super) rows: Vec<Map<String, Value>>,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) annotations: BTreeMap<String, Value>,
    pub(super) columns: Vec<Value>,
    /// What `HEAD` of archives tells; nothing where there is no such thing.
    pub(super) sizes: Option<BTreeMap<String, u64>>,
    /// When it read the volume last.
    pub(super) started_at: String,
    /// Whether `%` and `_` are wildcards.
    pub(super) wildcards: bool,
    /// Whether a filter by annotation fails.
    pub(super) fails_by_annotation: bool,
    /// Fields that no search has seen: filters by them are ignored.
    pub(super) unseen: BTreeSet<String>,
    /// How many questions fail before one is answered.
    pub(super) failures: usize,
    /// Whether it is of a release that had no pages.
    pub(super) without_pages: bool,
    /// The token that it asks for.
    pub(super) token: Option<&'static str>,
    /// What it was asked.
    pub(super) asked: BTreeSet<String>,
}

/// One that runs for as long as the test does.
#[derive(Debug)]
pub(super) struct OldService {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
}

impl OldService {
    /// One that knows what an API knows.
    pub(super) fn of(api: &Server) -> OldService {
        let mut state = State { started_at: "2100-01-01T00:00:00+00:00".to_owned(), ..State::default() };
        let all = api.filter(&json!({"pageSize": 1000}));
        let mut sizes = BTreeMap::new();
        for row in all["data"].as_array().expect("rows") {
            let uid = row["uid"].as_str().expect("a uid").to_owned();
            state.metadata.insert(uid.clone(), api.post("/dataproductmetadata", &json!({"uid": uid})).json());
            let annotations = api.get(&format!("/annotations/{uid}"));
            if annotations.status == 200 {
                state.annotations.insert(uid.clone(), without_zones(annotations.json()));
            }
            if let Ok(size) = api.head(&format!("/download/{uid}")).header("content-length").parse() {
                sizes.insert(uid, size);
            }
            state.rows.push(row.as_object().expect("a row").clone());
        }
        state.sizes = Some(sizes);
        state.columns = api.get_json("/muidatagridconfig")["columns"].as_array().expect("columns").clone();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let state = Arc::new(Mutex::new(state));
        let own = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || serve(stream, &own));
            }
        });
        OldService { url, state }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }
}

/// Its times have none.
fn without_zones(mut annotations: Value) -> Value {
    for annotation in annotations.as_array_mut().expect("a list") {
        for field in ["timestamp_created", "timestamp_modified"] {
            let time = annotation[field].as_str().expect("a time").trim_end_matches("+00:00").to_owned();
            annotation[field] = time.into();
        }
    }
    annotations
}

/// Answers request after request on a connection.
fn serve(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut line = BufReader::new(stream);
    loop {
        let (mut head, mut length, mut token) = (String::new(), 0, None);
        loop {
            let mut text = String::new();
            if line.read_line(&mut text).ok()? == 0 {
                return None;
            }
            let lower = text.trim().to_ascii_lowercase();
            match lower.split_once(": ") {
                Some(("content-length", own)) => length = own.parse().ok()?,
                Some(("authorization", own)) => token = own.strip_prefix("bearer ").map(str::to_owned),
                _ => {}
            }
            if lower.is_empty() {
                break;
            }
            if head.is_empty() {
                head = text.trim().to_owned();
            }
        }
        let mut body = vec![0; length];
        line.read_exact(&mut body).ok()?;
        let mut words = head.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let (status, length, answer) = {
            let mut state = state.lock().expect("no panic while it is held");
            state.asked.insert(format!("{method} {}", path.split('/').take(2).collect::<Vec<_>>().join("/")));
            match &state.token {
                Some(wanted) if token.as_deref() != Some(*wanted) => (401, None, json!({"detail": "who is this?"})),
                _ if state.failures > 0 && method == "POST" => {
                    state.failures -= 1;
                    (500, None, json!({"detail": "Internal Server Error"}))
                }
                _ => state.answer(method, path, &serde_json::from_slice(&body).unwrap_or_default()),
            }
        };
        let text = if method == "HEAD" || answer.is_null() { String::new() } else { answer.to_string() };
        let length = length.unwrap_or(text.len() as u64);
        let head = format!("HTTP/1.1 {status} So\r\ncontent-type: application/json\r\n");
        let answer = match status {
            204 => format!("{head}\r\n"),
            _ => format!("{head}content-length: {length}\r\n\r\n{text}"),
        };
        let out = line.get_mut();
        // At once, for in parts it would wait for the other side's acknowledgement.
        out.write_all(answer.as_bytes()).ok()?;
        out.flush().ok()?;
    }
}

impl State {
    fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Option<u64>, Value) {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method, parts.as_slice()) {
            ("GET", ["status"]) => {
                let status = json!({
                    "api_running": true,
                    "api_version": "0.17.0",
                    "startup_time": self.started_at,
                    "indexing": {"coordination_state": {"started_at": self.started_at}},
                    "metadata_store_status": {"number_of_dataproducts": self.rows.len()},
                });
                (200, None, status)
            }
            ("POST", ["filterdataproducts"]) => self.filter(body),
            ("POST", ["dataproductmetadata"]) => {
                let uid = body["uid"].as_str().unwrap_or_default();
                (200, None, self.metadata.get(uid).cloned().unwrap_or_else(|| json!({})))
            }
            ("GET", ["muidatagridconfig"]) => (200, None, json!({"columns": self.columns})),
            ("GET", ["annotations", uid]) => match self.annotations.get(*uid) {
                Some(annotations) => (200, None, annotations.clone()),
                None => (204, None, Value::Null),
            },
            ("HEAD", ["download", uid]) => match &self.sizes {
                None => (405, None, Value::Null),
                Some(sizes) => sizes.get(*uid).map_or((404, None, Value::Null), |size| (200, Some(*size), Value::Null)),
            },
            _ => (404, None, json!({"detail": "Not Found"})),
        }
    }

    fn filter(&self, body: &Value) -> (u16, Option<u64>, Value) {
        let items = body["filterModel"]["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if self.fails_by_annotation && items.iter().any(|item| item["field"] == "annotation") {
            return (500, None, json!({"detail": "operator does not exist: text = uuid"}));
        }
        let passes = |row: &&Map<String, Value>| items.iter().all(|item| self.passes(row, item));
        let found: Vec<_> = self.rows.iter().filter(passes).collect();
        if self.without_pages {
            return (200, None, json!(found));
        }
        let number = |name: &str| usize::try_from(body[name].as_u64().unwrap_or_default()).unwrap_or_default();
        let (page, size) = (number("page"), number("pageSize"));
        let data: Vec<_> = found.iter().skip(page * size).take(size).collect();
        (200, None, json!({"data": data, "total": found.len(), "page": page, "pageSize": size}))
    }

    fn passes(&self, row: &Map<String, Value>, item: &Value) -> bool {
        let field = item["field"].as_str().unwrap_or_default();
        if self.unseen.contains(field) {
            return true;
        }
        let texts: Vec<String> = match field {
            "annotation" => {
                let uid = row["uid"].as_str().unwrap_or_default();
                let own = self.annotations.get(uid).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                own.iter()
                    .filter_map(|annotation| annotation["annotation_text"].as_str())
                    .map(str::to_lowercase)
                    .collect()
            }
            _ => row.get(field).map(text).into_iter().filter(|text| !text.is_empty()).collect(),
        };
        let wanted = text(&item["value"]);
        let any = |test: &dyn Fn(&str) -> bool| texts.iter().any(|text| test(text));
        let like = |before: &str, after: &str| {
            let pattern = format!("{before}{wanted}{after}");
            any(&|text| like(&pattern, text, self.wildcards))
        };
        let compared = |test: fn(f64, f64) -> bool| {
            any(&|text| matches!((text.parse(), wanted.parse()), (Ok(own), Ok(other)) if test(own, other)))
        };
        let dated = |test: fn(&str, &str) -> bool| any(&|text| test(text, &wanted));
        match item["operator"].as_str().unwrap_or_default() {
            "contains" => like("\u{1}", "\u{1}"),
            "doesNotContain" => !like("\u{1}", "\u{1}"),
            "startsWith" => like("", "\u{1}"),
            "endsWith" => like("\u{1}", ""),
            "equals" | "is" => any(&|text| text == wanted),
            "doesNotEqual" | "not" => !any(&|text| text == wanted),
            "isEmpty" => texts.is_empty(),
            "isNotEmpty" => !texts.is_empty(),
            "isAnyOf" => {
                let all: Vec<String> = item["value"].as_array().expect("a list").iter().map(self::text).collect();
                any(&|text| all.iter().any(|other| other == text))
            }
            "=" => compared(|own, other| own == other),
            "!=" => !compared(|own, other| own == other),
            ">" => compared(|own, other| own > other),
            ">=" => compared(|own, other| own >= other),
            "<" => compared(|own, other| own < other),
            "<=" => compared(|own, other| own <= other),
            "after" => dated(|own, other| own > other),
            "onOrAfter" => dated(|own, other| own >= other),
            "before" => dated(|own, other| own < other),
            "onOrBefore" => dated(|own, other| own <= other),
            operator => panic!("the operator {operator}"),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).to_lowercase()
}

/// Whether a text is like a pattern, in which U+0001 stands for anything, and `%` and `_` are as in SQL where they are
/// wildcards.
fn like(pattern: &str, text: &str, wildcards: bool) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    match first {
        '\u{1}' => (0..=text.len()).any(|n| text.is_char_boundary(n) && like(rest, &text[n..], wildcards)),
        '%' if wildcards => (0..=text.len()).any(|n| text.is_char_boundary(n) && like(rest, &text[n..], wildcards)),
        '_' if wildcards => text.chars().next().is_some_and(|own| like(rest, &text[own.len_utf8()..], wildcards)),
        other => text.strip_prefix(other).is_some_and(|text| like(rest, text, wildcards)),
    }
}
