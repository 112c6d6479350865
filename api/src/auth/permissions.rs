//! The permissions service: asked with the caller's own token which groups he is in and what he is called.
//!
//! Its answers are kept for a minute at the most, and a failure for a moment, so that a dashboard's burst of requests asks
//! once. Whoever waits for an answer shares it with all who wait for the same; it is asked for to its end even when all
//! of them go.

use super::pace::Pace;
use super::token::{Digest, Token};
use super::trouble::Trouble;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Empty, LengthLimitError, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use moka::Expiry;
use moka::future::Cache;
use serde_json::Value;
use shared::metrics::{Counter, Family, Figures as _, Histogram, Label, Registry, histogram};
use shared::telemetry::Seldom;
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How long an answer counts. With the time that it took to come it is a minute at the most.
const KEPT: Duration = Duration::from_secs(58);
/// How long a failure counts.
const MOMENT: Duration = Duration::from_secs(1);
/// How much is kept of either kind of answer, in bytes.
const MEMORY: u64 = 32 * 1024 * 1024;
/// What keeping an answer takes beside what is in it.
const OVERHEAD: usize = 256;
/// The largest answer, in bytes.
const LARGEST: usize = 1024 * 1024;
/// The longest name, in bytes.
const LONGEST_NAME: usize = 1024;

/// Of how many causes within how long the log is told.
const CAUSES: (u32, Duration) = (1, Duration::from_secs(60));

/// What is said where nobody is there to be asked.
pub(super) const UNREACHABLE: &str = "the permissions service cannot be reached";

/// Why nothing is known of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The service does not take the token.
    Refused,
    /// The service cannot be asked; the text is for people, and names no address.
    Unavailable(Arc<str>),
}

impl Failure {
    fn unavailable(why: impl Into<Arc<str>>) -> Failure {
        Failure::Unavailable(why.into())
    }
}

type Http = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;
type Answer<T> = Result<T, Failure>;

/// How the service is reached.
struct Ways {
    /// On connections that are kept for the next question.
    kept: Http,
    /// On a new one for each.
    anew: Http,
}

/// Why one attempt to ask it came to nothing.
enum Attempt {
    /// The connection ended before the answer did.
    BrokeOff(Failure),
    /// Another attempt would come to the same.
    Failed(Failure),
}

/// One thing that the service is asked, and the answers to it by token.
struct Question<T> {
    uri: Option<Uri>,
    read: fn(&Value) -> Option<T>,
    answers: Cache<Digest, Answer<T>>,
}

/// The service.
pub(super) struct Permissions {
    ways: Option<Ways>,
    groups: Question<Arc<BTreeSet<String>>>,
    name: Question<Arc<str>>,
    pace: Pace,
    trouble: Trouble,
    asked: Family<Label, Counter>,
    took: Histogram,
    /// Why it cannot be reached, of which the log is told.
    causes: Seldom,
}

impl Permissions {
    /// The service at a base URL, to be connected when it is needed.
    pub(super) fn new(base: &str) -> Permissions {
        let asked = Family::default();
        for result in ["ok", "denied", "error"] {
            drop(asked.get_or_create_owned(&[("result", result)]));
        }
        Permissions {
            ways: ways(),
            groups: Question::new(base, "/v1/getusergroupids", groups_of, |groups| {
                groups.iter().map(String::len).sum()
            }),
            name: Question::new(base, "/v2/user/profile", name_of, |name| name.len()),
            pace: Pace::new(),
            trouble: Trouble::default(),
            asked,
            took: histogram(),
            causes: Seldom::new(CAUSES),
        }
    }

    /// Registers how it answers for metrics.
    pub(super) fn register(self: &Arc<Self>, registry: &mut Registry) {
        let help = "Questions to the permissions service, by what came of them";
        registry.register("permissions_requests", help, self.asked.clone());
        registry.register("permissions_seconds", "How long it took to answer, or not to", self.took.clone());
        let own = self.clone();
        registry.gauge("permissions_up", "Whether it answered lately, for all that is known", move || {
            Some(f64::from(u8::from(own.trouble().is_none())))
        });
    }

