//! A network that fails between a program and a server, on demand and, where that is PostgreSQL, at the worst moments.
//!
//! One thread has all the connections and does one thing at a time. It carries out what a test asks for between two of its
//! steps, so that it is done when the call returns.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_linger;
use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// While so many bytes wait for one side, the other is not read.
const BACKLOG: usize = 1 << 20;

/// `CommandComplete` of a transaction that was committed; a failed one's says `ROLLBACK`.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";
/// `ReadyForQuery`, but for its last byte.
const READY: &[u8] = b"Z\0\0\0\x05";

/// What a first message without a type may be instead of the start: a question whether the connection can be encrypted.
const QUESTIONS: [u32; 2] = [80_877_103, 80_877_104];

type Order = Box<dyn FnOnce(&mut Relay) + Send>;

/// The proxy, which ends with its connections when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    orders: Sender<Order>,
    /// Wakes the thread; closed, it ends it.
    bell: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// One to PostgreSQL on a port of 127.0.0.1.
    ///
    /// # Panics
    /// When the system gives no sockets.
    pub fn to(server: u16) -> Proxy {
        Proxy::start(server, false)
    }

    /// One to anything on a port of 127.0.0.1, which knows of no commits.
    ///
    /// # Panics
    /// When the system gives no sockets.
    pub fn to_anything(server: u16) -> Proxy {
        Proxy::start(server, true)
    }

    fn start(server: u16, raw: bool) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let port = listener.local_addr().expect("its address").port();
        let (bell, rung) = UnixStream::pair().expect("a pair of sockets");
        rung.set_nonblocking(true).expect("a socket that does not block");
        let (orders, received) = channel();
        let faults = Faults::default();
        let relay = Relay { listener, server, raw, connections: Vec::new(), faults };
        let thread = std::thread::spawn(move || relay.run(&rung, &received));
        Proxy { port, orders, bell: Some(bell), thread: Some(thread) }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets all present connections, on both sides.
    pub fn cut(&self) {
        self.order(Relay::cut);
    }

    /// While `on`, resets present connections and new ones.
    pub fn refuse(&self, on: bool) {
        self.order(move |relay| {
            relay.faults.refuse = on;
            if on {
                relay.cut();
            }
        });
    }

    /// While `on`, passes nothing on, in neither direction. What was sent meanwhile arrives afterwards.
    pub fn hang(&self, on: bool) {
        self.order(move |relay| relay.faults.hang = on);
    }

    /// The next `n` times that a `COMMIT` goes well, resets the connection instead of passing the answer on: it was done,
    /// and the program does not know.
    ///
    /// A `COMMIT` is a simple query that has the word, in capitals, or the binding of a prepared statement that has it.
    pub fn cut_at_commit(&self, n: usize) {
        self.order(move |relay| relay.faults.at_commit = n);
    }

    /// The next `n` times that a program sends a `COMMIT`, resets the connection instead of passing it on.
    pub fn cut_before_commit(&self, n: usize) {
        self.order(move |relay| relay.faults.before_commit = n);
    }

    /// How many connections it has reset so far, for whatever reason it was told.
    pub fn cuts(&self) -> usize {
        self.order(|relay| relay.faults.cuts)
    }

    /// Has it done between two steps of the relay.
    fn order<T: Send + 'static>(&self, order: impl FnOnce(&mut Relay) -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let order: Order = Box::new(move |relay| {
            let _ = done.send(order(relay));
        });
        self.orders.send(order).expect("a running proxy");
        self.bell.as_ref().expect("a bell").write_all(&[1]).expect("a running proxy");
        result.recv().expect("a running proxy")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.bell = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is to go wrong, and what did.
#[derive(Debug, Default)]
struct Faults {
    refuse: bool,
    hang: bool,
    before_commit: usize,
    at_commit: usize,
    cuts: usize,
}

struct Relay {
    listener: TcpListener,
    server: u16,
    raw: bool,
    connections: Vec<Connection>,
    faults: Faults,
}

impl Relay {
    fn run(mut self, rung: &UnixStream, orders: &Receiver<Order>) {
        loop {
            self.wait(rung);
            match (&mut &*rung).read(&mut [0; 64]) {
                Ok(0) => return,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return,
                _ => {}
            }
            for order in orders.try_iter() {
                order(&mut self);
            }
            if !self.faults.hang {
                self.accept();
                self.step();
            }
        }
    }

    /// Waits until there may be something to do.
    fn wait(&self, rung: &UnixStream) {
        let mut awaited = vec![PollFd::new(rung, PollFlags::IN)];
        if !self.faults.hang {
            awaited.push(PollFd::new(&self.listener, PollFlags::IN));
            for connection in &self.connections {
                awaited.extend(connection.awaited());
            }
        }
        // An interruption is as good as an event: whatever can be done is found by trying.
        let _ = poll(&mut awaited, None);
    }

    fn accept(&mut self) {
        while let Ok((client, _)) = self.listener.accept() {
            if self.faults.refuse {
                reset(&client);
                self.faults.cuts += 1;
            } else if let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) {
                self.connections.extend(Connection::new(client, server, self.raw));
            } else {
                reset(&client);
            }
        }
    }

    fn step(&mut self) {
        let faults = &mut self.faults;
        self.connections.retain_mut(|connection| match connection.step(faults) {
            Ok(Fate::Lives) => true,
            Ok(Fate::Ended) | Err(_) => false,
            Ok(Fate::Cut) => {
                connection.reset();
                faults.cuts += 1;
                false
            }
        });
    }

    fn cut(&mut self) {
        for connection in self.connections.drain(..) {
            connection.reset();
            self.faults.cuts += 1;
        }
    }
}

enum Fate {
    Lives,
    Ended,
    Cut,
}

