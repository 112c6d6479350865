//! One connection's bytes: tells how much of an answer has left, waits no longer for requests than it may, and gives words to
//! the errors that hyper answers by itself.

use super::answer::date;
use super::connections::Connection;
use super::{HEAD_TIMEOUT, error_body};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::set_socket_linger;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A connection's stream.
pub(super) struct Stream {
    inner: TokioIo<TcpStream>,
    connection: Arc<Connection>,
    /// What is sent in place of what hyper wrote, and how much of it was.
    instead: Option<(Vec<u8>, usize)>,
    /// Until when what comes after a refusal is still read, and thrown away.
    lingering: Option<Pin<Box<Sleep>>>,
    /// How long the connection may idle.
    idle: Duration,
    waiting: Option<Waiting>,
}

/// A wait for a request.
struct Waiting {
    /// Since when the connection idles, as it says itself.
    turn: u64,
    /// Whether some of the request's head is there.
    begun: bool,
    until: Pin<Box<Sleep>>,
}

/// How long a refused client may take to hear of it.
const LINGER: Duration = Duration::from_secs(1);

impl Stream {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>, idle: Duration) -> Stream {
        Stream { inner: TokioIo::new(stream), connection, instead: None, lingering: None, idle, waiting: None }
    }

    /// The wait that goes on, where no request is being answered.
    fn waiting(&mut self) -> Option<&mut Waiting> {
        let turn = self.connection.idle_turn();
        if turn != self.waiting.as_ref().map(|waiting| waiting.turn) {
            let until = || Box::pin(tokio::time::sleep(self.idle));
            self.waiting = turn.map(|turn| Waiting { turn, begun: false, until: until() });
        }
        self.waiting.as_mut()
    }

    /// Where hyper refuses a head that makes no request, it answers with a status and nothing else. These are the bytes to
    /// send in its place.
    fn worded(&self, written: &[u8]) -> Option<Vec<u8>> {
        let status = written.strip_prefix(b"HTTP/1.1 ").or_else(|| written.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
        let (line, detail) = match status {
            b"400" => ("400 Bad Request", "The request's head is no HTTP/1.1."),
            b"414" => ("414 URI Too Long", "The request's path is too long."),
            b"431" => ("431 Request Header Fields Too Large", "The request's headers are too large, or too many."),
            _ => return None,
        };
        // What it writes of its own accord, it writes while no request is being answered.
        if !self.connection.is_idle() {
            return None;
        }
        let (body, date) = (error_body(detail), date());
        let head = "content-type: application/json\r\nx-content-type-options: nosniff\r\nconnection: close";
        let lengths = format!("content-length: {}\r\ndate: {date}", body.len());
        Some(format!("HTTP/1.1 {line}\r\n{head}\r\n{lengths}\r\n\r\n{body}").into_bytes())
    }

    /// Sends what stands in place of something that hyper wrote, `None` where nothing does.
    fn poll_instead(&mut self, cx: &mut Context<'_>, written: &[u8]) -> Poll<Option<io::Result<()>>> {
        if self.instead.is_none() {
            self.instead = self.worded(written).map(|bytes| (bytes, 0));
        }
        let Some((bytes, sent)) = &mut self.instead else { return Poll::Ready(None) };
        while *sent < bytes.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes[*sent..])) {
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::WriteZero.into()))),
                Ok(n) => *sent += n,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        self.instead = None;
        self.lingering = Some(Box::pin(tokio::time::sleep(LINGER)));
        Poll::Ready(Some(Ok(())))
    }

    /// Takes note of what was written.
    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.connection.left(*bytes);
        }
        written
    }

    /// Reads and throws away. A connection that is closed with something unread is reset, and what was sent last is lost.
    fn poll_thrown_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = &mut self.lingering else { return Poll::Ready(()) };
        let mut bytes = [MaybeUninit::uninit(); 4096];
        while until.as_mut().poll(cx).is_pending() {
            let mut part = ReadBuf::uninit(&mut bytes);
            let read = ready!(Pin::new(&mut self.inner).poll_read(cx, part.unfilled()));
            if read.is_err() || part.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.connection.is_cut_off() {
            // Else the kernel would keep what it has, and send it for as long as it is taken.
            let _ = set_socket_linger(self.inner.inner(), Some(Duration::ZERO));
        }
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, into);
        let Some(waiting) = self.waiting() else { return read };
        if read.is_ready() {
            if !waiting.begun {
                waiting.begun = true;
                waiting.until.as_mut().reset(Instant::now() + HEAD_TIMEOUT);
            }
            return read;
        }
        ready!(waiting.until.as_mut().poll(cx));
        // Nothing is read, which is the end of a connection; in the middle of a head it is an error.
        Poll::Ready(if waiting.begun { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) })
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.poll_instead(cx, bytes)) {
            Some(sent) => Poll::Ready(sent.map(|()| bytes.len())),
            None => {
                let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
                self.noted(written)
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_instead(cx, parts.first().map_or(&[], |part| part))) {
            Some(sent) => Poll::Ready(sent.map(|()| parts.iter().map(|part| part.len()).sum())),
            None => {
                let written = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
                self.noted(written)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for once nothing is left to write.
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        self.poll_thrown_away(cx).map(Ok)
    }
}
