//! The answer with something that can be resumed: its headers, and its bytes as they are read.

use super::content::{Broken, Why};
use super::count::{Running, Share};
use super::range::{Conditions, Decision, Validators, decide};
use super::source::Source;
use crate::error::{ApiError, Result};
use crate::reply::Response;
use bytes::Bytes;
use futures::stream;
use shared::clock;
use std::io;
use std::ops::Range;
use std::time::SystemTime;
use tokio::task::JoinHandle;
use warp::Reply;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

/// What there is to be had.
pub(crate) struct Representation {
    pub(crate) etag: String,
    /// From when on all its versions are settled, in nanoseconds since 1970.
    pub(crate) settled: i64,
    pub(crate) total: u64,
    pub(crate) content_type: &'static str,
    pub(crate) disposition: String,
}

/// A request's method and headers.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
}

/// Answers with all of it, with a part, or that the client has it, as the request's headers want. `open` gives the
/// source of a part; it is not called where no bytes are sent.
pub(crate) async fn respond<S: Source>(
    head: &Head,
    representation: Representation,
    running: &Running,
    chunk: usize,
    open: impl FnOnce(Range<u64>) -> S,
) -> Result<Response> {
    let now = SystemTime::from(clock::now());
    let total = representation.total;
    let own = Validators::new(representation.etag.clone(), representation.settled);
    let (status, part) = match decide(&conditions(head), &own, total) {
        Decision::Whole => (StatusCode::OK, 0..total),
        Decision::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first..last + 1),
        Decision::NotModified => (StatusCode::NOT_MODIFIED, 0..0),
        Decision::Failed => return Err(ApiError::PreconditionFailed),
        Decision::Unsatisfiable => return Err(ApiError::RangeNotSatisfiable { total }),
    };
    let sends = head.method != Method::HEAD && !part.is_empty();
    let mut response = match sends {
        true => body(open(part.clone()), running.begin(), chunk).await?,
        false => warp::reply().into_response(),
    };
    *response.status_mut() = status;
    headers(response.headers_mut(), &representation, own.last_modified(now), status, &part);
    Ok(response)
}

fn conditions(head: &Head) -> Conditions<'_> {
    let get = |name: HeaderName| head.headers.get(name).map(HeaderValue::as_bytes);
    let gets = [Method::GET, Method::HEAD].contains(&head.method);
    let got = |name| if gets { get(name) } else { None };
    Conditions {
        // Of a range, HTTP knows with GET; ours with POST as well, for those who ask by a body.
        range: if head.method == Method::HEAD { None } else { get(header::RANGE) },
        if_range: get(header::IF_RANGE),
        if_match: get(header::IF_MATCH),
        if_unmodified_since: get(header::IF_UNMODIFIED_SINCE),
        if_none_match: got(header::IF_NONE_MATCH),
        if_modified_since: got(header::IF_MODIFIED_SINCE),
    }
}

fn headers(
    headers: &mut HeaderMap,
    representation: &Representation,
    last_modified: SystemTime,
    status: StatusCode,
    part: &Range<u64>,
) {
    let total = representation.total;
    let mut set = |name, value: &str| headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    set(header::ETAG, &representation.etag);
    set(header::LAST_MODIFIED, &httpdate::fmt_http_date(last_modified));
    set(header::ACCEPT_RANGES, "bytes");
    // What is to be had depends on who asks.
    set(header::CACHE_CONTROL, "private, no-cache");
    if status == StatusCode::NOT_MODIFIED {
        return;
    }
    set(header::CONTENT_TYPE, representation.content_type);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::CONTENT_DISPOSITION, &representation.disposition);
    set(header::CONTENT_LENGTH, &(part.end - part.start).to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        set(header::CONTENT_RANGE, &format!("bytes {}-{}/{total}", part.start, part.end - 1));
    }
}

/// A source with what was read of it.
type Read<S> = std::result::Result<(S, Bytes), (S, Broken)>;

/// A body of all that a source has. The first bytes are read before the answer begins, so that what cannot be read at
/// all is an error with a status; after that, an error breaks the connection off, and the client sees that something is
/// missing.
async fn body<S: Source>(source: S, mut share: Share, chunk: usize) -> Result<Response> {
    let (source, first) = match finished(read(source, chunk)).await {
        Ok(Ok(read)) => read,
        Ok(Err((source, broken))) => {
            source.broken();
            share.broken(&broken);
            return Err(match broken.why {
                Why::Unreadable => ApiError::unreadable(1, &broken.path),
                _ => ApiError::changing(),
            });
        }
        Err(_) => return Err(ApiError::Internal),
    };
    let next = (source.left() > 0).then(|| read(source, chunk));
    let state = Sending { ready: first, next, share, size: chunk, chunk };
    let chunks = stream::try_unfold(state, |state| async { state.next().await });
    Ok(warp::reply::stream(chunks).into_response())
}