/// A client's connection and the one to the server that was made for it.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Whether what the client sends is not taken for messages.
    raw: bool,
    /// The beginning of a message of the client's.
    partial: Vec<u8>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// Whether the client's messages begin with their type, which they do after the first.
    typed: bool,
    /// The names of prepared statements that commit.
    commits: HashSet<Vec<u8>>,
    /// While a commit's answer is withheld: where in `to_client` it begins.
    withheld: Option<usize>,
    client_ended: bool,
    server_ended: bool,
}

impl Connection {
    fn new(client: TcpStream, server: TcpStream, raw: bool) -> io::Result<Connection> {
        for side in [&client, &server] {
            side.set_nonblocking(true)?;
            side.set_nodelay(true)?;
        }
        Ok(Connection {
            client,
            server,
            raw,
            partial: Vec::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            typed: false,
            commits: HashSet::new(),
            withheld: None,
            client_ended: false,
            server_ended: false,
        })
    }

    fn awaited(&self) -> [PollFd<'_>; 2] {
        let flags = |ended: bool, ahead: usize, behind: bool| {
            let read = if ended || ahead >= BACKLOG { PollFlags::empty() } else { PollFlags::IN };
            if behind { read | PollFlags::OUT } else { read }
        };
        let answers = if self.withheld.is_none() { self.to_client.len() } else { 0 };
        let questions = self.to_server.len();
        [
            PollFd::new(&self.client, flags(self.client_ended, questions, answers > 0)),
            PollFd::new(&self.server, flags(self.server_ended, answers, questions > 0)),
        ]
    }

    /// Does what can be done without waiting. An error is the end of one side, and so of both.
    fn step(&mut self, faults: &mut Faults) -> io::Result<Fate> {
        if self.to_server.len() < BACKLOG {
            self.client_ended |= read(&self.client, &mut self.partial)?;
        }
        while let Some(message) = self.message() {
            if !self.raw && self.is_commit(&message) {
                if faults.before_commit > 0 {
                    faults.before_commit -= 1;
                    return Ok(Fate::Cut);
                }
                if faults.at_commit > 0 && self.withheld.is_none() {
                    faults.at_commit -= 1;
                    self.withheld = Some(self.to_client.len());
                }
            }
            self.to_server.extend(message);
        }
        write(&self.server, &mut self.to_server)?;
        if self.client_ended && self.to_server.is_empty() {
            let _ = self.server.shutdown(Shutdown::Write);
        }
        if self.to_client.len() < BACKLOG || self.withheld.is_some() {
            self.server_ended |= read(&self.server, &mut self.to_client)?;
        }
        if let Some(from) = self.withheld {
            let answer = &self.to_client[from..];
            if answer.windows(COMMITTED.len()).any(|part| part == COMMITTED) {
                return Ok(Fate::Cut);
            }
            if answer.len() > READY.len() && answer[..answer.len() - 1].ends_with(READY) {
                // It was not committed, so this was not the time.
                self.withheld = None;
                faults.at_commit += 1;
            }
        }
        if self.withheld.is_none() {
            write(&self.client, &mut self.to_client)?;
        }
        Ok(if self.server_ended && self.to_client.is_empty() { Fate::Ended } else { Fate::Lives })
    }

    /// Takes the client's next message, if it is all there.
    fn message(&mut self) -> Option<Vec<u8>> {
        if self.raw {
            return Some(std::mem::take(&mut self.partial)).filter(|message| !message.is_empty());
        }
        let number = |at: usize| Some(u32::from_be_bytes(self.partial.get(at..at + 4)?.try_into().ok()?));
        let type_length = usize::from(self.typed);
        let length = type_length + number(type_length)? as usize;
        if self.partial.len() < length {
            return None;
        }
        self.typed = self.typed || number(4).is_some_and(|code| !QUESTIONS.contains(&code));
        Some(self.partial.drain(..length).collect())
    }

    fn is_commit(&mut self, message: &[u8]) -> bool {
        // The lengths of the first messages begin with a zero, which is no type.
        let texts: Vec<&[u8]> = message.get(5..).unwrap_or_default().splitn(3, |byte| *byte == 0).collect();
        match (message.first(), texts.as_slice()) {
            (Some(b'Q'), [sql, ..]) => commits(sql),
            (Some(b'P'), [name, sql, ..]) => {
                if commits(sql) {
                    self.commits.insert(name.to_vec());
                } else {
                    self.commits.remove(*name);
                }
                false
            }
            (Some(b'B'), [_portal, name, ..]) => self.commits.contains(*name),
            _ => false,
        }
    }

    fn reset(&self) {
        reset(&self.client);
        reset(&self.server);
    }
}

/// Whether a statement has the word.
fn commits(sql: &[u8]) -> bool {
    sql.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').any(|word| word == b"COMMIT")
}

/// Makes the end of a connection, when it is dropped, a reset.
fn reset(connection: &TcpStream) {
    let _ = set_socket_linger(connection, Some(Duration::ZERO));
}

/// Reads what there is, up to a bound. Says whether the end was reached.
fn read(mut from: &TcpStream, to: &mut Vec<u8>) -> io::Result<bool> {
    let mut part = [0; 1 << 16];
    match from.read(&mut part) {
        Ok(count) => {
            to.extend_from_slice(&part[..count]);
            Ok(count == 0)
        }
        Err(error) => waiting(error).map(|()| false),
    }
}

/// Writes what is taken.
fn write(mut to: &TcpStream, from: &mut Vec<u8>) -> io::Result<()> {
    while !from.is_empty() {
        match to.write(from) {
            Ok(count) => drop(from.drain(..count)),
            Err(error) => return waiting(error),
        }
    }
    Ok(())
}

fn waiting(error: io::Error) -> io::Result<()> {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) { Ok(()) } else { Err(error) }
}
