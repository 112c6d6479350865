//! Servers that are copies of another: standbys that stream from it and take its place, and copies that are put back.

use super::{Keeper, Postgres, parent, ports};

/// Where a copy is made from, and whether it goes on streaming from there.
pub(super) struct Original {
    pub(super) port: u16,
    pub(super) streams: bool,
}

/// All that a server had at some time, put aside.
#[derive(Debug)]
pub struct Copy(Keeper);

/// A standby that streams from a server.
#[derive(Debug)]
pub struct Standby {
    keeper: Keeper,
    port: u16,
}

impl Standby {
    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value that a query answers in the database that everybody has.
    ///
    /// # Panics
    /// When there is none.
    pub fn value(&self, sql: &str) -> serde_json::Value {
        Postgres::at("postgres", self.port).value(sql)
    }

    /// Stops it: what the server commits from now on, it does not have.
    pub fn stop(&mut self) {
        self.keeper.stop();
    }
}

impl Postgres {
    /// Copies the server as it is now.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy(&self) -> Copy {
        let original = Original { port: self.port, streams: false };
        Copy(Keeper::new(&["fsync=on"], &parent(), Some(original)))
    }

    /// Kills the server, and starts it with what it had when it was copied.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn put_back(&self, copy: Copy) {
        self.become_another(copy.0);
    }

    /// A standby of this server, once it has all that there is now.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn standby(&self) -> Standby {
        let original = Original { port: self.port, streams: true };
        // What is read there and in the way of what is replayed is cancelled at once.
        let settings = ["fsync=on", "max_standby_streaming_delay=0"];
        let mut keeper = Keeper::new(&settings, &parent(), Some(original));
        let started = ports().find(|port| match keeper.start(*port) {
            Ok(()) => true,
            Err(log) => {
                assert!(log.contains("could not bind"), "a standby does not start:\n{log}");
                false
            }
        });
        let standby = Standby { keeper, port: started.expect("a free port for a standby") };
        self.wait_for(&standby);
        standby
    }

    /// Waits until a standby has all that is committed now.
    ///
    /// # Panics
    /// When it does not come to it.
    pub fn wait_for(&self, standby: &Standby) {
        let now = self.open("postgres").value("SELECT pg_current_wal_lsn()");
        let now = now.as_str().expect("a place");
        let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{now}'");
        let other = Postgres::at("postgres", standby.port);
        crate::wait_for("the standby", || (other.value(&reached) == true).then_some(()));
    }

    /// Kills the server, and has a standby take its place and its port.
    ///
    /// # Panics
    /// When that does not come up.
    pub fn fail_over_to(&self, mut standby: Standby) {
        standby.stop();
        self.become_another(standby.keeper);
        assert_eq!(self.open("postgres").value("SELECT pg_promote()"), true);
    }

    fn become_another(&self, other: Keeper) {
        let mut keeper = self.keeper.lock().expect("the keeper");
        keeper.stop();
        *keeper = other;
        keeper.start(self.port).unwrap_or_else(|log| panic!("PostgreSQL does not start:\n{log}"));
    }
}
