//! Who asks: the bearer token of a request, and what the permissions service says of whoever has it.
//!
//! A token that is missing, malformed or refused puts its caller in no group, and so does a service that does not answer:
//! then what groups guard stays shut. Where a browser sends no token, its [`session`] cookie may carry the one that it sent
//! before. Where no service is configured nobody is in any group, and headers are not looked at.

pub(crate) mod origin;
mod pace;
mod permissions;
mod seal;
mod session;
mod token;
mod trouble;

use crate::error::{ApiError, Result};
use permissions::{Failure, Permissions};
use serde_json::{Value, json};
use session::Sessions;
use shared::access::{Standing, Viewer};
use shared::annotation::ANONYMOUS;
use shared::config::{AccessSettings, Guarded, Ingest};
use shared::metrics::Registry;
use shared::store::Store;
use std::sync::Arc;
use std::time::{Duration, Instant};
use token::{Credentials, Token, credentials};
use warp::http::{HeaderMap, HeaderValue, Method, header};

/// How long `/status` waits to learn who asks: it has to answer within a second, whoever is down. What comes later is known
/// when it is asked next.
const STATUS_PATIENCE: Duration = Duration::from_millis(200);
/// How long all others wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// The routes that access groups do not guard under [`Guarded::Listings`]. One that is not named here is guarded always, as
/// those that write metadata are.
const OPEN_UNDER_LISTINGS: &[&str] = &[
    "/dataproductmetadata",
    "/download",
    "/download/{uid}",
    "/products/{uid}/files",
    "/products/{uid}/files/{path*}",
    "/annotation",
    "/annotations/{uid}",
];

/// The routes that answer everybody alike.
const SAME_FOR_ALL: &[&str] = &["/livez", "/readyz", "/docs", "/docs/{file}", "/openapi.json"];

/// The routes that change nothing although they are posted to.
const POSTED_READS: &[&str] = &["/dataproductsearch", "/filterdataproducts", "/download", "/dataproductmetadata"];

/// Whether a request to a route changes something.
pub(crate) fn changes(method: &Method, route: &str) -> bool {
    route == "/reindexdataproducts" || (*method == Method::POST && !POSTED_READS.contains(&route))
}

/// Whether a session cookie counts for a request. It does not where something is changed, nor for what a page can have a
/// browser send without being asked, such as a form.
fn may_be_proved_by_cookie(headers: &HeaderMap, method: &Method, route: &str) -> bool {
    let content = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = content.split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json");
    !changes(method, route) && !origin::is_from(headers, "cross-site") && (*method != Method::POST || is_json)
}

/// Tells who asks.
pub(crate) struct Auth {
    permissions: Option<Arc<Permissions>>,
    sessions: Option<Sessions>,
    guarded: Guarded,
    ingest: Ingest,
    flows_for_all: bool,
}

/// Who asks, as far as that could be found out.
pub(crate) struct Caller {
    pub(crate) viewer: Viewer,
    /// Why it could not be, where a token came and nobody could say whose it is.
    pub(crate) unknown: Option<Arc<str>>,
    /// What the answer has to say of that.
    pub(crate) privacy: Privacy,
}

/// What an answer says of whom it is for.
#[derive(Default)]
pub(crate) struct Privacy {
    /// Which headers of the request it depends on; `None` where all get the same.
    vary: Option<&'static str>,
    cookie: Option<HeaderValue>,
}

impl Privacy {
    /// Has an answer say so. How long whoever asked may keep it, the answer may have said itself.
    pub(crate) fn mark(self, headers: &mut HeaderMap) {
        let Some(vary) = self.vary else { return };
        headers.append(header::VARY, HeaderValue::from_static(vary));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-store"));
        headers.extend(self.cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    }
}

impl Auth {
    /// As it is configured, for a service behind a prefix. Nothing is connected yet.
    pub(crate) fn new(settings: &AccessSettings, store: Arc<dyn Store>, root_path: &str) -> Auth {
        let permissions = settings.permissions.as_ref().map(|url| Arc::new(Permissions::new(url)));
        let sessions = (settings.session_cookie && permissions.is_some()).then(|| Sessions::new(store, root_path));
        let AccessSettings { guarded, ingest, flows_for_all, .. } = *settings;
        Auth { permissions, sessions, guarded, ingest, flows_for_all }
    }

