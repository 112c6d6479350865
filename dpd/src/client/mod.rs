//! What `dpd` asks of an API, as its users would: search, status, metadata, download.

pub(crate) mod download;
mod fetch;
pub(crate) mod metadata;
mod part;
pub(crate) mod search;
pub(crate) mod shadow;
pub(crate) mod status;
mod table;
mod unpack;
mod verify;

use serde_json::Value;
use shared::bounded::{self, NotRead};
use shared::config::{ClientSettings, Secret, Variables};
use shared::terminal::{is_command, on_its_lines};
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, RequestBuilder};

/// How long connecting may take, and how long nothing may come. An archive of very many files takes a while to plan.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);
const PLANNING: Duration = Duration::from_secs(1800);

/// The largest answer in JSON that is read, in bytes and in values.
const LARGEST: u64 = 256 << 20;
const VALUES: usize = 5_000_000;

/// What the exit codes say, for `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  it is done
  1  it could not be done, (status) something is down, or (shadow) something differs that nothing explains
  2  the command or the configuration cannot be used
  3  there is no such data product, or none that you may see
  4  the server refuses it: a token is missing, wrong, or of somebody who may not
  5  the server cannot be reached, or cannot answer at the moment
  6  what was downloaded is not what it should be";

/// Which API is asked, and as whom.
#[derive(clap::Args)]
pub(crate) struct Api {
    /// The API's URL [default: $DPD_SERVER, or http://127.0.0.1:8000]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The token that says who you are; better in $DPD_TOKEN, where nobody reads it [default: $DPD_TOKEN]
    #[arg(long, value_name = "TOKEN", hide_default_value = true)]
    token: Option<String>,
}

/// Why a command does not do what it should, each with an exit code of its own.
#[derive(Debug)]
pub(crate) enum Failure {
    Failed(String),
    Unusable(String),
    NotFound(String),
    Refused(String),
    Unreachable(String),
    Unsound(String),
}

/// What a command comes to.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Failed(_) => 1,
            Failure::Unusable(_) => 2,
            Failure::NotFound(_) => 3,
            Failure::Refused(_) => 4,
            Failure::Unreachable(_) => 5,
            Failure::Unsound(_) => 6,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Failed(text)
        | Failure::Unusable(text)
        | Failure::NotFound(text)
        | Failure::Refused(text)
        | Failure::Unreachable(text)
        | Failure::Unsound(text)) = self;
        f.write_str(text)
    }
}

/// An API to ask.
pub(crate) struct Client {
    agent: Agent,
    server: String,
    token: Option<Secret>,
    /// How the server is reached, where that is not directly: words to go behind it.
    way: String,
}

impl Api {
    pub(crate) fn client(self) -> Result<Client> {
        Client::of(self.server, self.token, SILENCE, PLANNING)
    }
}

