//! Conversations with etcd: everything at one revision, and what changes from the next one on.

use super::mirror::Entries;
use etcd_client::{
    Certificate, Client, ConnectOptions, EventType, GetOptions, TlsOptions, WatchOptions, WatchRequestSender,
    WatchResponse, WatchResponseStream,
};
use shared::config::SdpSettings;
use shared::flow::{BadEntry, FlowId};
use std::future::Future;
use std::time::Duration;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// The largest answer, in bytes. A server's largest value is 1.5 MiB unless it is configured otherwise.
const LARGEST: usize = 64 * 1024 * 1024;
/// How many entries are asked for at a time.
const PAGE: i64 = 1000;
/// What keys of flows and of processing blocks begin with.
const RANGES: [&str; 2] = ["/flow/", "/pb/"];

/// Why the conversation ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Etcd(#[from] etcd_client::Error),
    #[error("SDP_CONFIG_CERT: the certificates cannot be read: {0}")]
    Certificate(std::io::Error),
    #[error("it gave no answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("it ended the watch: {0}")]
    Ended(String),
}

/// A connection.
pub(crate) struct Etcd {
    client: Client,
    prefix: String,
}

impl Etcd {
    /// Connects. That it answers is known only when something was asked.
    pub(crate) async fn connect(settings: &SdpSettings) -> Result<Etcd, Error> {
        let mut options = ConnectOptions::new().with_connect_timeout(REQUEST);
        if settings.endpoint.starts_with("https:") {
            let mut tls = TlsOptions::new();
            tls = match &settings.certificate {
                Some(path) => {
                    let pem = tokio::task::spawn_blocking({
                        let path = path.clone();
                        move || std::fs::read(path)
                    });
                    let pem = pem.await.map_err(std::io::Error::other).flatten().map_err(Error::Certificate)?;
                    tls.ca_certificate(Certificate::from_pem(pem))
                }
                None => tls.with_native_roots(),
            };
            options = options.with_tls(tls);
        }
        let connect = |options| bounded(Client::connect([&settings.endpoint], Some(options)));
        let client = match &settings.user {
            None => connect(options).await?,
            Some((name, password)) => match connect(options.clone().with_user(name, &password.0)).await {
                // It has nobody show who he is, so that is as good as having shown it.
                Err(error) if has_no_users(&error) => connect(options).await?,
                client => client?,
            },
        };
        Ok(Etcd { client, prefix: settings.prefix.clone() })
    }

    /// Reads everything at one revision, which it answers.
    pub(crate) async fn read(&mut self, entries: &mut Entries) -> Result<i64, Error> {
        let mut revision = 0;
        for range in RANGES {
            let (mut from, end) = self.range(range);
            let mut limit = PAGE;
            loop {
                let page = self.page(&from, &end, limit, revision, false).await;
                let (mut page, too_large) = match page {
                    Err(error) if is_too_large(&error) && limit > 1 => {
                        limit /= 8;
                        limit = limit.max(1);
                        continue;
                    }
                    // A single one. Its name alone will do.
                    Err(error) if is_too_large(&error) => (self.page(&from, &end, 1, revision, true).await?, true),
                    page => (page?, false),
                };
                // Of later pages it is the server's own revision by then, and not the one that was asked for.
                if revision == 0 {
                    revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
                }
                let kvs = page.take_kvs();
                for kv in &kvs {
                    if too_large {
                        entries.pass_over(self.own(kv.key()), BadEntry::TooLarge);
                    } else {
                        entries.put(self.own(kv.key()), kv.value());
                    }
                }
                match kvs.last() {
                    // What comes right after a key is the key and a zero.
                    Some(last) if page.more() => from = [last.key(), b"\0"].concat(),
                    _ => break,
                }
            }
        }
        Ok(revision)
    }

    async fn page(
        &mut self,
        from: &[u8],
        end: &[u8],
        limit: i64,
        revision: i64,
        keys_only: bool,
    ) -> Result<etcd_client::GetResponse, Error> {
        let mut options = GetOptions::new().with_range(end).with_limit(limit).with_revision(revision);
        if keys_only {
            options = options.with_keys_only();
        }
        let mut client = self.client.kv_client().max_decoding_message_size(LARGEST);
        bounded(client.get(from, Some(options))).await
    }

    /// Watches from a revision on.
    pub(crate) async fn watch(&mut self, revision: i64) -> Result<Watching, Error> {
        let mut client = self.client.watch_client().max_decoding_message_size(LARGEST);
        let [(flows, flows_end), (blocks, blocks_end)] = RANGES.map(|range| self.range(range));
        let options =
            |end: Vec<u8>| Some(WatchOptions::new().with_range(end).with_start_revision(revision).with_fragment());
        let mut stream = bounded(client.watch(flows, options(flows_end))).await?;
        bounded(stream.watch(blocks, options(blocks_end))).await?;
        let (ask, told) = stream.split();
        Ok(Watching { ask, told, prefix: self.prefix.len(), missing: RANGES.len() })
    }

    /// The keys that begin with this: the first, and what comes after the last.
    fn range(&self, range: &str) -> (Vec<u8>, Vec<u8>) {
        let from = format!("{}{range}", self.prefix);
        let end = format!("{}0", from.trim_end_matches('/'));
        (from.into_bytes(), end.into_bytes())
    }

    /// A key less what all begin with.
    fn own<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.get(self.prefix.len()..).unwrap_or_default()
    }
}

/// A watch under way.
pub(crate) struct Watching {
    ask: WatchRequestSender,
    told: WatchResponseStream,
    prefix: usize,
    /// Parts of the watch that the server did not confirm yet.
    missing: usize,
}

impl Watching {
    /// Waits for what is told next; without events it is a sign of life.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, Error> {
        let ended = || Error::Ended("the connection was closed".to_owned());
        let response = self.told.message().await?.ok_or_else(ended)?;
        if response.canceled() {
            let compacted = response.compact_revision();
            return Err(Error::Ended(match response.cancel_reason() {
                "" if compacted > 0 => format!("history before revision {compacted} was compacted"),
                reason => reason.to_owned(),
            }));
        }
        self.missing -= usize::from(response.created() && self.missing > 0);
        Ok(response)
    }

    /// Notes what was told, and answers the flows that it is about.
    pub(crate) fn note(&self, told: &WatchResponse, entries: &mut Entries) -> Vec<FlowId> {
        let mut flows = Vec::new();
        for event in told.events() {
            let Some(kv) = event.kv() else { continue };
            let key = kv.key().get(self.prefix..).unwrap_or_default();
            flows.extend(match event.event_type() {
                EventType::Put => entries.put(key, kv.value()),
                EventType::Delete => entries.delete(key),
            });
        }
        flows
    }

    /// Whether the server confirmed all of it.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.missing == 0
    }

    /// Asks for a sign of life.
    pub(crate) async fn ask(&mut self) -> Result<(), Error> {
        bounded(self.ask.request_progress()).await
    }
}

async fn bounded<T>(request: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Silent(REQUEST)),
    }
}

/// Whether a server refused a name and a password since it asks nobody for any.
fn has_no_users(error: &Error) -> bool {
    match error {
        Error::Etcd(etcd_client::Error::GRpcStatus(status)) => {
            status.message().contains("authentication is not enabled")
        }
        _ => false,
    }
}

/// Whether an answer was larger than it may be; a compacted revision is told by the same code.
fn is_too_large(error: &Error) -> bool {
    match error {
        Error::Etcd(etcd_client::Error::GRpcStatus(status)) => {
            let code = i32::from(status.code());
            (code == 8 || code == 11) && !status.message().contains("compacted")
        }
        _ => false,
    }
}