    /// Whoever sent these headers to a route, as products are shown to him there.
    pub(crate) async fn caller(&self, headers: &HeaderMap, method: &Method, route: &str) -> Caller {
        let same_for_all = |viewer| Caller { viewer, unknown: None, privacy: Privacy::default() };
        if self.guarded == Guarded::Listings && OPEN_UNDER_LISTINGS.contains(&route) {
            return same_for_all(Viewer::unrestricted());
        }
        let flows = self.flows_for_all;
        let Some(permissions) = &self.permissions else { return same_for_all(Viewer::everybody().shown_flows(flows)) };
        if SAME_FOR_ALL.contains(&route) {
            return same_for_all(Viewer::anonymous().shown_flows(flows));
        }
        let patience = if route == "/status" { STATUS_PATIENCE } else { PATIENCE };
        let begun = Instant::now();
        let left = || patience.saturating_sub(begun.elapsed());
        let vary = Some(if self.sessions.is_some() { "Authorization, Cookie" } else { "Authorization" });
        let caller = |viewer: Viewer, unknown, cookie| {
            let sees_flows = self.flows_for_all || viewer.standing() == Standing::Known;
            Caller { viewer: viewer.shown_flows(sees_flows), unknown, privacy: Privacy { vary, cookie } }
        };

        // What is in the header wins, whatever it is.
        let sent = credentials(headers);
        let session = match &self.sessions {
            Some(sessions) if sent == Credentials::None && may_be_proved_by_cookie(headers, method, route) => {
                sessions.token(headers, left()).await
            }
            _ => None,
        };
        let (token, by_cookie) = match (sent, session) {
            (Credentials::Token(token), _) => (token, false),
            (_, Some(token)) => (token, true),
            _ => return caller(Viewer::anonymous(), None, None),
        };
        match (permissions.groups(&token, left()).await, &self.sessions) {
            (Ok(groups), sessions) => {
                let cookie = match sessions {
                    Some(sessions) if !by_cookie => sessions.set(&token, headers, left()).await,
                    _ => None,
                };
                caller(Viewer::member_of(groups.iter().cloned()), None, cookie)
            }
            (Err(Failure::Refused), Some(sessions)) => {
                // Whoever is here now is not, or not any more, who the cookie is of.
                let stale = by_cookie || sessions.token(headers, left()).await.is_some();
                caller(Viewer::anonymous(), None, sessions.clear(headers).filter(|_| stale))
            }
            (Err(Failure::Refused), None) => caller(Viewer::anonymous(), None, None),
            (Err(Failure::Unavailable(why)), _) => caller(Viewer::unsettled(), Some(why), None),
        }
    }

    /// The name of whoever sent these headers, for what is written in it.
    ///
    /// # Errors
    /// Where a service is configured: [`ApiError::Unauthorized`] without a token that it knows, and
    /// [`ApiError::Unavailable`] where it cannot be asked.
    pub(crate) async fn author(&self, headers: &HeaderMap) -> Result<String> {
        let Some(permissions) = &self.permissions else { return Ok(ANONYMOUS.to_owned()) };
        let token = token(headers)?.ok_or(NOBODY)?;
        permissions.name(&token, PATIENCE).await.map(|name| name.to_string()).map_err(not_known)
    }

    /// Lets those pass whose announcements and metadata are taken. Whoever says who he is has to say it rightly: as a
    /// stranger he would be told that all went well, and what he sent might change nothing.
    ///
    /// # Errors
    /// [`ApiError::TurnedOff`], and those of [`author`](Self::author).
    pub(crate) async fn may_ingest(&self, headers: &HeaderMap) -> Result<()> {
        if self.ingest == Ingest::Off {
            return Err(ApiError::TurnedOff(
                "Nothing is ingested by way of this service: DPD_INGEST is off. Data products on the volume are found \
                 without it.",
            ));
        }
        let Some(permissions) = &self.permissions else { return Ok(()) };
        match token(headers)? {
            Some(token) => permissions.groups(&token, PATIENCE).await.map(drop).map_err(not_known),
            None if self.ingest == Ingest::Token => Err(NOBODY),
            None => Ok(()),
        }
    }

    /// Registers how the permissions service is, where there is one, for metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        if let Some(permissions) = &self.permissions {
            permissions.register(registry);
        }
    }

    /// How the permissions service was when it was asked last.
    pub(crate) fn status(&self) -> Value {
        let trouble = self.permissions.as_ref().and_then(|permissions| permissions.trouble());
        json!({"configured": self.permissions.is_some(), "error": trouble.as_deref()})
    }
}

const NOBODY: ApiError =
    ApiError::Unauthorized { challenge: "", why: "Say who you are: send 'Authorization: Bearer TOKEN'." };

/// The token of a request that has one.
fn token(headers: &HeaderMap) -> Result<Option<Token>> {
    match credentials(headers) {
        Credentials::Token(token) => Ok(Some(token)),
        Credentials::None => Ok(None),
        Credentials::Malformed => Err(ApiError::Unauthorized {
            challenge: "invalid_request",
            why: "The Authorization header cannot be read; send 'Authorization: Bearer TOKEN'.",
        }),
    }
}

/// What a caller is told of whom it has to be known who he is.
fn not_known(failure: Failure) -> ApiError {
    match failure {
        Failure::Refused => ApiError::Unauthorized {
            challenge: "invalid_token",
            why: "The permissions service does not take this token; it may have expired.",
        },
        Failure::Unavailable(why) => {
            ApiError::Unavailable(format!("Who you are cannot be found out at the moment: {why}."))
        }
    }
}
