//! What a request's `Range` and its conditions come to (RFC 9110, 13 and 14): pure.

use std::time::{Duration, SystemTime};

/// What a client may compare with what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// A strong ETag, with its quotes.
    pub etag: String,
    /// A whole second, from which on nothing has changed: what is compared, also while it lies ahead.
    pub modified: SystemTime,
}

impl Validators {
    /// Those of something whose versions are settled from this time on, in nanoseconds since 1970.
    ///
    /// A later version is settled after it was written, and so after every answer with an earlier one. Rounded up, its
    /// second is later than the `Date` of those answers, and [`last_modified`](Self::last_modified) never says more than
    /// that: no two versions share one, not even two that were written in the same second.
    pub fn new(etag: String, settled: i64) -> Validators {
        let seconds = u64::try_from(settled).unwrap_or(0).div_ceil(1_000_000_000);
        Validators { etag, modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) }
    }

    /// What an answer says at the time `now`, which must not be later than its `Date` (RFC 9110, 8.8.2.1).
    pub fn last_modified(&self, now: SystemTime) -> SystemTime {
        self.modified.min(now)
    }
}

/// The headers of a request that say what of it is wanted, as they came.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "they are called as the headers are")]
pub struct Conditions<'a> {
    pub range: Option<&'a [u8]>,
    pub if_range: Option<&'a [u8]>,
    pub if_match: Option<&'a [u8]>,
    pub if_none_match: Option<&'a [u8]>,
    pub if_modified_since: Option<&'a [u8]>,
    pub if_unmodified_since: Option<&'a [u8]>,
}

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// 200: all of it.
    Whole,
    /// 206: the bytes from the first to the last, which is included.
    Part(u64, u64),
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client thinks.
    Failed,
    /// 416: there is no such part.
    Unsatisfiable,
}

/// Decides, for something of `total` bytes.
pub fn decide(conditions: &Conditions<'_>, own: &Validators, total: u64) -> Decision {
    let matches = |list, weakly| names(list, &own.etag, weakly);
    match (conditions.if_match, conditions.if_unmodified_since.and_then(date)) {
        (Some(list), _) if !matches(list, false) => return Decision::Failed,
        (None, Some(since)) if seconds(own.modified) > seconds(since) => return Decision::Failed,
        _ => {}
    }
    match (conditions.if_none_match, conditions.if_modified_since.and_then(date)) {
        (Some(list), _) if matches(list, true) => return Decision::NotModified,
        (None, Some(since)) if seconds(own.modified) <= seconds(since) => return Decision::NotModified,
        _ => {}
    }
    match conditions.range {
        Some(range) if conditions.if_range.is_none_or(|if_range| holds(if_range, own)) => part(range, total),
        _ => Decision::Whole,
    }
}

/// Whether an `If-Range` names what there is: by a strong ETag, or by the exact time of the last modification.
fn holds(if_range: &[u8], own: &Validators) -> bool {
    let if_range = if_range.trim_ascii();
    if if_range.ends_with(b"\"") {
        return if_range == own.etag.as_bytes();
    }
    date(if_range).is_some_and(|date| seconds(date) == seconds(own.modified))
}

/// Whether a list of ETags, or `*`, names this one.
fn names(list: &[u8], etag: &str, weakly: bool) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    // A tag may hold a comma.
    while let Some(begin) = rest.iter().position(|byte| *byte == b'"') {
        let weak = rest[..begin].ends_with(b"W/");
        let Some(length) = rest[begin + 1..].iter().position(|byte| *byte == b'"') else { return false };
        let end = begin + length + 2;
        if (weakly || !weak) && rest[begin..end] == *etag.as_bytes() {
            return true;
        }
        rest = &rest[end..];
    }
    false
}

