//! Bodies of requests: how they arrive, how much of all of them together is kept, and how they are read.
//!
//! What a body takes is the sender's choice, and so is when he sends the rest of it. So nothing that others need is held while
//! one arrives: it has no place among the requests, and the bytes of all are bounded. Where there is no more room, the
//! one makes way that has sent nothing for longest. What is made of one is bounded as well, and made on threads where
//! others do not wait for it.

use crate::error::{ApiError, Result};
use bytes::{Buf, Bytes};
use futures::stream::{BoxStream, StreamExt};
use serde_json::{Map, Value};
use shared::bounded::NotRead;
use shared::json::{self, BadJson};
use shared::server::Client;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use warp::http::{HeaderMap, header};

/// The largest body of most requests, in bytes.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;
/// The largest body of metadata, in bytes.
pub(crate) const METADATA_LIMIT: usize = 16 * 1024 * 1024;
/// How long the next part of a body may take, and the whole of it.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How many bytes of a body have to come in a second, once it has had the time of one part.
const LEAST_RATE: u64 = 1024;
/// How much of a body that is too large is read and thrown away, so that the client gets to see the answer.
const DRAIN_LIMIT: usize = 4 * METADATA_LIMIT;
/// How many bytes are kept of all bodies together.
const ROOM: usize = 64 * 1024 * 1024;
/// How many bytes of a body do not count there, which are most often all. Those are also read at once: what can be made of
/// them is little.
const SMALL: usize = 16 * 1024;
/// How many bytes of bodies are being made values of, at the same time. One counts for no more than half of them: more values
/// than are in so many bytes it may not have.
const TURNS: usize = 4 * 1024 * 1024;

/// A body as it arrives.
pub(crate) type Arriving = BoxStream<'static, std::result::Result<Bytes, warp::Error>>;

/// Makes one of what `warp` gives.
pub(crate) fn arriving<B: Buf>(
    stream: impl futures::Stream<Item = std::result::Result<B, warp::Error>> + Send + 'static,
) -> Arriving {
    stream.map(|part| part.map(|mut buf| buf.copy_to_bytes(buf.remaining()))).boxed()
}

/// Reads what comes of a body that nobody wants, so that its client gets to see the answer.
pub(crate) async fn drain(mut body: Arriving) {
    let end = Instant::now() + PART_TIMEOUT;
    let mut length = 0;
    while let Ok(Some(Ok(part))) = timeout_at(end, body.next()).await {
        length += part.len();
        if length > BODY_LIMIT {
            return;
        }
    }
}

/// What all bodies have in common.
pub(crate) struct Bodies {
    room: Mutex<Room>,
    freed: Notify,
    turns: Arc<Semaphore>,
}

struct Room {
    /// How many bytes more there may be.
    left: usize,
    /// Those that arrive, the one of which nothing came for longest first.
    arriving: BTreeMap<u64, Arc<Notify>>,
    last: u64,
}

impl Default for Bodies {
    fn default() -> Bodies {
        let room = Room { left: ROOM, arriving: BTreeMap::new(), last: 0 };
        Bodies { room: Mutex::new(room), freed: Notify::new(), turns: Arc::new(Semaphore::new(TURNS)) }
    }
}

impl Bodies {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a body of at most `limit` bytes is whole.
    ///
    /// # Errors
    /// Where it is compressed, too large, too slow, breaks off, or others need its room.
    pub(crate) async fn whole(
        self: &Arc<Self>,
        mut parts: Arriving,
        headers: &HeaderMap,
        limit: usize,
        client: Option<&Client>,
    ) -> Result<Body> {
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(ApiError::ContentEncoding);
        }
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let too_large = announced.is_some_and(|length: usize| length > limit);
        if too_large && headers.contains_key(header::EXPECT) {
            return Err(ApiError::BodyTooLarge { limit });
        }
        let awaited = client.map(Client::awaited);
        let mut kept = Kept::new(self);
        let (mut length, mut crowded) = (0, false);
        let begun = Instant::now();
        loop {
            let slow = begun + PART_TIMEOUT + Duration::from_secs(length as u64 / LEAST_RATE);
            let until = slow.min(begun + BODY_TIMEOUT).min(Instant::now() + PART_TIMEOUT);
            let part = tokio::select! {
                part = timeout_at(until, parts.next()) => part.map_err(|_| ApiError::SlowBody)?,
                () = kept.evicted.notified() => {
                    crowded = true;
                    kept.give_up();
                    continue;
                }
            };
            match part {
                None if length > limit => return Err(ApiError::BodyTooLarge { limit }),
                None if crowded => return Err(ApiError::Busy("bytes of requests")),
                None => return Ok(Body(kept.settled())),
                Some(Err(_)) => return Err(ApiError::BadRequest("The request's body broke off.".to_owned())),
                Some(Ok(part)) => {
                    if let Some(awaited) = &awaited {
                        awaited.came();
                    }
                    length += part.len();
                    if length > DRAIN_LIMIT {
                        return Err(ApiError::BodyTooLarge { limit });
                    }
                    if length > limit || too_large {
                        kept.give_up();
                    } else if !crowded && !kept.add(&part, announced.unwrap_or(limit)).await {
                        crowded = true;
                        kept.give_up();
                    }
                }
            }
        }
    }
}

/// Bytes that are kept, counted until this is dropped.
struct Kept {
    all: Arc<Bodies>,
    bytes: Vec<u8>,
    counted: usize,
    /// Since when nothing came; `None` once it is whole, or given up.
    turn: Option<u64>,
    evicted: Arc<Notify>,
}

impl Kept {
    fn new(all: &Arc<Bodies>) -> Kept {
        let mut kept =
            Kept { all: all.clone(), bytes: Vec::new(), counted: 0, turn: None, evicted: Arc::new(Notify::new()) };
        kept.turn = Some(kept.next_turn());
        kept
    }