impl Client {
    /// One that asks the server that is given, or that the environment names. `silence` is how long nothing may come in the
    /// middle of an answer, `patience` how long before it begins.
    fn of(server: Option<String>, token: Option<String>, silence: Duration, patience: Duration) -> Result<Client> {
        let settings = ClientSettings::read(&Variables::of_process(), server, token)
            .map_err(|error| Failure::Unusable(error.to_string()))?;
        let (mut proxy, mut way) = (None, String::new());
        if let Some(own) = settings.proxy {
            way = format!(" by way of the proxy {}, which {} names", own.place, own.variable);
            let unusable = |error| Failure::Unusable(format!("{}: the proxy cannot be used: {error}", own.variable));
            proxy = Some(Proxy::new(&own.url.0).map_err(unusable)?);
        }
        let config = Agent::config_builder()
            // What is in the environment was read with all other settings.
            .proxy(proxy)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(silence))
            .timeout_recv_response(Some(patience))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .user_agent(concat!("dpd/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Client { agent: config.into(), server: settings.server, token: settings.token, way })
    }

    /// The answer to a `GET`, whatever its status.
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut request = self.known(self.agent.get(format!("{}{path}", self.server)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.call()
    }

    /// The answer to a `HEAD`, whatever its status.
    pub(crate) fn head(&self, path: &str) -> std::result::Result<Response<Body>, ureq::Error> {
        self.known(self.agent.head(format!("{}{path}", self.server))).call()
    }

    /// The answer to a `POST`, whatever its status.
    pub(crate) fn post(&self, path: &str, body: &Value) -> std::result::Result<Response<Body>, ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.server)).content_type("application/json");
        self.known(request).send(body.to_string())
    }

    /// A request that says who asks.
    fn known<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(Secret(token)) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// The JSON of a `GET` that goes well.
    pub(crate) fn get_json(&self, path: &str) -> Result<Value> {
        self.json(self.get(path, &[]))
    }

    /// The JSON of a `POST` that goes well.
    pub(crate) fn post_json(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(self.post(path, body))
    }

    fn json(&self, answer: std::result::Result<Response<Body>, ureq::Error>) -> Result<Value> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return Err(refusal(&mut answer));
        }
        self.body(&mut answer)
    }

    /// The JSON of an answer's body.
    fn body(&self, answer: &mut Response<Body>) -> Result<Value> {
        let too_much = || Failure::Failed(format!("{} answers more than can be read; ask for less", self.server));
        let text = answer.body_mut().with_config().limit(LARGEST).read_to_vec().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => too_much(),
            error => self.unreachable(&error),
        })?;
        bounded::from_slice(&text, VALUES).map_err(|error| match error {
            NotRead::TooMuch(_) => too_much(),
            error => Failure::Failed(format!("{} answers what is no JSON ({error})", self.server)),
        })
    }

    pub(crate) fn unreachable(&self, why: &dyn fmt::Display) -> Failure {
        let Client { server, way, .. } = self;
        let hint = if way.is_empty() { "Is it --server or DPD_SERVER?" } else { "Does no_proxy belong to it?" };
        Failure::Unreachable(format!("{server} cannot be reached{way}: {why}. {hint}"))
    }

    /// Why a connection was not to be had, in the middle of something.
    pub(crate) fn unreached(&self, why: &dyn fmt::Display) -> String {
        format!("the server cannot be reached{} ({why})", self.way)
    }
}

/// What an answer that is not good comes to, in the server's words.
pub(crate) fn refusal(answer: &mut Response<Body>) -> Failure {
    let status = answer.status();
    let body = answer.body_mut().with_config().limit(1 << 20).read_to_string().unwrap_or_default();
    let detail = serde_json::from_str::<Value>(&body).ok().and_then(|body| body["detail"].as_str().map(str::to_owned));
    let text =
        format!("{} (status {})", detail.unwrap_or_else(|| "the server refuses this".to_owned()), status.as_u16());
    match status.as_u16() {
        404 => Failure::NotFound(text),
        401 | 403 => Failure::Refused(text),
        400 | 422 => Failure::Unusable(text),
        408 | 429 | 502 | 503 | 504 => Failure::Unreachable(text),
        _ => Failure::Failed(text),
    }
}

/// Tells something beside the answer, on standard error.
pub(crate) fn tell(what: &dyn fmt::Display) {
    eprintln!("dpd: {}", on_its_lines(&what.to_string()));
}

/// Writes an answer to standard output. Who reads may stop whenever he likes.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(on_its_lines(text).as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(error.to_string())),
        _ => Ok(()),
    }
}

/// JSON as programs take it, and people can read. What a terminal would obey stands in it as JSON escapes it.
pub(crate) fn print_json(value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Failed(error.to_string()))?;
    let is_escaped = |c: char| is_command(c) && c != '\n';
    if !text.contains(is_escaped) {
        return print(&text);
    }
    let escape = |c: char| if is_escaped(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    print(&text.chars().map(escape).collect::<String>())
}
