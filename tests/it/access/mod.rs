//! Who may see what, on either program: [`walk`] asks every route of the documentation for what a caller may not see,
//! [`ingest`] is about what callers bring, [`flows`] about flows that have no product yet,
//! [`service`] is about a permissions service that is well or not, [`annotations`] about whose they are, [`sessions`] about
//! the cookie by which a browser proves who asks.

mod annotations;
mod flows;
mod ingest;
mod service;
mod sessions;
mod walk;

use crate::daemons::Site;
use tests::permissions::Permissions;
use tests::program::{Answer, Server, serve};
use tests::volume::Volume;

/// A volume, and a program that answers for it and asks a permissions service.
pub(crate) struct Guarded {
    pub(crate) api: Server,
    pub(crate) _indexer: Option<Server>,
    // After those who watch it.
    pub(crate) volume: Volume,
    permissions: Permissions,
    pub(crate) _site: Option<Site>,
}

impl Guarded {
    /// The program that indexes.
    pub(crate) fn writer(&self) -> &Server {
        self._indexer.as_ref().unwrap_or(&self.api)
    }
}

/// `dpd serve` on what `fill` makes.
pub(crate) fn standalone(fill: impl Fn(&Volume), variables: &[(&str, &str)]) -> Guarded {
    let (volume, permissions) = (Volume::new(), Permissions::start());
    fill(&volume);
    let mut command = serve(volume.path());
    command.env("SKA_PERMISSIONS_API_HOST", permissions.url()).envs(variables.iter().copied());
    Guarded { api: Server::with(command, true), volume, permissions, _indexer: None, _site: None }
}

/// `dpd-indexer` and `dpd-api` on what `fill` makes.
pub(crate) fn daemons(fill: impl Fn(&Volume), variables: &[(&str, &str)]) -> Guarded {
    let permissions = Permissions::start();
    let mut site = Site::new().with("SKA_PERMISSIONS_API_HOST", &permissions.url());
    for (name, value) in variables {
        site = site.with(name, value);
    }
    fill(&site.volume);
    let (indexer, api) = site.daemons.pair();
    let volume = std::mem::replace(&mut site.volume, Volume::new());
    Guarded { volume, api, permissions, _indexer: Some(indexer), _site: Some(site) }
}

/// The session cookie that an answer sets, as a browser sends it back; `None` where it sets none or removes it.
fn cookie(answer: &Answer) -> Option<String> {
    let pair = answer.header("set-cookie").split(';').next().unwrap_or_default();
    pair.strip_prefix("dpd_session=").filter(|value| !value.is_empty())?;
    Some(pair.to_owned())
}

/// The session cookie of whoever has a token.
fn session(api: &Server, token: &str) -> String {
    cookie(&api.ask("POST", "/filterdataproducts", Some(token), b"{}")).expect("a cookie")
}