fn date(text: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(text).ok()?.trim()).ok()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The part that a `Range` asks for. What cannot be read is as if it were not there; so are several parts, and any part
/// of nothing, which clients ask for that ask for parts of everything.
fn part(range: &[u8], total: u64) -> Decision {
    let Some((unit, set)) = std::str::from_utf8(range).ok().and_then(|range| range.split_once('=')) else {
        return Decision::Whole;
    };
    let mut parts = set.split(',').map(|part| part.trim_matches([' ', '\t'])).filter(|part| !part.is_empty());
    let (Some(part), None) = (parts.next(), parts.next()) else { return Decision::Whole };
    let Some((first, last)) = part.split_once('-') else { return Decision::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || total == 0 {
        return Decision::Whole;
    }
    let end = total - 1;
    match (first, last) {
        ("", suffix) => match number(suffix) {
            None => Decision::Whole,
            Some(0) => Decision::Unsatisfiable,
            Some(suffix) => Decision::Part(total.saturating_sub(suffix), end),
        },
        (first, "") => match number(first) {
            None => Decision::Whole,
            Some(first) if first > end => Decision::Unsatisfiable,
            Some(first) => Decision::Part(first, end),
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first > last => Decision::Whole,
            (Some(first), Some(_)) if first > end => Decision::Unsatisfiable,
            (Some(first), Some(last)) => Decision::Part(first, last.min(end)),
            _ => Decision::Whole,
        },
    }
}

/// A number of any length; beyond 64 bits it is the largest.
fn number(digits: &str) -> Option<u64> {
    let good = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::Decision::{Failed, NotModified, Part, Unsatisfiable, Whole};
    use super::*;

    const TIME: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &[u8] = b"Sun, 06 Nov 1994 08:49:38 GMT";

    /// Something that is settled so many milliseconds after a second before `TIME`.
    fn settled(milliseconds: i64) -> Validators {
        Validators::new("\"abc\"".to_owned(), (784_111_776_000 + milliseconds) * 1_000_000)
    }

    fn decided(conditions: Conditions<'_>) -> Decision {
        decide(&conditions, &settled(250), 1000)
    }

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-0", Part(0, 0)),
            ("bytes=0-", Part(0, 999)),
            ("bytes=500-", Part(500, 999)),
            ("bytes=500-999", Part(500, 999)),
            ("bytes=500-5000", Part(500, 999)),
            ("Bytes = 500-600 ", Part(500, 600)),
            ("bytes=,500-600,", Part(500, 600)),
            ("bytes=-1", Part(999, 999)),
            ("bytes=-5000", Part(0, 999)),
            ("bytes=5-99999999999999999999999", Part(5, 999)),
            ("bytes=-0", Unsatisfiable),
            ("bytes=1000-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=1000-2000", Unsatisfiable),
            ("bytes=6-5", Whole),
            ("bytes=0-1,5-6", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-", Whole),
            ("bytes=+1-", Whole),
            ("bytes=1-b", Whole),
            ("bytes=--1", Whole),
            ("lines=0-1", Whole),
            ("0-1", Whole),
            ("bytes=0-1=", Whole),
        ] {
            let conditions = Conditions { range: Some(range.as_bytes()), ..Conditions::default() };
            assert_eq!(decided(conditions), expected, "{range}");
        }
        assert_eq!(part(b"bytes=0-", 0), Whole);
        assert_eq!(part(b"bytes=0-\xff", 10), Whole);
    }

    #[test]
    fn a_part_of_something_else_is_never_given() {
        let with = |if_range| {
            decided(Conditions { range: Some(b"bytes=5-"), if_range: Some(if_range), ..Conditions::default() })
        };
        assert_eq!(with(b"\"abc\""), Part(5, 999));
        assert_eq!(with(TIME), Part(5, 999));
        for other in [&b"\"abd\""[..], b"W/\"abc\"", b"abc", b"\"abc", b"", b"*", b"\"x\", \"abc\"", LATER] {
            assert_eq!(with(other), Whole, "{}", String::from_utf8_lossy(other));
        }
        assert_eq!(decided(Conditions { if_range: Some(b"x"), ..Conditions::default() }), Whole);
    }

    #[test]
    fn no_two_versions_say_the_same_time() {
        // Two versions of one second, and answers with the first before the second was written.
        let at = |milliseconds: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_776_000 + milliseconds);
        let (first, second) = (settled(100), settled(900));
        for answered in [100, 500, 899] {
            let said = httpdate::fmt_http_date(first.last_modified(at(answered)));
            assert_eq!(said, "Sun, 06 Nov 1994 08:49:36 GMT");
            let conditions = |of: Conditions<'_>| decide(&of, &second, 1000);
            let (said, none) = (Some(said.as_bytes()), Conditions::default());
            assert_eq!(conditions(Conditions { if_modified_since: said, ..none }), Whole, "{answered}");
            assert_eq!(conditions(Conditions { if_unmodified_since: said, ..none }), Failed, "{answered}");
            assert_eq!(
                conditions(Conditions { range: Some(b"bytes=5-"), if_range: said, ..none }),
                Whole,
                "{answered}"
            );
        }
        // From the next second on the time is as good as the ETag.
        assert_eq!(httpdate::fmt_http_date(first.last_modified(at(1000))).as_bytes(), TIME);
        assert_eq!(settled(1000).modified, settled(1).modified);
    }

    #[test]
    fn conditions() {
        let none = Conditions::default();
        for (conditions, expected) in [
            (none, Whole),
            (Conditions { if_match: Some(b"\"abc\""), ..none }, Whole),
            (Conditions { if_match: Some(b"*"), ..none }, Whole),
            (Conditions { if_match: Some(b"\"a,b\", \"abc\""), ..none }, Whole),
            (Conditions { if_match: Some(b"W/\"abc\""), ..none }, Failed),
            (Conditions { if_match: Some(b"\"abd\""), ..none }, Failed),
            (Conditions { if_match: Some(b"\"abc"), ..none }, Failed),
            (Conditions { if_none_match: Some(b"\"x\", W/\"abc\""), ..none }, NotModified),
            (Conditions { if_none_match: Some(b"*"), ..none }, NotModified),
            (Conditions { if_none_match: Some(b"\"x\""), if_modified_since: Some(TIME), ..none }, Whole),
            (Conditions { if_modified_since: Some(TIME), ..none }, NotModified),
            (Conditions { if_modified_since: Some(b"Sun, 06 Nov 1994 08:49:36 GMT"), ..none }, Whole),
            (Conditions { if_modified_since: Some(b"yesterday"), ..none }, Whole),
            (Conditions { if_unmodified_since: Some(TIME), ..none }, Whole),
            (Conditions { if_unmodified_since: Some(b"Sun, 06 Nov 1994 08:49:36 GMT"), ..none }, Failed),
            (Conditions { if_none_match: Some(b"\"abc\""), range: Some(b"bytes=0-"), ..none }, NotModified),
            (Conditions { if_match: Some(b"\"abc\""), range: Some(b"bytes=0-1"), ..none }, Part(0, 1)),
        ] {
            assert_eq!(decided(conditions), expected, "{conditions:?}");
        }
    }
}
