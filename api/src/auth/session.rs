//! The session cookie: the proof that a browser carries along with requests to which a page adds no token, such as its
//! own downloads.
//!
//! It holds the token itself, sealed ([`super::seal`]). So whoever comes with it is asked about as if he had sent the token,
//! and a cookie is worth nothing that the token in it is not. The key is the store's, shared by all who answer from it; it
//! is read again every minute, so that one that was removed there is used by nobody for longer.

use super::origin;
use super::seal::{KEY, Seal};
use super::token::Token;
use chacha20poly1305::aead::Generate;
use moka::Expiry;
use moka::future::Cache;
use shared::clock;
use shared::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tracing::{debug, warn};
use warp::http::{HeaderMap, HeaderValue, header};

/// The cookie's name.
const NAME: &str = "dpd_session";
/// How long it lasts, in seconds, where the token lasts as long.
const LIFETIME: i64 = 15 * 60;
/// The largest cookie that is set, in bytes. Browsers keep 4096, but ingresses take heads of 4 KiB, answers with larger ones
/// are lost, and there is more in a head.
const LARGEST: usize = 3 * 1024;
/// How long a key counts before it is read again, and its absence.
const KEPT: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_secs(5);

/// Sets cookies and reads them.
pub(super) struct Sessions {
    store: Arc<dyn Store>,
    /// Where a browser sends them.
    path: String,
    seal: Cache<(), Option<Seal>>,
    /// What was told in the log, once being enough.
    told_of_size: AtomicBool,
    told_of_key: Arc<AtomicBool>,
}

impl Sessions {
    /// Those of a service behind a prefix.
    pub(super) fn new(store: Arc<dyn Store>, root_path: &str) -> Sessions {
        let path = if root_path.is_empty() || root_path.contains(';') { "/" } else { root_path };
        let seal = Cache::builder().expire_after(Lifetime).build();
        Sessions {
            store,
            path: path.to_owned(),
            seal,
            told_of_size: AtomicBool::default(),
            told_of_key: Arc::default(),
        }
    }

    /// The token in a request's cookie. One that cannot be opened, or not any more, is none.
    pub(super) async fn token(&self, headers: &HeaderMap, patience: Duration) -> Option<Token> {
        let sealed = cookies(headers);
        if sealed.is_empty() {
            return None;
        }
        let (seal, now) = (self.seal(patience).await?, clock::now().timestamp());
        // There may be others of the name, set by other services of the host.
        sealed.into_iter().find_map(|sealed| Token::of(&seal.open(sealed, now)?))
    }

    /// The header that sets a cookie for a token which the permissions service took just now; `None` where it cannot be.
    pub(super) async fn set(&self, token: &Token, headers: &HeaderMap, patience: Duration) -> Option<HeaderValue> {
        let now = clock::now().timestamp();
        let lasts = token.end().map_or(LIFETIME, |end| end.saturating_sub(now).min(LIFETIME));
        if lasts <= 0 {
            return None;
        }
        let sealed = self.seal(patience).await?.close(token.text(), now + lasts)?;
        let cookie = self.cookie(&sealed, lasts, headers)?;
        if cookie.len() <= LARGEST {
            return Some(cookie);
        }
        if !self.told_of_size.swap(true, Ordering::Relaxed) {
            warn!(
                "a token of {} bytes is too large for a session cookie: whoever has one of that size sees what access groups \
                 guard only where a page sends the token itself",
                token.text().len()
            );
        }
        None
    }

    /// The header that removes it.
    pub(super) fn clear(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        self.cookie("", 0, headers)
    }

    fn cookie(&self, sealed: &str, lasts: i64, headers: &HeaderMap) -> Option<HeaderValue> {
        let secure = if origin::by_https(headers) { "; Secure" } else { "" };
        let text = format!("{NAME}={sealed}; Path={}; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}", self.path);
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What seals and opens, as soon as the store tells the key.
    async fn seal(&self, patience: Duration) -> Option<Seal> {
        if let Some(seal) = self.seal.get(&()).await {
            return seal;
        }
        let (store, seal, told) = (self.store.clone(), self.seal.clone(), self.told_of_key.clone());
        // Whoever asked may go; the others wait for the same.
        let reading = tokio::spawn(async move { seal.get_with((), read(store, told)).await });
        tokio::time::timeout(patience, reading).await.ok()?.ok()?
    }
}

async fn read(store: Arc<dyn Store>, told: Arc<AtomicBool>) -> Option<Seal> {
    let key = store.session_key(<[u8; KEY]>::try_generate().ok()?).await;
    let unknown = |error: &_| match told.swap(true, Ordering::Relaxed) {
        false => warn!(%error, "session cookies are neither set nor taken for now"),
        true => debug!("session cookies are still neither set nor taken: {error}"),
    };
    let key = key.inspect_err(unknown).ok()?;
    told.store(false, Ordering::Relaxed);
    Some(Seal::new(&key))
}

/// How long a key counts, or that there is none.
struct Lifetime;

impl Expiry<(), Option<Seal>> for Lifetime {
    fn expire_after_create(&self, (): &(), seal: &Option<Seal>, _: Instant) -> Option<Duration> {
        Some(if seal.is_some() { KEPT } else { MOMENT })
    }
}

/// The values of all cookies of our name.
fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == NAME).map(|(_, value)| value).collect()
}