    fn next_turn(&self) -> u64 {
        let mut room = self.all.room();
        room.last += 1;
        let turn = room.last;
        room.arriving.insert(turn, self.evicted.clone());
        turn
    }

    /// Adds a part of a body that may come to `most` bytes; false where there is no room for it.
    async fn add(&mut self, part: &[u8], most: usize) -> bool {
        let needed = self.bytes.len() + part.len();
        if needed > self.bytes.capacity() {
            let capacity = needed.max(most.min(2 * self.bytes.capacity()));
            if !self.make_room(capacity.saturating_sub(SMALL)).await {
                return false;
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
        if let Some(turn) = self.turn.take() {
            self.all.room().arriving.remove(&turn);
            self.turn = Some(self.next_turn());
        }
        true
    }

    /// Counts so many bytes, once others have made way where they must; false where nobody can, or this one is to.
    async fn make_room(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.counted);
        if more == 0 {
            return true;
        }
        let all = self.all.clone();
        loop {
            let freed = all.freed.notified();
            {
                let mut room = all.room();
                if room.left >= more {
                    room.left -= more;
                    self.counted += more;
                    return true;
                }
                let other = room.arriving.keys().find(|turn| Some(**turn) != self.turn).copied();
                match other.and_then(|turn| room.arriving.remove(&turn)) {
                    Some(other) => other.notify_one(),
                    None => return false,
                }
            }
            tokio::select! {
                () = freed => {}
                () = self.evicted.notified() => return false,
            }
        }
    }

    /// It is whole, and makes way for nobody.
    fn settled(mut self) -> Kept {
        self.leave();
        self
    }

    fn leave(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.all.room().arriving.remove(&turn);
        }
    }

    fn give_up(&mut self) {
        self.leave();
        self.bytes = Vec::new();
        self.all.room().left += std::mem::take(&mut self.counted);
        self.all.freed.notify_waiters();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// A whole body.
pub(crate) struct Body(Kept);

/// A turn with what takes much memory. It is over when what was made of the body is dropped.
pub(crate) struct Turn(Option<OwnedSemaphorePermit>);

impl Turn {
    /// Does the rest of the work that the turn was taken for, and ends the turn. What is much takes long, and is done apart.
    pub(crate) async fn finish<T: Send + 'static>(
        self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let Some(turn) = self.0 else { return work.await };
        let apart = tokio::task::spawn_blocking(move || {
            let worked = Handle::current().block_on(work);
            drop(turn);
            worked
        });
        apart.await.map_err(|_| ApiError::Internal)?
    }
}

impl Body {
    /// What `read` makes of the body as JSON, whatever the content type says, and the turn that it takes. A large one is read
    /// apart, so that nobody else waits meanwhile.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(Value) -> Result<T> + Send + 'static,
    ) -> Result<(T, Turn)> {
        let Body(kept) = self;
        let (length, turns) = (kept.bytes.len(), kept.all.turns.clone());
        let work = move || {
            let value = parse(&kept.bytes)?;
            drop(kept);
            read(value)
        };
        if length <= SMALL {
            return Ok((work()?, Turn(None)));
        }
        // Bytes that come from the client cannot be as many as would not fit.
        let weight = u32::try_from(length.min(TURNS / 2)).unwrap_or(u32::MAX);
        let turn = turns.acquire_many_owned(weight).await.ok();
        // The turn goes along: the work does not end with the one who waits for it.
        let worked = tokio::task::spawn_blocking(move || (work(), Turn(turn))).await;
        let (made, turn) = worked.map_err(|_| ApiError::Internal)?;
        Ok((made?, turn))
    }

    /// The same of a body that is a JSON object.
    pub(crate) async fn read_object<T: Send + 'static>(
        self,
        read: impl FnOnce(Map<String, Value>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let read = |value| match value {
            Value::Object(object) => read(object),
            _ => Err(ApiError::BadRequest("The request's body must be a JSON object.".to_owned())),
        };
        self.read(read).await.map(|(made, _)| made)
    }
}

/// Reads JSON, see [`json::parse`].
fn parse(bytes: &[u8]) -> Result<Value> {
    json::parse(bytes).map_err(|error| match error {
        BadJson::NotRead(NotRead::TooMuch(_)) => {
            ApiError::Unprocessable(format!("The request's body is too much: {error}."))
        }
        _ => ApiError::BadRequest(format!("The request's body cannot be read as JSON: {error}.")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_that_sent_nothing_for_longest_makes_way() {
        let all = Arc::new(Bodies::default());
        let part = vec![b' '; ROOM / 4 + SMALL];
        let mut kept: Vec<Kept> = (0..4).map(|_| Kept::new(&all)).collect();
        for one in &mut kept {
            assert!(one.add(&part, part.len()).await);
        }
        assert_eq!(all.room().left, 0);
        // What is small always has room.
        let mut small = Kept::new(&all);
        assert!(small.add(&part[..SMALL], SMALL).await);
        let mut another = Kept::new(&all);
        let (mut first, evicted) = (kept.remove(0), kept[0].evicted.clone());
        let way = async {
            first.evicted.notified().await;
            first.give_up();
        };
        let (added, ()) = tokio::join!(another.add(&part, part.len()), way);
        assert!(added && futures::FutureExt::now_or_never(evicted.notified()).is_none());
        // A whole one is not sent away.
        let whole: Vec<Kept> = kept.into_iter().map(Kept::settled).collect();
        drop(small);
        let settled = another.settled();
        assert!(!Kept::new(&all).add(&part, part.len()).await);
        drop((whole, settled));
        let room = all.room();
        assert_eq!((room.left, room.arriving.len()), (ROOM, 0));
    }
}
