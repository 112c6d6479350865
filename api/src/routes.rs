//! Every path, in one table.
//!
//! The table is plain data, and `warp` gets one filter that looks requests up in it: so a wrong method is always 405 and a
//! wrong path always 404, which a tree of filters decides by the order of its rejections; and the OpenAPI document can
//! be checked against it.

use crate::auth::{self, Caller, origin};
use crate::body::{self, Arriving, BODY_LIMIT, METADATA_LIMIT};
use crate::error::ApiError;
use crate::limits::{self, Place};
use crate::metrics::{self, UNMATCHED};
use crate::reply::{self, Response};
use crate::request::Request;
use crate::trace::Trace;
use crate::{Api, annotation, download, error, files, ingest, metadata, openapi, reindex, search, status};
use futures::FutureExt;
use futures::future::BoxFuture;
use percent_encoding::percent_decode_str;
use shared::server::{Client, Held};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, error, warn};
use warp::Filter;
use warp::http::{HeaderMap, Method, StatusCode};

type Handler = fn(Arc<Api>, Request) -> BoxFuture<'static, error::Result<Response>>;

struct Route {
    method: Method,
    /// Names between slashes; one of them may be a parameter, `{…}`, and the last may be one for all that follows, `{…*}`.
    path: &'static str,
    handler: Handler,
}

macro_rules! routes {
    ($($method:ident $path:literal $handler:path;)*) => {
        &[$(Route { method: Method::$method, path: $path, handler: |api, request| Box::pin($handler(api, request)) }),*]
    };
}

const ROUTES: &[Route] = routes! {
    GET "/status" status::status;
    GET "/livez" status::live;
    GET "/readyz" status::ready;
    POST "/dataproductsearch" search::search;
    POST "/filterdataproducts" search::filter;
    GET "/reindexdataproducts" reindex::reindex;
    POST "/reindexdataproducts" reindex::reindex;
    POST "/download" download::by_body;
    GET "/download" download::by_query;
    GET "/download/{uid}" download::by_uid;
    GET "/products/{uid}/files" files::list;
    GET "/products/{uid}/files/{path*}" files::file;
    POST "/dataproductmetadata" metadata::metadata;
    POST "/ingestnewdataproduct" ingest::data_product;
    POST "/ingestnewmetadata" ingest::metadata;
    POST "/annotation" annotation::save;
    GET "/annotations/{uid}" annotation::list;
    GET "/muidatagridconfig" search::columns;
    GET "/en/humanreadable" search::labels;
    GET "/" openapi::home;
    GET "/docs" openapi::page;
    GET "/docs/{file}" openapi::asset;
    GET "/openapi.json" openapi::json;
};

impl Route {
    /// Whether answers are made of what the index holds, which may be some way behind.
    fn reads_index(&self) -> bool {
        const READERS: &[&str] = &[
            "/dataproductsearch",
            "/filterdataproducts",
            "/dataproductmetadata",
            "/products/{uid}/files",
            "/annotations/{uid}",
            "/muidatagridconfig",
        ];
        READERS.contains(&self.path)
    }

    /// The largest body that is read, in bytes; `None` where there is none to read.
    fn body_limit(&self) -> Option<usize> {
        match self.path {
            _ if self.method != Method::POST => None,
            "/ingestnewmetadata" => Some(METADATA_LIMIT),
            _ => Some(BODY_LIMIT),
        }
    }
}

/// A request that takes longer is told of in the log.
const SLOW: Duration = Duration::from_secs(1);
/// How many requests that failed or were slow are told of within a time.
pub(crate) const FAILURES: (u32, Duration) = (100, Duration::from_secs(10));

/// The largest head of a request, in bytes.
const HEAD_LIMIT: usize = 16 * 1024;

/// The one filter.
pub(crate) fn filter(api: Arc<Api>) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone {
    warp::any()
        .and(warp::method())
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional())
        .and(warp::body::stream())
        .then(move |method: Method, path: warp::path::FullPath, query, headers: HeaderMap, client, body| {
            let target = Target { method, path: path.as_str().to_owned(), query, client };
            answer(api.clone(), target, headers, body::arriving(body))
        })
        .boxed()
}