    /// The groups that whoever has this token is in.
    pub(super) async fn groups(self: &Arc<Self>, token: &Token, patience: Duration) -> Answer<Arc<BTreeSet<String>>> {
        self.ask(|own| &own.groups, token, patience).await
    }

    /// What whoever has this token is called.
    pub(super) async fn name(self: &Arc<Self>, token: &Token, patience: Duration) -> Answer<Arc<str>> {
        self.ask(|own| &own.name, token, patience).await
    }

    /// Why the service could not be asked lately.
    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.told()
    }

    async fn ask<T: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        question: fn(&Permissions) -> &Question<T>,
        token: &Token,
        patience: Duration,
    ) -> Answer<T> {
        if let Some(answer) = question(self).answers.get(&token.digest()).await {
            return answer;
        }
        let (own, token) = (self.clone(), token.clone());
        let asking = tokio::spawn(async move {
            let question = question(&own);
            let asked = async {
                let turn = own.pace.turn(token.digest(), LIMIT).await.ok_or(())?;
                let answer = own.answer(question, &token).await;
                drop(turn);
                Ok::<_, ()>(answer)
            };
            // That there was no turn is not kept.
            let crowded =
                |_| Err(Failure::unavailable("too many new tokens are to be asked about; try again in a moment"));
            question.answers.try_get_with(token.digest(), asked).await.unwrap_or_else(crowded)
        });
        match tokio::time::timeout(patience, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::unavailable("asking the permissions service failed")),
            Err(_) => Err(no_answer()),
        }
    }

    async fn answer<T>(&self, question: &Question<T>, token: &Token) -> Answer<T> {
        let begun = Instant::now();
        let asked = tokio::time::timeout(LIMIT, self.get(question.uri.as_ref(), token)).await;
        let unreadable = || Failure::unavailable("the permissions service's answer is not what it should be");
        let read = |value| (question.read)(&value).ok_or_else(unreadable);
        let answer = asked.unwrap_or_else(|_| Err(no_answer())).and_then(read);
        self.took.observe(begun.elapsed().as_secs_f64());
        let result = match &answer {
            Ok(_) => "ok",
            Err(Failure::Refused) => "denied",
            Err(Failure::Unavailable(_)) => "error",
        };
        self.asked.get_or_create(&[("result", result)]).inc();
        self.trouble.note(token.digest(), answer.as_ref().err());
        if answer.is_ok() {
            self.pace.is_good(token.digest()).await;
        }
        answer
    }

    /// Asks, and once more on a new connection where the first broke off: the service may end a connection that was kept just
    /// when it is used again, and nobody can know before (RFC 9110 9.2.2). Both have the same time together.
    async fn get(&self, uri: Option<&Uri>, token: &Token) -> Answer<Value> {
        let (Some(uri), Some(ways)) = (uri, &self.ways) else {
            return Err(Failure::unavailable("the permissions service's URL cannot be used"));
        };
        let answer = match self.attempt(&ways.kept, uri, token).await {
            Err(Attempt::BrokeOff(_)) => self.attempt(&ways.anew, uri, token).await,
            answer => answer,
        };
        let body = answer.map_err(|(Attempt::BrokeOff(failure) | Attempt::Failed(failure))| failure)?;
        serde_json::from_slice(&body).map_err(|_| Failure::unavailable("the permissions service's answer is no JSON"))
    }

    async fn attempt(&self, http: &Http, uri: &Uri, token: &Token) -> Result<Bytes, Attempt> {
        attempt(http, uri, token, &|error| {
            if let Some(left_out) = self.causes.met() {
                warn!(error = chain(error), left_out, "{UNREACHABLE}");
            }
        })
        .await
    }
}

/// An error with what is behind it: refused, a name that is not known, a certificate.
fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

impl<T: Clone + Send + Sync + 'static> Question<T> {
    fn new(base: &str, path: &str, read: fn(&Value) -> Option<T>, bytes: fn(&T) -> usize) -> Question<T> {
        let weight = move |_: &Digest, answer: &Answer<T>| {
            let bytes = OVERHEAD + answer.as_ref().map_or(0, bytes);
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let answers = Cache::builder().max_capacity(MEMORY).weigher(weight).expire_after(Lifetime).build();
        Question { uri: format!("{base}{path}").parse().ok(), read, answers }
    }
}