/// A body in the making: what was read is sent while what comes after it is read.
struct Sending<S> {
    ready: Bytes,
    next: Option<JoinHandle<Read<S>>>,
    share: Share,
    /// How much was read the last time. It grows, for a client that takes it.
    size: usize,
    chunk: usize,
}

impl<S: Source> Sending<S> {
    async fn next(mut self) -> io::Result<Option<(Bytes, Sending<S>)>> {
        if self.ready.is_empty() {
            let Some(next) = self.next.take() else { return Ok(None) };
            let source = match finished(next).await? {
                Ok((_, bytes)) if bytes.is_empty() => return Ok(None),
                Ok((source, bytes)) => {
                    self.ready = bytes;
                    source
                }
                Err((source, broken)) => {
                    source.broken();
                    self.share.broken(&broken);
                    return Err(io::Error::other(broken.to_string()));
                }
            };
            self.size = (self.size * 2).min(self.share.ahead()).max(self.chunk);
            self.next = (source.left() > 0).then(|| read(source, self.size));
        }
        let chunk = self.ready.split_to(self.chunk.min(self.ready.len()));
        self.share.handed(chunk.len());
        if self.ready.is_empty() && self.next.is_none() {
            self.share.completed();
        }
        Ok(Some((chunk, self)))
    }
}

/// Reads on a thread that may wait for the disk. No thread is held while the client takes its time.
fn read<S: Source>(mut source: S, bytes: usize) -> JoinHandle<Read<S>> {
    tokio::task::spawn_blocking(move || {
        let mut buffer = Vec::with_capacity(usize::try_from(source.left()).map_or(bytes, |left| left.min(bytes)));
        match source.fill(bytes, &mut buffer) {
            Ok(()) => Ok((source, buffer.into())),
            Err(broken) => Err((source, broken)),
        }
    })
}

async fn finished<S>(reading: JoinHandle<Read<S>>) -> io::Result<Read<S>> {
    reading.await.map_err(io::Error::other)
}

/// `Content-Disposition` with a name that every client can read, and the true one beside it where they differ (RFC 6266).
/// Neither leads to another folder, for clients that save under it without a look.
pub(crate) fn disposition(kind: &str, name: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let text = String::from_utf8_lossy(name);
    let is_dots = text.chars().all(|c| c == '.');
    let text: String = text.chars().map(|c| if is_dots || leads_astray(c) { '_' } else { c }).collect();
    let is_safe = |c: char| u8::try_from(c).is_ok_and(|byte| plain(&byte));
    let safe: String = text.chars().map(|c| if is_safe(c) { c } else { '_' }).collect();
    if safe == text {
        return format!("{kind}; filename=\"{safe}\"");
    }
    let encoded: String = text
        .bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("{kind}; filename=\"{safe}\"; filename*=UTF-8''{encoded}")
}

/// Whether a character has no place in a file's name: it parts names, does something to a terminal, or turns the order
/// around in which what follows is shown.
fn leads_astray(c: char) -> bool {
    matches!(c, '/' | '\\' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') || c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere() {
        for (name, safe) in [
            ("../../etc/x-20240101-1.tar", ".._.._etc_x-20240101-1.tar"),
            ("..\\x", ".._x"),
            ("..", "__"),
            (".", "_"),
            ("...tar", "...tar"),
            ("/", "_"),
            ("a\u{0}b\u{7f}\u{9f}", "a_b__"),
            ("a\u{202e}rat.exe", "a_rat.exe"),
        ] {
            let disposition = disposition("attachment", name.as_bytes());
            assert!(disposition.starts_with(&format!("attachment; filename=\"{safe}\"")), "{name:?}: {disposition}");
            let encoded = disposition.split_once("UTF-8''").map_or(safe, |(_, encoded)| encoded);
            assert_eq!(encoded, safe, "{name:?}: {disposition}");
        }
    }

    #[test]
    fn odd_names_are_encoded() {
        assert_eq!(disposition("attachment", b"eb-1.tar"), "attachment; filename=\"eb-1.tar\"");
        assert_eq!(
            disposition("inline", "a\"b\r\né".as_bytes()),
            "inline; filename=\"a_b___\"; filename*=UTF-8''a%22b__%C3%A9"
        );
    }
}
