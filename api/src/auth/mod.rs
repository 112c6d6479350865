//! Who asks: the bearer token of a request, and what the permissions service says of whoever has it.
//!
//! A token that is missing, malformed or refused puts its caller in no group, and so does a service that does not answer:
//! then what groups guard stays shut. Where no service is configured nobody is in any group, and headers are not looked at.

pub(crate) mod origin;
mod permissions;
mod token;

use crate::error::{ApiError, Result};
use permissions::{Failure, Permissions};
use serde_json::{Value, json};
use shared::access::Viewer;
use shared::config::{AccessSettings, Guarded};
use std::sync::Arc;
use std::time::Duration;
use token::{Credentials, credentials};
use warp::http::{HeaderMap, Method};

/// Who writes where nobody is asked who he is.
const ANONYMOUS: &str = "anonymous";
/// How long `/status` waits to learn who asks: it has to answer within a second, whoever is down. What comes later is known
/// when it is asked next.
const STATUS_PATIENCE: Duration = Duration::from_millis(200);
/// How long all others wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// The routes that access groups do not guard under [`Guarded::Listings`]. One that is not named here is guarded always.
const OPEN_UNDER_LISTINGS: &[&str] = &[
    "/dataproductmetadata",
    "/download",
    "/download/{uid}",
    "/products/{uid}/files",
    "/products/{uid}/files/{path*}",
    "/ingestnewmetadata",
    "/annotation",
    "/annotations/{uid}",
];

/// The routes that change nothing although they are posted to.
const POSTED_READS: &[&str] = &["/dataproductsearch", "/filterdataproducts", "/download", "/dataproductmetadata"];

/// Whether a request to a route changes something.
pub(crate) fn changes(method: &Method, route: &str) -> bool {
    route == "/reindexdataproducts" || (*method == Method::POST && !POSTED_READS.contains(&route))
}

/// Tells who asks.
pub(crate) struct Auth {
    permissions: Option<Arc<Permissions>>,
    guarded: Guarded,
}

/// Who asks, as far as that could be found out.
pub(crate) struct Caller {
    pub(crate) viewer: Viewer,
    /// Why it could not be, where a token came and nobody could say whose it is.
    pub(crate) unknown: Option<Arc<str>>,
}

impl Caller {
    fn certain(viewer: Viewer) -> Caller {
        Caller { viewer, unknown: None }
    }
}

impl Auth {
    /// As it is configured. Nothing is connected yet.
    pub(crate) fn new(settings: &AccessSettings) -> Auth {
        let permissions = settings.permissions.as_ref().map(|url| Arc::new(Permissions::new(url)));
        Auth { permissions, guarded: settings.guarded }
    }

    /// Whoever sent these headers to a route, as products are shown to him there.
    pub(crate) async fn caller(&self, headers: &HeaderMap, route: &str) -> Caller {
        if self.guarded == Guarded::Listings && OPEN_UNDER_LISTINGS.contains(&route) {
            return Caller::certain(Viewer::unrestricted());
        }
        let (Some(permissions), Credentials::Token(token)) = (&self.permissions, credentials(headers)) else {
            return Caller::certain(Viewer::anonymous());
        };
        let patience = if route == "/status" { STATUS_PATIENCE } else { PATIENCE };
        match permissions.groups(&token, patience).await {
            Ok(groups) => Caller::certain(Viewer::member_of(groups.iter().cloned())),
            Err(Failure::Refused) => Caller::certain(Viewer::anonymous()),
            Err(Failure::Unavailable(why)) => Caller { viewer: Viewer::anonymous(), unknown: Some(why) },
        }
    }

    /// The name of whoever sent these headers, for what is written in it.
    ///
    /// # Errors
    /// Where a service is configured: [`ApiError::Unauthorized`] without a token that it knows, and
    /// [`ApiError::Unavailable`] where it cannot be asked.
    pub(crate) async fn author(&self, headers: &HeaderMap) -> Result<String> {
        let Some(permissions) = &self.permissions else { return Ok(ANONYMOUS.to_owned()) };
        let token = match credentials(headers) {
            Credentials::Token(token) => token,
            Credentials::None => {
                return Err(ApiError::Unauthorized {
                    challenge: "",
                    why: "Say who you are: send 'Authorization: Bearer TOKEN'.",
                });
            }
            Credentials::Malformed => {
                return Err(ApiError::Unauthorized {
                    challenge: "invalid_request",
                    why: "The Authorization header cannot be read; send 'Authorization: Bearer TOKEN'.",
                });
            }
        };
        match permissions.name(&token, PATIENCE).await {
            Ok(name) => Ok(name.to_string()),
            Err(Failure::Refused) => Err(ApiError::Unauthorized {
                challenge: "invalid_token",
                why: "The permissions service does not take this token; it may have expired.",
            }),
            Err(Failure::Unavailable(why)) => {
                Err(ApiError::Unavailable(format!("Who you are cannot be found out at the moment: {why}.")))
            }
        }
    }

    /// How the permissions service was when it was asked last.
    pub(crate) fn status(&self) -> Value {
        let trouble = self.permissions.as_ref().and_then(|permissions| permissions.trouble());
        json!({"configured": self.permissions.is_some(), "error": trouble.as_deref()})
    }
}
