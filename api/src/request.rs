//! A request as handlers see it.

use crate::body::Body;
use crate::download::respond::Head;
use crate::error::{ApiError, Result};
use crate::turns::Asker;
use serde_json::{Map, Value};
use shared::access::Viewer;
use uuid::Uuid;
use warp::http::{HeaderMap, Method};

/// A request.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// The body; `None` where the route has none.
    pub(crate) body: Option<Body>,
    /// What stands in the path where the route has `{…}`, decoded.
    pub(crate) parameter: Option<String>,
    /// What stands in the path from where the route has `{…*}`, as it came: percent-encoded.
    pub(crate) tail: Option<String>,
    /// What stands after the `?`, as it came.
    pub(crate) query: String,
    pub(crate) viewer: Viewer,
    /// Whose it is, and when it came.
    pub(crate) asker: Asker,
}

impl Request {
    /// The body.
    pub(crate) fn body(self) -> Result<Body> {
        self.body.ok_or(ApiError::Internal)
    }

    /// The method and the headers.
    pub(crate) fn head(&self) -> Head {
        Head { method: self.method.clone(), headers: self.headers.clone() }
    }

    /// A parameter of the query; `None` where it is absent or empty. The last of several counts.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs
            .filter(|(own, _)| own == name)
            .last()
            .map(|(_, value)| value.into_owned())
            .filter(|value| !value.is_empty())
    }

    /// A whole number in the query; `default` where it is absent.
    pub(crate) fn number(&self, name: &str, default: usize) -> Result<usize> {
        let Some(text) = self.query(name) else { return Ok(default) };
        let unreadable = || ApiError::BadRequest(format!("{name}: '{text}' is not a whole number from 0 on."));
        text.parse().map_err(|_| unreadable())
    }
}

/// How a request names what it wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Uid(Uuid),
    ExecutionBlock(String),
}

/// Reads `uid`, or else `execution_block`, from a body. Other fields are hints and need not be true.
pub(crate) fn wanted(body: &Map<String, Value>) -> Result<Wanted> {
    if let Some(text) = text(body, "uid")? {
        let uid = text.parse().map_err(|_| ApiError::BadRequest(format!("uid: '{text}' is not a UUID.")))?;
        return Ok(Wanted::Uid(uid));
    }
    match text(body, "execution_block")? {
        Some(id) => Ok(Wanted::ExecutionBlock(id.to_owned())),
        None => Err(ApiError::BadRequest("The request needs a 'uid' or an 'execution_block'.".to_owned())),
    }
}

/// Reads `uid`, or else `execution_block`, from a query.
pub(crate) fn wanted_in_query(request: &Request) -> Result<Wanted> {
    let names = ["uid", "execution_block"];
    let pairs = names.iter().filter_map(|name| Some(((*name).to_owned(), request.query(name)?.into())));
    wanted(&pairs.collect())
}

/// The uid in a path.
pub(crate) fn wanted_uid(request: &Request) -> Result<Uuid> {
    let text = request.parameter.as_deref().unwrap_or_default();
    text.parse().map_err(|_| ApiError::BadRequest(format!("uid: '{text}' is not a UUID.")))
}

/// A text in a body; `None` where it is absent, null or empty.
pub(crate) fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(ApiError::BadRequest(format!("{name} must be a string."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wanted_must_be_named() {
        let read = |body: Value| wanted(body.as_object().expect("an object"));
        let uid = "6a11ddaa-6b45-6759-47e7-a5abd5105b0e";
        assert!(matches!(read(json!({"uid": uid, "execution_block": "eb"})), Ok(Wanted::Uid(_))));
        assert!(matches!(read(json!({"uid": "", "execution_block": "eb"})), Ok(Wanted::ExecutionBlock(_))));
        for body in
            [json!({}), json!({"uid": null}), json!({"uid": "x"}), json!({"uid": 5}), json!({"execution_block": []})]
        {
            assert!(matches!(read(body), Err(ApiError::BadRequest(_))));
        }
    }
}
