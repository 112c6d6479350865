//! Failures, and the only place where one gets a status.

use crate::reply::{self, Response};
use crate::trouble::{Failure, UNUSABLE};
use serde_json::json;
use shared::filter::BadSearch;
use shared::store::StoreError;
use std::path::Path;
use std::sync::Arc;
use warp::http::{HeaderValue, StatusCode, header};

/// Why a request is not answered with what it asked for. Texts are for the caller, and name nothing that only the host
/// should know.
#[derive(Debug)]
pub(crate) enum ApiError {
    BadRequest(String),
    /// Nobody knows who asks; the error code of RFC 6750, where there is one, and a line for people.
    Unauthorized {
        challenge: &'static str,
        why: &'static str,
    },
    Forbidden,
    /// As `Forbidden`, but it could not be found out which groups the caller is in.
    GroupsUnknown(Arc<str>),
    NotTheAuthor,
    /// What everybody may see would be taken from those who are not in a group that the caller is not in either.
    Restricting,
    /// A page of another site had a browser send it.
    CrossSite {
        origin: String,
    },
    /// It came by a name that is not this service's.
    Misdirected {
        host: String,
    },
    NotFound(String),
    MethodNotAllowed {
        allow: String,
    },
    /// It is not done here, because somebody configured so; a line for people.
    TurnedOff(&'static str),
    SlowBody,
    Conflict(String),
    BodyTooLarge {
        limit: usize,
    },
    ContentEncoding,
    Unprocessable(String),
    HeadersTooLarge,
    PreconditionFailed,
    RangeNotSatisfiable {
        total: u64,
    },
    Internal,
    Unavailable(String),
    /// The database cannot be used, or does not take what was sent; its own words, which only the log is told.
    Database(String),
    NotTaken(String),
    /// There are as many of these at work as there may be.
    Busy(&'static str),
}

/// What a handler ends in.
pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// The longest detail, in characters: what was sent is quoted, and may be long.
const DETAIL: usize = 1000;
/// How long a client should wait before it asks again what cannot be answered at the moment, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

impl ApiError {
    /// Files or folders of a product may not be read, so that it cannot be handed out whole; the path of the first,
    /// from the storage path down. A conflict with the state of the volume: no fault of the request, nor one that goes
    /// away by asking again, before somebody gives the service the right to read them.
    pub(crate) fn unreadable(count: usize, first: &Path) -> ApiError {
        let others = if count == 1 { "" } else { ", the first of them" };
        let things = if count == 1 { "file or folder" } else { "files or folders" };
        ApiError::Conflict(format!(
            "The service may not read {count} {things} of this data product{others}: {}",
            first.display()
        ))
    }

    /// A file is written to while it is to be handed out.
    pub(crate) fn changing() -> ApiError {
        ApiError::Unavailable("A file was changed or removed a moment ago. Try again.".to_owned())
    }

    /// What of it the log alone is told.
    pub(crate) fn words(&self) -> Option<&str> {
        match self {
            ApiError::Database(words) | ApiError::NotTaken(words) => Some(words),
            _ => None,
        }
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response {
        let (status, detail) = match &self {
            ApiError::BadRequest(why) => (StatusCode::BAD_REQUEST, why.clone()),
            ApiError::Forbidden => {
                (StatusCode::FORBIDDEN, "You are not in the access group of this data product.".to_owned())
            }
            ApiError::Unauthorized { why, .. } => (StatusCode::UNAUTHORIZED, (*why).to_owned()),
            ApiError::GroupsUnknown(why) => (
                StatusCode::FORBIDDEN,
                format!(
                    "There is no such data product, or only members of its access group see it, and which groups you are in cannot be found out: {why}."
                ),
            ),
            ApiError::NotTheAuthor => (StatusCode::FORBIDDEN, "Only its author may change an annotation.".to_owned()),
            ApiError::Restricting => (
                StatusCode::FORBIDDEN,
                "Everybody can see this data product, and only a member of a group may restrict it to that: send the \
                 token of one, as 'Authorization: Bearer TOKEN'."
                    .to_owned(),
            ),
            ApiError::CrossSite { origin } => (
                StatusCode::FORBIDDEN,
                format!(
                    "A page of another site may not change anything here (Origin: {}). If it is the dashboard's, \
                     REACT_APP_SKA_DATAPRODUCT_DASHBOARD_URL has to name it.",
                    if origin.is_empty() { "not given" } else { origin }
                ),
            ),
            ApiError::Misdirected { host } => (
                StatusCode::MISDIRECTED_REQUEST,
                format!(
                    "This service answers on this machine alone, to localhost, and not to '{host}'. If a proxy hands \
                     requests on to it, name that host in DPD_ALLOWED_HOSTS."
                ),
            ),
            ApiError::NotFound(what) => (StatusCode::NOT_FOUND, what.clone()),
            ApiError::MethodNotAllowed { allow } => {
                (StatusCode::METHOD_NOT_ALLOWED, format!("This path answers {allow} only."))
            }
            // RFC 9110 10.2.1 has this, with no method in `Allow`, for what is disabled by configuration.
            ApiError::TurnedOff(why) => (StatusCode::METHOD_NOT_ALLOWED, (*why).to_owned()),
            ApiError::SlowBody => {
                (StatusCode::REQUEST_TIMEOUT, "The request's body did not arrive in time.".to_owned())
            }
            ApiError::Conflict(why) => (StatusCode::CONFLICT, why.clone()),
            ApiError::BodyTooLarge { limit } => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("The request's body is larger than {limit} bytes."))
            }
            ApiError::ContentEncoding => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The request's body must not be compressed: send it without Content-Encoding.".to_owned(),
            ),
            ApiError::Unprocessable(why) => (StatusCode::UNPROCESSABLE_ENTITY, why.clone()),
            ApiError::HeadersTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too large.".to_owned())
            }
            ApiError::PreconditionFailed => {
                (StatusCode::PRECONDITION_FAILED, "It is not the version that the request names.".to_owned())
            }
            ApiError::RangeNotSatisfiable { total } => {
                (StatusCode::RANGE_NOT_SATISFIABLE, format!("There is no such range: it has {total} bytes."))
            }
            ApiError::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong here; the service's log says what.".to_owned(),
            ),
            ApiError::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why.clone()),
            ApiError::Database(_) => (StatusCode::SERVICE_UNAVAILABLE, UNUSABLE.to_owned()),
            ApiError::NotTaken(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "The database cannot hold this; the service's log says why.".to_owned(),
            ),
            ApiError::Busy(what) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("This service has as many {what} at once as it can have; try again in a moment."),
            ),
        };
        let detail: String = detail.chars().take(DETAIL).collect();
        let mut response = reply::json_with(status, &json!({ "detail": detail }));
        let headers = response.headers_mut();
        match self {
            ApiError::MethodNotAllowed { allow } => {
                headers.extend(HeaderValue::from_str(&allow).ok().map(|allow| (header::ALLOW, allow)));
            }
            ApiError::TurnedOff(_) => drop(headers.insert(header::ALLOW, HeaderValue::from_static(""))),
            ApiError::RangeNotSatisfiable { total } => {
                let range = HeaderValue::from_str(&format!("bytes */{total}"));
                headers.extend(range.ok().map(|range| (header::CONTENT_RANGE, range)));
            }
            ApiError::Unauthorized { challenge, .. } => {
                headers.insert(header::WWW_AUTHENTICATE, self::challenge(challenge));
            }
            ApiError::Unavailable(_) | ApiError::Database(_) | ApiError::Busy(_) => {
                drop(headers.insert(header::RETRY_AFTER, RETRY_AFTER));
            }
            _ => {}
        }
        response
    }
}

/// What a client is to send, as RFC 6750 words it.
fn challenge(error: &str) -> HeaderValue {
    match error {
        "" => HeaderValue::from_static("Bearer"),
        error => {
            HeaderValue::try_from(format!("Bearer error=\"{error}\"")).unwrap_or(HeaderValue::from_static("Bearer"))
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error.into() {
            Failure::Told(why) => ApiError::Unavailable(why),
            Failure::Unusable(words) => ApiError::Database(words),
            Failure::Refused(words) => ApiError::NotTaken(words),
        }
    }
}

impl From<BadSearch> for ApiError {
    fn from(error: BadSearch) -> ApiError {
        ApiError::BadRequest(error.0)
    }
}