/// The first line of a request, and from where it came.
struct Target {
    method: Method,
    path: String,
    query: String,
    client: Option<Client>,
}

/// Answers a request, whatever happens.
async fn answer(api: Arc<Api>, target: Target, headers: HeaderMap, body: Arriving) -> Response {
    let (begun, trace) = (Instant::now(), Trace::of(&headers));
    // Of a path that was sent no more is told than which route it is: it may name what is guarded.
    let (route, method) = (route_of(&target.path, &api.settings.root_path), metrics::method(&target.method));
    let answer = AssertUnwindSafe(dispatch(api.clone(), &target, headers, body)).catch_unwind().await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => refused(&api, error),
        Err(_) => {
            error!(request_id = trace.request, route, method, "the handler panicked");
            ApiError::Internal.into_response()
        }
    };
    trace.mark(response.headers_mut());
    let (status, took) = (response.status(), begun.elapsed());
    api.answers.count(route, method, status, took);
    tell(&api, &trace, (route, method), status, took);
    response
}

/// Tells the log of requests that fail or take long.
fn tell(api: &Api, trace: &Trace, (route, method): (&str, &str), status: StatusCode, took: Duration) {
    let (request_id, trace_id, status_code) = (trace.request.as_str(), trace.trace.as_deref(), status.as_u16());
    let duration_ms = took.as_secs_f64() * 1000.0;
    // That a process is not ready is no failure.
    let what = match status.is_server_error() && route != "/readyz" {
        true => "a request failed",
        false if took > SLOW => "a request was slow",
        false => return debug!(request_id, trace_id, route, method, status = status_code, duration_ms, "answered"),
    };
    if let Some(left_out) = api.failures.met() {
        warn!(request_id, trace_id, route, method, status = status_code, duration_ms, left_out, "{what}");
    }
}

fn refused(api: &Api, error: ApiError) -> Response {
    if let Some(words) = error.words() {
        api.trouble.tell(words);
    }
    api.answers.refuse(&error);
    error.into_response()
}

/// The route of a path as metrics and the log name it.
fn route_of(path: &str, root: &str) -> &'static str {
    let path = below_root(path, root);
    ROUTES.iter().find(|route| parameters(route.path, path).is_some()).map_or(UNMATCHED, |route| route.path)
}

