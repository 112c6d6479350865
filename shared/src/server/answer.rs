//! What answers on one connection: a service, with note taken of when its answers begin and end and how much of them there is
//! to send, and with what all answers have in common.

use super::connections::{Client, Connection};
use super::target;
use crate::clock;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, DATE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::Service;
use hyper::{Request, Response, StatusCode};
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
    B: Body<Data = Bytes>,
{
    type Response = Response<Noted<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.connection.begin();
        let connection = self.connection.clone();
        if let Some((status, detail)) = target::refusal(&request) {
            return Box::pin(async move { Ok(finished(refused(status, detail), connection)) });
        }
        request.extensions_mut().insert(Client(connection.clone()));
        let answer = self.service.call(request);
        Box::pin(async move { Ok(finished(answer.await?.map(|body| Sent::Parts(Box::pin(body))), connection)) })
    }
}

/// The answer to what no service is to see.
fn refused<B>(status: StatusCode, detail: &str) -> Response<Sent<B>> {
    let mut response = Response::new(Sent::Whole(super::error_body(detail).into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer as it leaves.
fn finished<B: Body>(mut response: Response<Sent<B>>, connection: Arc<Connection>) -> Response<Noted<B>> {
    let headers = response.headers_mut();
    // Browsers are to take answers for what they say they are.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if connection.is_draining() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.extend(HeaderValue::try_from(date()).ok().map(|date| (DATE, date)));
    connection.answer(response.extensions_mut().remove());
    response.map(|body| Noted { body, end: End(connection) })
}

/// The time as headers write it. It is asked for each time: hyper's own goes on from the latest that it ever saw, also
/// after a clock was put back.
pub(super) fn date() -> String {
    httpdate::fmt_http_date(clock::now().into())
}

/// A body whose end is noted.
pub(super) struct Noted<B> {
    body: Sent<B>,
    end: End,
}

/// What is sent.
enum Sent<B> {
    /// All of it at once; empty when it has been.
    Whole(Bytes),
    /// As a service gives it.
    Parts(Pin<Box<B>>),
}

/// Notes the end of an answer when dropped.
struct End(Arc<Connection>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<B: Body<Data = Bytes>> Body for Noted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = match &mut self.body {
            Sent::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Sent::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Sent::Parts(body) => body.as_mut().poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.end.0.hand(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Sent::Whole(bytes) => bytes.is_empty(),
            Sent::Parts(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Sent::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Sent::Parts(body) => body.size_hint(),
        }
    }
}
