//! The two services, asked the same.

use super::super::{Client, Failure, Result};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::cell::Cell;
use std::time::Duration;

/// How often what fails is asked at the most.
const TRIES: usize = 3;
/// How long to wait before that.
const REST: Duration = Duration::from_millis(500);
/// After how many questions in a row that one of them did not answer at all it counts as down.
const SILENT: usize = 5;

/// What was answered. A status of 0: nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The JSON of it; null where it is none.
    pub(super) body: Value,
    /// Whether it was a failure before it was asked again.
    pub(super) again: bool,
}

impl Answer {
    fn none() -> Answer {
        Answer { status: 0, body: Value::Null, again: true }
    }

    pub(super) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        match (self.status, self.body.get("detail").and_then(Value::as_str)) {
            (0, _) => "no answer".to_owned(),
            (status, Some(detail)) => format!("status {status} ({detail})"),
            (status, None) => format!("status {status}"),
        }
    }
}

/// One of the two.
pub(super) struct Side {
    client: Client,
    /// How long to wait before each question.
    pause: Duration,
    silent: Cell<usize>,
    asked: Cell<usize>,
}

/// What is asked.
#[derive(Clone, Copy)]
pub(super) enum Question<'a> {
    Get(&'a str),
    Post(&'a str, &'a Value),
}

impl Side {
    pub(super) fn new(client: Client, pause: Duration) -> Side {
        Side { client, pause, silent: Cell::new(0), asked: Cell::new(0) }
    }

    /// Counts a question, which is not asked before its time.
    fn begin(&self) {
        self.asked.set(self.asked.get() + 1);
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
    }

    /// Asks, and again where it fails. An error where it seems to be down.
    pub(super) fn ask(&self, question: Question<'_>) -> Result<Answer> {
        let mut answer = self.ask_once(question);
        let failed = |answer: &std::result::Result<Answer, _>| answer.as_ref().map_or(true, |own| own.status >= 500);
        for _ in 1..TRIES {
            if failed(&answer) {
                std::thread::sleep(REST);
                answer = self.ask_once(question).map(|answer| Answer { again: true, ..answer });
            }
        }
        match answer {
            Ok(answer) => {
                self.silent.set(0);
                Ok(answer)
            }
            Err(error) => {
                self.silent.set(self.silent.get() + 1);
                if self.silent.get() >= SILENT { Err(self.client.unreachable(&error)) } else { Ok(Answer::none()) }
            }
        }
    }

    fn ask_once(&self, question: Question<'_>) -> std::result::Result<Answer, ureq::Error> {
        self.begin();
        let mut answer = match question {
            Question::Get(path) => self.client.get(path, &[]),
            Question::Post(path, body) => self.client.post(path, body),
        }?;
        let status = answer.status().as_u16();
        let body = if status == 204 { Ok(Value::Null) } else { self.client.body(&mut answer) };
        Ok(Answer { status, body: body.unwrap_or_default(), again: false })
    }

    /// The status and the length that a `HEAD` tells.
    pub(super) fn head(&self, path: &str) -> (u16, Option<u64>) {
        self.begin();
        let Ok(answer) = self.client.head(path) else { return (0, None) };
        let length = answer.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        (answer.status().as_u16(), length)
    }

    /// When a file of a product was changed last, as a `HEAD` tells.
    pub(super) fn changed(&self, path: &str) -> Option<DateTime<Utc>> {
        self.begin();
        let answer = self.client.head(path).ok().filter(|answer| answer.status().is_success())?;
        let time = answer.headers().get("last-modified")?.to_str().ok()?;
        DateTime::parse_from_rfc2822(time).ok().map(|time| time.to_utc())
    }
}

/// Both.
pub(super) struct Sides {
    pub(super) old: Side,
    pub(super) new: Side,
}

impl Sides {
    /// Asks both the same, one after the other.
    pub(super) fn both(&self, question: Question<'_>) -> Result<(Answer, Answer)> {
        Ok((self.old.ask(question)?, self.new.ask(question)?))
    }

    /// How many questions each was asked at the most.
    pub(super) fn asked(&self) -> usize {
        self.old.asked.get().max(self.new.asked.get())
    }

    /// Sees to it that both answer, and finds out when the old one began to read the volume last.
    pub(super) fn begin(&self) -> Result<Option<DateTime<Utc>>> {
        let mut read_at = None;
        for side in [&self.old, &self.new] {
            let status = side.client.get_json("/status")?;
            if std::ptr::eq(side, &self.old) {
                let times = ["/indexing/coordination_state/started_at", "/startup_time"];
                read_at = times.iter().find_map(|place| time(status.pointer(place)?));
            }
            if status.get("metadata_store_status").is_none() {
                let server = &side.client.server;
                return Err(Failure::Unusable(format!(
                    "{server} is no data product API: its /status has other fields"
                )));
            }
        }
        Ok(read_at)
    }
}

/// A time as either of them writes it: what has no zone is UTC's.
pub(super) fn time(value: &Value) -> Option<DateTime<Utc>> {
    let text = value.as_str()?;
    let with_zone = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    with_zone.ok().or_else(|| DateTime::parse_from_rfc3339(&format!("{text}Z")).map(|time| time.to_utc()).ok())
}