async fn dispatch(api: Arc<Api>, target: &Target, headers: HeaderMap, body: Arriving) -> error::Result<Response> {
    let Target { method, path, query, client } = target;
    if let Some(hosts) = &api.settings.hosts
        && let Err(refusal) = origin::is_meant(&headers, hosts)
    {
        body::drain(body).await;
        return Err(refusal);
    }
    let head = path.len()
        + query.len()
        + headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    if head > HEAD_LIMIT {
        return Err(ApiError::HeadersTooLarge);
    }
    let path = below_root(path, &api.settings.root_path);
    let matching: Vec<_> = ROUTES.iter().filter_map(|route| Some((route, parameters(route.path, path)?))).collect();
    // What answers GET answers HEAD: the connection leaves the body out.
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    match matching.iter().find(|(route, _)| route.method == *wanted) {
        Some((route, parameters)) => {
            if auth::changes(method, route.path)
                && let Err(refusal) = origin::may_change(&headers, &api.settings.origins)
            {
                body::drain(body).await;
                return Err(refusal);
            }
            let parameter = parameters.one.map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
            let tail = parameters.tail.map(str::to_owned);
            let body = match route.body_limit() {
                Some(limit) => Some(api.bodies.whole(body, &headers, limit, client.as_ref()).await?),
                None => None,
            };
            let asker = limits::asker(client.as_ref());
            let place = api.limits.enter(route.path, asker).await?;
            let (own, handler, path) = (api.clone(), route.handler, route.path);
            let reads_index = route.reads_index();
            let (method, query) = (method.clone(), query.clone());
            let answer = async move {
                let Caller { viewer, unknown, privacy } = own.auth.caller(&headers, &method, path).await;
                let request = Request { method, headers, body, parameter, tail, query, viewer, asker };
                let as_of = if reads_index { own.store.as_of().await } else { None };
                let mut answer = match (handler(own, request).await, unknown) {
                    (Err(ApiError::Forbidden), Some(why)) => Err(ApiError::GroupsUnknown(why)),
                    (answer, _) => answer,
                };
                if let (Ok(answer), Some(as_of)) = (&mut answer, as_of) {
                    reply::mark_as_of(answer, as_of);
                }
                (answer, privacy)
            };
            let (answer, privacy) = match place {
                // What tells how the service stands does not wait for those who work.
                Place::Free => answer.await,
                _ => api.work.of(answer).await,
            };
            let mut response = answer.unwrap_or_else(|error| refused(&api, error));
            // A refusal tells of who asks as well.
            privacy.mark(response.headers_mut());
            if let Place::Download(place) = place {
                response.extensions_mut().insert(Held::new(place));
            }
            Ok(response)
        }
        None if matching.is_empty() => {
            let elsewhere = without_slash(path, query).and_then(|location| reply::redirect(&location));
            let nothing = || ApiError::NotFound("There is nothing at this path; /docs lists what there is.".to_owned());
            elsewhere.ok_or_else(nothing)
        }
        None => Err(ApiError::MethodNotAllowed { allow: allowed(&matching) }),
    }
}

fn allowed(matching: &[(&Route, Parameters<'_>)]) -> String {
    let methods = matching.iter().flat_map(|(route, _)| match route.method {
        Method::GET => &["GET", "HEAD"][..],
        _ => &["POST"],
    });
    let mut methods: Vec<_> = methods.copied().collect();
    methods.dedup();
    methods.join(", ")
}

/// The path without the prefix that an ingress shows; ingresses that strip it themselves are served as well.
fn below_root<'a>(path: &'a str, root: &str) -> &'a str {
    let mut rest = path;
    for name in root.split('/').skip(1) {
        let own = rest.strip_prefix('/').and_then(|rest| rest.split('/').next());
        match own.filter(|own| is_name(own, name)) {
            Some(own) => rest = &rest[1 + own.len()..],
            None => return path,
        }
    }
    if rest.is_empty() { "/" } else { rest }
}

/// Whether a part of a path is this name. Characters that need not be encoded may be so (RFC 3986, 6.2.2.2).
fn is_name(part: &str, name: &str) -> bool {
    percent_decode_str(part).eq(name.bytes())
}

/// Where to go from a path that is a route's but for slashes at its end. The place is relative, so that it is right whatever
/// prefix stands before the path outside.
fn without_slash(path: &str, query: &str) -> Option<String> {
    let kept = path.trim_end_matches('/');
    let slashes = path.len() - kept.len();
    let known = slashes > 0 && ROUTES.iter().any(|route| parameters(route.path, kept).is_some());
    let name = kept.rsplit('/').next().filter(|_| known)?;
    let mark = if query.is_empty() { "" } else { "?" };
    Some(format!("{}{name}{mark}{query}", "../".repeat(slashes)))
}

/// What stands in a path for a route's parameters, as it came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters<'a> {
    one: Option<&'a str>,
    tail: Option<&'a str>,
}

