//! Versions of files: what tells one state of a file from another without reading it, and from when on it does. Pure.

use std::time::Duration;

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;
/// How long after a change another one may have the same time: a tick of the kernel's clock, with room to spare, ...
const TICK: Duration = Duration::from_millis(20);
/// ... and where a file system writes whole seconds, as some network file systems do, those, as coarse as there are.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// A time as file systems have it: seconds since 1970, which may be negative and beyond what 64 bits of nanoseconds hold,
/// and nanoseconds after that second. In parts, so that it takes 12 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    high: i32,
    low: u32,
    nanoseconds: u32,
}

impl Time {
    /// The time of these seconds and nanoseconds.
    pub fn new(seconds: i64, nanoseconds: u32) -> Time {
        let [a, b, c, d, low @ ..] = seconds.to_be_bytes();
        Time { high: i32::from_be_bytes([a, b, c, d]), low: u32::from_be_bytes(low), nanoseconds }
    }

    /// Seconds since 1970, rounded down.
    pub fn seconds(&self) -> i64 {
        (i64::from(self.high) << 32) | i64::from(self.low)
    }

    /// Nanoseconds after that second.
    pub fn nanoseconds(&self) -> u32 {
        self.nanoseconds
    }

    /// Nanoseconds since 1970, or the least or most of them that 64 bits hold.
    fn all_nanoseconds(&self) -> i64 {
        self.seconds().saturating_mul(SECOND).saturating_add(self.nanoseconds.into())
    }
}

/// What tells one version of a file, folder or link from another without reading it. Whatever is done to it changes
/// `changed`, which nobody can set back, as `modified` can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version {
    /// Bytes.
    pub size: u64,
    /// Which file it is.
    pub inode: u64,
    /// Last modification (mtime).
    pub modified: Time,
    /// Last change of content, name, links or permissions (ctime).
    pub changed: Time,
}

/// How many bytes [`Version::bytes`] makes.
pub const BYTES: usize = 40;

impl Version {
    /// From when on this is the version of one content alone, in nanoseconds since 1970: what is written after that has
    /// another time of change. What is written before may have the same, where the clock that files get their times from
    /// ticks slowly.
    pub fn settled(&self) -> i64 {
        let tick = if self.changed.nanoseconds == 0 { COARSE_TICK } else { TICK };
        self.changed.all_nanoseconds().saturating_add(i64::try_from(tick.as_nanos()).unwrap_or(i64::MAX))
    }

    /// How long it has to be waited, `now` in nanoseconds since 1970, until this is the version of one content alone.
    /// `None` where it is, and where the time of change lies so far ahead that the clocks do not agree: waiting would not
    /// help.
    pub fn unsettled(&self, now: i64) -> Option<Duration> {
        let wait = Duration::from_nanos(u64::try_from(self.settled().saturating_sub(now)).unwrap_or(0));
        (!wait.is_zero() && wait <= 2 * COARSE_TICK).then_some(wait)
    }

    /// All of it, for a hash.
    pub fn bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.inode.to_le_bytes());
        for (begin, time) in [(16, self.modified), (28, self.changed)] {
            bytes[begin..begin + 8].copy_from_slice(&time.seconds().to_le_bytes());
            bytes[begin + 8..begin + 12].copy_from_slice(&time.nanoseconds.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_centuries_are_kept() {
        for seconds in [0, -1, -86_400, 1 << 33, 16_725_225_600, i64::MAX, i64::MIN, i64::from(u32::MAX)] {
            let time = Time::new(seconds, 999_999_999);
            assert_eq!((time.seconds(), time.nanoseconds()), (seconds, 999_999_999));
        }
        assert_eq!(size_of::<Version>(), BYTES);
    }

    #[test]
    fn a_version_is_of_one_content_once_its_tick_has_ended() {
        let of = |seconds, nanoseconds| Version { changed: Time::new(seconds, nanoseconds), ..Version::default() };
        let wait = |version: Version, now: i64| version.unsettled(now).map(|wait| wait.as_millis());
        assert_eq!(wait(of(100, 500_000_000), 100_500_000_000), Some(20));
        assert_eq!(wait(of(100, 500_000_000), 100_519_000_000), Some(1));
        assert_eq!(wait(of(100, 500_000_000), 100_520_000_000), None);
        // Times without a fraction are those of a file system that has none.
        assert_eq!(wait(of(100, 0), 100_520_000_000), Some(1480));
        assert_eq!(wait(of(100, 0), 102_000_000_000), None);
        // A clock that is ahead of ours, by little and by much.
        assert_eq!(wait(of(101, 0), 100_000_000_000), Some(3000));
        assert_eq!(wait(of(200, 0), 100_000_000_000), None);
        assert_eq!(wait(of(i64::MAX, 0), 0), None);
    }
}
