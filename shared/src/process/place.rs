//! Where a process runs, so that another in the same place can tell for sure that it is no more.
//!
//! A number alone tells nothing: it is given to other processes later, and every container has a process 1. A process is
//! one number and one start in one PID namespace of one run of the machine (its boot id): a namespace's number is given
//! again later as well, but only when no process is left in it.

use serde::{Deserialize, Serialize};

/// Where a process runs, and which one it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The run of the machine that it is in.
    boot: String,
    /// The namespace in which it has its number.
    pid_namespace: u64,
    /// Its number.
    pid: u32,
    /// When it was started, in ticks since the machine was.
    started: u64,
}

/// What is left of a process.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// It runs, or nobody can tell.
    Perhaps,
    /// Nothing, or a corpse.
    Nothing,
}

impl Place {
    /// This process's own; `None` where the system does not tell for sure.
    pub fn own() -> Option<Place> {
        system::own()
    }

    /// Whether the process that was here is surely no more, as seen from the place of this process. From another place
    /// nothing is sure.
    pub fn is_left(&self) -> bool {
        Place::own().is_some_and(|own| self.is_left_as_seen_from(&own))
    }

    fn is_left_as_seen_from(&self, own: &Place) -> bool {
        if (&self.boot, self.pid_namespace) != (&own.boot, own.pid_namespace) {
            return false;
        }
        // Who has our number is us, in what we were before if at all.
        self.pid == own.pid || system::left_of(self) == Left::Nothing
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::{Left, Place};
    use rustix::io::Errno;
    use rustix::process::{Pid, test_kill_process};
    use std::fs;

    pub(super) fn own() -> Option<Place> {
        let pid = std::process::id();
        // What /proc says of numbers is of the namespace that it was mounted in, which need not be ours: then a process
        // has a number in each.
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        if numbers.trim() != pid.to_string() {
            return None;
        }
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        let number = namespace.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let (_, started) = state_and_start(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Place { boot: boot.trim().to_owned(), pid_namespace: number.parse().ok()?, pid, started })
    }

    /// What is left of a process in this process's own namespace.
    pub(super) fn left_of(place: &Place) -> Left {
        let Some(pid) = i32::try_from(place.pid).ok().and_then(Pid::from_raw) else { return Left::Perhaps };
        // Asks whether there is one, whatever of it /proc hides from us.
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return Left::Nothing;
        }
        match fs::read_to_string(format!("/proc/{}/stat", place.pid)).ok().as_deref().and_then(state_and_start) {
            // A corpse that nobody looked after yet.
            Some(('Z' | 'X' | 'x', _)) => Left::Nothing,
            Some((_, started)) if started != place.started => Left::Nothing,
            _ => Left::Perhaps,
        }
    }

    /// The state of a process and when it was started, of `/proc/PID/stat`.
    fn state_and_start(stat: &str) -> Option<(char, u64)> {
        // The name may hold anything, parentheses too.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some((state, fields.nth(18)?.parse().ok()?))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Left, Place};

    pub(super) fn own() -> Option<Place> {
        None
    }

    pub(super) fn left_of(_: &Place) -> Left {
        Left::Perhaps
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
    use std::fs;
    use std::process::{Child, Command};

    fn place_of(child: &Child) -> Place {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("its state");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        let own = Place::own().expect("a place");
        Place { pid: child.id(), started: fields[19].parse().expect("a time"), ..own }
    }

    #[test]
    fn a_process_is_gone_when_it_is_dead_and_not_before() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("a process");
        let place = place_of(&child);
        assert!(!place.is_left(), "it runs");
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::STOP).expect("a signal");
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT).expect("its stop");
        assert!(!place.is_left(), "it stands still");
        // Another one was given its number.
        assert!(Place { started: place.started + 1, ..place.clone() }.is_left());
        // Processes of other machines, runs of this one, and containers may have all numbers in common.
        let elsewhere = [
            Place { boot: "another".to_owned(), ..place.clone() },
            Place { pid_namespace: place.pid_namespace + 1, ..place.clone() },
        ];
        kill_process(pid, Signal::KILL).expect("a signal");
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).expect("its end");
        assert!(place.is_left(), "it is a corpse");
        child.wait().expect("its end");
        assert!(place.is_left(), "nothing is left of it");
        assert!(elsewhere.iter().all(|place| !place.is_left()), "elsewhere nothing is sure");
    }

    #[test]
    fn another_ones_process_that_cannot_be_looked_at_is_not_gone() {
        let own = Place::own().expect("a place");
        assert!(own.is_left(), "nobody else has our number");
        // That of init, whoever it belongs to.
        assert!(!Place { pid: 1, started: start_of_init(), ..own }.is_left());
    }

    fn start_of_init() -> u64 {
        let stat = fs::read_to_string("/proc/1/stat").expect("its state");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        fields[19].parse().expect("a time")
    }
}