/// Whether a path is a route's: `Some` with what stands for the route's parameters.
fn parameters<'a>(route: &str, path: &'a str) -> Option<Parameters<'a>> {
    let mut parameters = Parameters::default();
    let mut rest = Some(path);
    for name in route.split('/') {
        let names = rest?;
        let own = names.split('/').next().unwrap_or_default();
        rest = names.get(own.len() + 1..);
        if name.ends_with("*}") && !names.is_empty() {
            parameters.tail = Some(names);
            rest = None;
        } else if name.starts_with('{') && !own.is_empty() {
            parameters.one = Some(own);
        } else if !is_name(own, name) {
            return None;
        }
    }
    rest.is_none().then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn paths_match_whole() {
        let matched = |one, tail| Some(Parameters { one, tail });
        assert_eq!(parameters("/status", "/status"), matched(None, None));
        assert_eq!(parameters("/status", "/status/"), None);
        assert_eq!(parameters("/status", "/statusx"), None);
        assert_eq!(parameters("/annotations/{uid}", "/annotations/a"), matched(Some("a"), None));
        assert_eq!(parameters("/annotations/{uid}", "/annotations/"), None);
        assert_eq!(parameters("/annotations/{uid}", "/annotations/a/b"), None);
        let files = "/products/{uid}/files/{path*}";
        assert_eq!(parameters(files, "/products/a/files/b"), matched(Some("a"), Some("b")));
        assert_eq!(parameters(files, "/products/a/files//b/../c/"), matched(Some("a"), Some("/b/../c/")));
        assert_eq!(parameters(files, "/products/a/files/"), None);
        assert_eq!(parameters(files, "/products/a/files"), None);
        assert_eq!(parameters(files, "/products//files/b"), None);
        assert_eq!(below_root("/api/status", "/api"), "/status");
        assert_eq!(below_root("/status", "/api"), "/status");
        assert_eq!(below_root("/apistatus", "/api"), "/apistatus");
    }

    #[test]
    fn paths_match_however_they_are_encoded() {
        let matched = |one, tail| Some(Parameters { one, tail });
        assert_eq!(parameters("/en/humanreadable", "/e%6E/human%72eadable"), matched(None, None));
        assert_eq!(parameters("/en/humanreadable", "/en%2Fhumanreadable"), None);
        assert_eq!(parameters("/status", "/st%2561tus"), None);
        assert_eq!(parameters("/status", "/stat%us"), None);
        // What stands for a parameter is decoded by whoever reads it, once.
        assert_eq!(
            parameters("/products/{uid}/files/{path*}", "/%70roducts/%61/files/%2541/%2F"),
            matched(Some("%61"), Some("%2541/%2F"))
        );
        for (path, below) in [
            ("/a/b/status", "/status"),
            ("/%61/b/status", "/status"),
            ("/a/b", "/"),
            ("/a/b/", "/"),
            ("/a", "/a"),
            ("/a/status", "/a/status"),
            ("/", "/"),
        ] {
            assert_eq!(below_root(path, "/a/b"), below, "{path}");
        }
        assert_eq!((below_root("/", ""), below_root("/status", "")), ("/", "/status"));
    }

    #[test]
    fn a_slash_too_many_leads_to_the_path() {
        for (path, query, location) in [
            ("/status/", "", Some("../status")),
            ("/status//", "a=b/", Some("../../status?a=b/")),
            ("/st%61tus/", "", Some("../st%61tus")),
            ("/annotations/x/", "", Some("../x")),
            ("/products/a/files/", "page=1", Some("../files?page=1")),
            ("/status", "", None),
            ("/annotations/", "", None),
            ("/nothing/", "", None),
            ("//", "", None),
            ("//evil.example//", "", None),
        ] {
            assert_eq!(without_slash(path, query).as_deref(), location, "{path}");
        }
    }

    #[test]
    fn the_documentation_lists_every_route_and_no_other() {
        let document = openapi::document("0", "").expect("the document");
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for method in
                item.as_object().expect("methods").keys().filter(|key| ["get", "post"].contains(&key.as_str()))
            {
                documented.insert((method.to_uppercase(), path.clone()));
            }
        }
        // The way to the documentation and its page's own files are no part of the API.
        let routes = ROUTES.iter().filter(|route| !["/", "/docs/{file}"].contains(&route.path));
        assert_eq!(documented, routes.map(|route| (route.method.to_string(), route.path.replace('*', ""))).collect());
    }
}
