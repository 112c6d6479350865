//! Whoever means no good, or does not mean it: [`connections`] are about clients that take, hold and stall, [`slow_clients`]
//! about those that take their time, [`bodies`], [`annotations`], [`pages`] and [`keys`] about what takes memory and time,
//! [`input`] about what they send and write to the volume, [`paths`] about ways out of it, [`time`] about what takes long,
//! [`reindex`] about what is asked for again and again, [`command`] about what is done to those who use `dpd` or read a log.

mod annotations;
mod bodies;
mod command;
mod connections;
mod input;
mod keys;
mod pages;
mod paths;
mod reindex;
mod slow_clients;
mod time;

use crate::daemons::Site;
use tests::program::{Server, serve};
use tests::volume::Volume;

/// A program that answers for a volume.
pub(crate) struct Running {
    pub(crate) api: Server,
    _indexer: Option<Server>,
    // After those who watch it.
    pub(crate) volume: Volume,
    site: Option<Site>,
}

impl Running {
    /// The program that indexes.
    pub(crate) fn writer(&self) -> &Server {
        self._indexer.as_ref().unwrap_or(&self.api)
    }
}

/// Either program on what `fill` makes, with these variables.
pub(crate) fn both(fill: impl Fn(&Volume), variables: &[(&str, &str)]) -> [Running; 2] {
    [standalone(&fill, variables), daemons(&fill, variables)]
}

fn standalone(fill: impl Fn(&Volume), variables: &[(&str, &str)]) -> Running {
    let volume = Volume::new();
    fill(&volume);
    let mut command = serve(volume.path());
    command.envs(variables.iter().copied());
    Running { api: Server::with(command, true), _indexer: None, volume, site: None }
}

impl Running {
    /// The database of the daemons.
    fn database(&self) -> &tests::postgres::Database {
        &self.site.as_ref().expect("daemons").database
    }
}

fn daemons(fill: impl Fn(&Volume), variables: &[(&str, &str)]) -> Running {
    let mut site = Site::new();
    for (name, value) in variables {
        site = site.with(name, value);
    }
    fill(&site.volume);
    let (indexer, api) = site.daemons.pair();
    let volume = std::mem::replace(&mut site.volume, Volume::new());
    Running { api, _indexer: Some(indexer), volume, site: Some(site) }
}
