//! What answers on one connection: a service, with note taken of when its answers begin and end.

use super::connections::{Connection, Held};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::Service;
use hyper::{Request, Response};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A service on one connection.
pub(super) struct Answering<S> {
    pub(super) service: S,
    pub(super) connection: Arc<Connection>,
}

impl<S, B> Service<Request<Incoming>> for Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body,
{
    type Response = Response<Noted<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.connection.begin();
        let (answer, connection) = (self.service.call(request), self.connection.clone());
        Box::pin(async move {
            let mut response = answer.await?;
            // Browsers are to take answers for what they say they are.
            response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            let end = End { connection, held: response.extensions_mut().remove() };
            Ok(response.map(|body| Noted { body: Box::pin(body), _end: end }))
        })
    }
}

/// A body whose end is noted.
pub(super) struct Noted<B> {
    body: Pin<Box<B>>,
    _end: End,
}

/// Notes the end of an answer when dropped.
struct End {
    connection: Arc<Connection>,
    held: Option<Held>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.connection.end(self.held.take());
    }
}

impl<B: Body> Body for Noted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.body.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
