//! Fetching an archive, however often the connection breaks: each time from where it broke, and from the beginning if the
//! archive is another meanwhile.

use super::part::{Origin, Part};
use super::{Client, Failure, Result, refusal, tell};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Read};
use std::time::{Duration, Instant};
use ureq::Body;
use ureq::http::{HeaderMap, Response, header};

/// The pauses between attempts: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long to try for a server that never answered.
const UNKNOWN: Duration = Duration::from_secs(10);
/// How often somebody who is no terminal is told how far it is.
const TELL: Duration = Duration::from_secs(10);
/// How much is read at once, in bytes.
const READ: usize = 256 << 10;

/// Why an attempt ended before all was there.
enum Ended {
    /// Trying again may help.
    Broken(String),
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended::Failed(failure)
    }
}

/// Fetches what is missing of a part. Gives up when nothing more came for as long as `patience`.
pub(crate) fn fetch(client: &Client, path: &str, part: &mut Part, patience: Duration) -> Result<()> {
    let mut progress = Progress::new(part);
    let (mut pause, mut since, mut before) = (PAUSE, Instant::now(), part.length);
    loop {
        let why = match attempt(client, path, part, &mut progress) {
            Ok(()) => break,
            Err(Ended::Failed(failure)) => return Err(failure),
            Err(Ended::Broken(why)) => why,
        };
        if part.length != before {
            (pause, since, before) = (PAUSE, Instant::now(), part.length);
        }
        // Where nothing ever came, there may be no such server.
        let patience = if part.origin.is_some() { patience } else { patience.min(UNKNOWN) };
        if since.elapsed() + pause > patience {
            let kept = format!("{} are kept, and the same command goes on from there", HumanBytes(part.length));
            return Err(Failure::Unreachable(format!("{} gives no more: {why}. {kept}.", client.server)));
        }
        if pause == PAUSE || pause == LONGEST_PAUSE {
            progress.say(&format!("{why}; trying again"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    progress.bar.finish_and_clear();
    Ok(())
}

fn attempt(client: &Client, path: &str, part: &mut Part, progress: &mut Progress) -> std::result::Result<(), Ended> {
    let etag = part.origin.as_ref().and_then(|origin| origin.etag.clone());
    let range = format!("bytes={}-", part.length);
    let headers = match &etag {
        Some(etag) if part.length > 0 => vec![("Range", range.as_str()), ("If-Range", etag)],
        _ => Vec::new(),
    };
    let mut answer = match client.get(path, &headers) {
        Ok(answer) => answer,
        Err(error) => return Err(Ended::Broken(client.unreached(&error))),
    };
    match answer.status().as_u16() {
        200 => {
            if part.length > 0 {
                progress.say("the files have changed on the server: beginning again");
            }
            let total = number(answer.headers(), header::CONTENT_LENGTH.as_str());
            let total =
                total.ok_or_else(|| Failure::Failed("the server does not say how long the archive is".into()))?;
            part.restart(Origin { etag: etag_of(&answer), total })?;
        }
        206 if goes_on(&answer, part) => {}
        // All is there, of the same version: the server looked at that first.
        416 if part.is_whole() => return Ok(()),
        206 | 416 => {
            part.restart(Origin { etag: None, total: 0 })?;
            return Err(Ended::Broken("the server answers with another part".to_owned()));
        }
        408 | 429 | 502 | 503 | 504 => return Err(Ended::Broken(refusal(&mut answer).to_string())),
        _ => return Err(refusal(&mut answer).into()),
    }
    progress.begin(part);
    receive(answer, part, progress)
}

fn receive(answer: Response<Body>, part: &mut Part, progress: &mut Progress) -> std::result::Result<(), Ended> {
    let mut body = answer.into_body().into_with_config().limit(u64::MAX).reader();
    let mut bytes = vec![0; READ];
    loop {
        match body.read(&mut bytes) {
            Ok(0) if part.is_whole() => return Ok(()),
            Ok(0) => return Err(Ended::Broken("the connection was broken off".to_owned())),
            Ok(read) => part.add(&bytes[..read])?,
            Err(error) => return Err(Ended::Broken(format!("the connection broke ({error})"))),
        }
        progress.at(part);
        if part.is_whole() {
            return Ok(());
        }
    }
}

/// Whether an answer is the rest of what is there.
fn goes_on(answer: &Response<Body>, part: &Part) -> bool {
    let range = answer.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    let expected = part.origin.as_ref().is_some_and(|origin| {
        let (first, last, total) = (part.length, origin.total.saturating_sub(1), origin.total);
        range == format!("bytes {first}-{last}/{total}")
    });
    expected && etag_of(answer) == part.origin.as_ref().and_then(|origin| origin.etag.clone())
}

/// A strong ETag, which alone says that bytes are the same.
fn etag_of(answer: &Response<Body>) -> Option<String> {
    let etag = answer.headers().get(header::ETAG)?.to_str().ok()?;
    etag.starts_with('"').then(|| etag.to_owned())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// How far it is, for who looks on: a bar on a terminal, a line now and then otherwise.
struct Progress {
    bar: ProgressBar,
    /// When the last line was written, and since when and from where the rate is counted.
    told: Instant,
    begun: (Instant, u64),
}

impl Progress {
    fn new(part: &Part) -> Progress {
        let style = ProgressStyle::with_template(
            "{spinner} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = match io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style),
            false => ProgressBar::hidden(),
        };
        Progress { bar, told: Instant::now(), begun: (Instant::now(), part.length) }
    }

    /// Bytes come, from where the part ends.
    fn begin(&mut self, part: &Part) {
        let total = part.origin.as_ref().map_or(0, |origin| origin.total);
        self.bar.set_length(total);
        self.bar.set_position(part.length);
        self.bar.reset_eta();
        self.begun = (Instant::now(), part.length);
        if self.bar.is_hidden() {
            let what =
                if part.length > 0 { format!("going on at {} of", HumanBytes(part.length)) } else { "fetching".into() };
            self.say(&format!("{what} {}", HumanBytes(total)));
        }
    }

    fn at(&mut self, part: &Part) {
        self.bar.set_position(part.length);
        if self.bar.is_hidden() && self.told.elapsed() >= TELL {
            let total = part.origin.as_ref().map_or(0, |origin| origin.total);
            let rate = (part.length - self.begun.1) as f64 / self.begun.0.elapsed().as_secs_f64().max(0.001);
            let left = Duration::from_secs_f64(((total - part.length) as f64 / rate.max(1.0)).min(1e9));
            let (done, total, left) = (HumanBytes(part.length), HumanBytes(total), HumanDuration(left));
            self.say(&format!("{done} of {total}, {}/s, {left} left", HumanBytes(rate as u64)));
        }
    }

    fn say(&mut self, line: &str) {
        self.told = Instant::now();
        self.bar.suspend(|| tell(&line));
    }
}