/// How long answers count.
struct Lifetime;

impl<T> Expiry<Digest, Answer<T>> for Lifetime {
    fn expire_after_create(&self, _: &Digest, answer: &Answer<T>, _: Instant) -> Option<Duration> {
        Some(if answer.is_ok() { KEPT } else { MOMENT })
    }
}

fn no_answer() -> Failure {
    Failure::unavailable(format!("the permissions service gave no answer within {} s", LIMIT.as_secs()))
}

/// Asks over one connection, for the body of a good answer. Of what there is no connection for, `tell` is told.
async fn attempt(http: &Http, uri: &Uri, token: &Token, tell: &(dyn Fn(&dyn Error) + Sync)) -> Result<Bytes, Attempt> {
    let failed = |why: &str| Attempt::Failed(Failure::unavailable(why));
    let request = Request::get(uri)
        .header(header::AUTHORIZATION, token.header())
        .header(header::ACCEPT, "application/json")
        .body(Empty::new())
        .map_err(|_| failed("the permissions service cannot be asked"))?;
    let response = http.request(request).await.map_err(|error| match error.is_connect() {
        true => {
            tell(&error);
            failed(UNREACHABLE)
        }
        false => Attempt::BrokeOff(Failure::unavailable("the permissions service broke off")),
    })?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Attempt::Failed(Failure::Refused)),
        other => return Err(failed(&format!("the permissions service answered {}", other.as_u16()))),
    }
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    body.map(Collected::to_bytes).map_err(|error| match error.is::<LengthLimitError>() {
        true => failed("the permissions service's answer is too large"),
        false => Attempt::BrokeOff(Failure::unavailable("the permissions service's answer broke off")),
    })
}

/// Certificates are checked against those of the system, or where it has none against those that browsers take.
fn ways() -> Option<Ways> {
    let ring = rustls::crypto::ring::default_provider;
    let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring());
    let connector = connector.or_else(|_| HttpsConnectorBuilder::new().with_provider_and_webpki_roots(ring()));
    let connector = connector.inspect_err(|error| warn!(%error, "https cannot be used")).ok()?;
    let connector = connector.https_or_http().enable_http1().build();
    let client = |kept| {
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(kept)
            .build(connector.clone())
    };
    Some(Ways { kept: client(8), anew: client(0) })
}

fn groups_of(answer: &Value) -> Option<Arc<BTreeSet<String>>> {
    let groups = answer.get("user_groups")?.as_array()?;
    Some(Arc::new(groups.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
}

fn name_of(answer: &Value) -> Option<Arc<str>> {
    let name = answer.get("user_profile")?.get("userPrincipalName")?.as_str()?;
    let fits = !name.trim().is_empty() && name.len() <= LONGEST_NAME && !name.contains('\0');
    fits.then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_read_strictly() {
        let groups = |value: Value| groups_of(&value).map(|groups| groups.iter().cloned().collect::<Vec<_>>());
        assert_eq!(groups(json!({"user_groups": ["b", "a", "a"]})), Some(vec!["a".to_owned(), "b".to_owned()]));
        // What is no name is no group.
        assert_eq!(groups(json!({"user_groups": ["a", 5, null, ["b"]]})), Some(vec!["a".to_owned()]));
        assert_eq!(groups(json!({"user_groups": []})), Some(vec![]));
        for bad in [json!({}), json!([]), json!("staff"), json!({"user_groups": "staff"}), json!({"user_groups": {}})] {
            assert_eq!(groups(bad), None);
        }
        let name = |value: Value| name_of(&json!({"user_profile": {"userPrincipalName": value}}));
        assert_eq!(name(json!("me@example.org")).as_deref(), Some("me@example.org"));
        for bad in [json!(""), json!(" "), json!(5), json!(null), json!("a\0b"), json!("x".repeat(2000))] {
            assert_eq!(name(bad), None);
        }
        assert_eq!(name_of(&json!({"userPrincipalName": "me"})), None);
    }
}
