//! The environment's variables and how their values are read, in the ways that people, Helm and Python write them.

use super::VARIABLES;
use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Those whose values are shown to nobody.
const SECRETS: [&str; 5] = [
    "DATABASE_URL",
    "DPD_READ_DATABASE_URL",
    "SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD",
    "SDP_CONFIG_PASSWORD",
    "DPD_TOKEN",
];

/// Why the process cannot start: a variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: '{value}' cannot be used; expected {expected}")]
pub struct BadVariable {
    name: &'static str,
    value: String,
    expected: String,
}

impl BadVariable {
    /// A variable, its value, and what was expected. Values that are secret, or URLs with a user in them, are left out.
    pub(super) fn new(name: &'static str, value: impl Into<String>, expected: impl Into<String>) -> BadVariable {
        let value = value.into();
        let value = if is_secret(name, &value) { "(not shown)".to_owned() } else { value };
        BadVariable { name, value, expected: expected.into() }
    }
}

/// Whether a variable's value is shown to nobody: it is a secret, or a URL with a user in it, and maybe his password.
fn is_secret(name: &str, value: &str) -> bool {
    SECRETS.iter().any(|secret| name.starts_with(secret) && !name.ends_with("_FILE")) || value.contains('@')
}

/// The environment's variables.
#[derive(Debug, Default)]
pub struct Variables(HashMap<String, OsString>);

impl Variables {
    /// Those of this process.
    #[expect(clippy::disallowed_methods, reason = "this is the environment's home")]
    pub fn of_process() -> Variables {
        Variables(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect())
    }

    /// Those that are set of what [can be](VARIABLES), as `NAME=value` one after the other, for the log. Secrets are only said to
    /// be set.
    pub fn told(&self) -> String {
        let told = VARIABLES.iter().filter_map(|variable| {
            let value = self.0.get(variable.name)?.to_string_lossy();
            match value.trim_end_matches(['\n', '\r']) {
                "" => None,
                value if is_secret(variable.name, value) => Some(format!("{}=(not shown)", variable.name)),
                value => Some(format!("{}={value}", variable.name)),
            }
        });
        told.collect::<Vec<_>>().join(" ")
    }

    /// The text of a variable, or the default that [`VARIABLES`] lists. Line ends after it are none of it: files that
    /// secrets are made from have them.
    pub(super) fn text(&self, name: &'static str) -> Result<String, BadVariable> {
        let default = VARIABLES.iter().find(|variable| variable.name == name).map_or("", |variable| variable.default);
        let Some(value) = self.0.get(name) else { return Ok(default.to_owned()) };
        let text = value.to_str().ok_or_else(|| BadVariable::new(name, value.to_string_lossy(), "UTF-8"))?;
        match text.trim_end_matches(['\n', '\r']) {
            "" => Ok(default.to_owned()),
            // Quotes that a shell or YAML took away belong to nobody; those that are left are a mistake in most values.
            text if is_quoted(text.trim()) => {
                Err(BadVariable::new(name, text, "a value without quotes around it: they would be a part of it"))
            }
            text => Ok(text.to_owned()),
        }
    }

    /// Whether a variable is set, to nothing.
    pub(super) fn is_empty(&self, name: &str) -> bool {
        let text = self.0.get(name).and_then(|value| value.to_str());
        text.is_some_and(|text| text.trim().is_empty())
    }

    /// The value that `read` makes of a variable's text.
    pub(super) fn value<T>(
        &self,
        name: &'static str,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, BadVariable> {
        let value = self.text(name)?;
        read(value.trim()).ok_or_else(|| BadVariable::new(name, value, expected))
    }

    /// A whole number within `range`. `10.0` and `1e+06` are whole as well.
    pub(super) fn number(&self, name: &'static str, range: RangeInclusive<u64>) -> Result<u64, BadVariable> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(name, &expected, |text| whole(text).filter(|n| range.contains(n)))
    }

    pub(super) fn count(&self, name: &'static str, range: RangeInclusive<u64>) -> Result<usize, BadVariable> {
        self.number(name, range).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// A time in seconds within `range`, to the nanosecond.
    pub(super) fn seconds(&self, name: &'static str, range: RangeInclusive<u64>) -> Result<Duration, BadVariable> {
        let expected = format!("a number of seconds from {} to {}", range.start(), range.end());
        let range = Duration::from_secs(*range.start())..=Duration::from_secs(*range.end());
        self.value(name, &expected, |text| {
            let nanoseconds = u64::try_from(scaled(text, 9)?.0).ok()?;
            Some(Duration::from_nanos(nanoseconds)).filter(|seconds| range.contains(seconds))
        })
    }

    /// A port. Kubernetes sets variables of this kind of name for Services, to `tcp://HOST:PORT`: the port of that is taken.
    /// Where nothing `uses` it, what Kubernetes set is left alone.
    pub(super) fn port(&self, name: &'static str, uses: bool) -> Result<u16, BadVariable> {
        let text = self.text(name)?;
        let is_link = text.contains("://");
        if is_link && !uses {
            return Ok(0);
        }
        let link = text.trim().strip_prefix("tcp://").and_then(|address| address.rsplit_once(':'));
        let port = match link {
            Some((host, port)) => Some(port).filter(|_| !host.is_empty() && !host.contains('/')),
            None => Some(text.trim()),
        };
        let port = port.and_then(whole).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let or_link = if is_link {
            ", or tcp://HOST:PORT; if Kubernetes set this for a Service of that name, give the Service another name, or \
             the pod `enableServiceLinks: false`"
        } else {
            ""
        };
        port.ok_or_else(|| BadVariable::new(name, text, format!("a port from 1 to 65535{or_link}")))
    }

    /// Yes or no.
    pub(super) fn boolean(&self, name: &'static str) -> Result<bool, BadVariable> {
        self.value(name, "true or false", boolean)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(pairs: [(&str, &str); N]) -> Variables {
        pairs.into_iter().collect()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Variables {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Variables {
        Variables(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    }
}

fn is_quoted(text: &str) -> bool {
    ['"', '\''].iter().any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote))
}

/// The whole number that a decimal one is, where it is one.
fn whole(text: &str) -> Option<u64> {
    let (number, exact) = scaled(text, 0)?;
    u64::try_from(number).ok().filter(|_| exact)
}

/// A decimal number times ten to the power of `places`, less what is behind the point then, and whether that is nothing.
/// It is counted in digits, for a float has not enough of them.
fn scaled(text: &str, places: i64) -> Option<(u128, bool)> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (before, after) = number.split_once('.').unwrap_or((number, "0"));
    let are_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(before) || !are_digits(after) {
        return None;
    }
    let digits = format!("{before}{after}");
    let digits = digits.trim_start_matches('0');
    let point = i64::try_from(digits.len()).ok()? - i64::try_from(after.len()).ok()? + i64::from(exponent) + places;
    if digits.is_empty() {
        return Some((0, true));
    }
    let point = usize::try_from(point.max(0)).ok()?;
    // More than a number here may have.
    if point > 38 {
        return None;
    }
    let (kept, cut) = digits.split_at(point.min(digits.len()));
    let kept = format!("{kept:0<point$}");
    let number = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    Some((number, cut.bytes().all(|b| b == b'0')))
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "y" | "t" => Some(true),
        "false" | "0" | "no" | "off" | "n" | "f" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_others_write_them() {
        for (text, number) in [
            ("10", 10),
            ("10.0", 10),
            ("007", 7),
            ("1e+06", 1_000_000),
            ("1E6", 1_000_000),
            ("1.5e1", 15),
            ("1200e-2", 12),
            ("0e5", 0),
            ("0.0", 0),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551615.000", u64::MAX),
            ("1.8446744073709551615e19", u64::MAX),
            ("9007199254740993.0", 9_007_199_254_740_993),
        ] {
            assert_eq!(whole(text), Some(number), "{text}");
        }
        for text in [
            "",
            "-1",
            "-0",
            "1.5",
            "1e-1",
            "0x10",
            "1_000",
            "1,000",
            "nan",
            "inf",
            "1e400",
            "1e99999999999",
            "1e",
            "e5",
            ".",
            "1.",
            ".5",
            "1.0.0",
            "1 000",
            "18446744073709551616",
            "9007199254740993.0000000000000000001",
            "１０",
            "ten",
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_may_be_fractions() {
        let read = |text: &str| Variables::from([("DPD_STALL_SECONDS", text)]).seconds("DPD_STALL_SECONDS", 1..=3600);
        for (text, nanoseconds) in [
            ("2.5", 2_500_000_000),
            ("10.0", 10_000_000_000),
            ("1e+03", 1_000_000_000_000),
            ("1.0000000000000002", 1_000_000_000),
            ("1.000000001", 1_000_000_001),
            ("2.5\n", 2_500_000_000),
        ] {
            assert_eq!(read(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in ["0.999", "3600.5", "-2.5", "1e400", "nan", "inf", "2,5", "2.5s", "0x10", "1_000"] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("a number of seconds from 1 to 3600"), "{error}");
        }
    }

    #[test]
    fn yes_and_no_have_many_words() {
        for text in ["true", "True", "TRUE", "1", "yes", "on", "Y", "t"] {
            assert_eq!(boolean(text), Some(true), "{text}");
        }
        for text in ["false", "False", "0", "No", "off", "n", "F"] {
            assert_eq!(boolean(text), Some(false), "{text}");
        }
        for text in ["", "2", "maybe", "truefalse", "\"true\""] {
            assert_eq!(boolean(text), None, "{text}");
        }
    }

    #[test]
    fn line_ends_are_no_part_of_a_value_and_quotes_a_mistake() {
        let text = |value: &str| Variables::from([("SDP_CONFIG_PASSWORD", value)]).text("SDP_CONFIG_PASSWORD");
        for (value, expected) in
            [("a b\n", "a b"), ("a\r\n", "a"), (" a ", " a "), ("\n", ""), ("it's", "it's"), ("'", "'"), ("\"a", "\"a")]
        {
            assert_eq!(text(value).as_deref(), Ok(expected), "{value:?}");
        }
        for value in ["\"geheim\"", "'geheim'", "\"geheim\"\n", "\"\"", " 'geheim' "] {
            let error = text(value).expect_err(value).to_string();
            assert!(error.contains("SDP_CONFIG_PASSWORD") && error.contains("quotes"), "{error}");
            assert!(!error.contains("geheim"), "{error}");
        }
        let shown = Variables::from([("PVCNAME", "'x'")]).text("PVCNAME").expect_err("quotes").to_string();
        assert!(shown.contains("''x''"), "{shown}");
    }

    #[test]
    fn a_port_may_be_a_service_link() {
        let port = |value: &str, uses| Variables::from([("SDP_CONFIG_PORT", value)]).port("SDP_CONFIG_PORT", uses);
        for (value, expected) in [
            ("2380", 2380),
            ("2380.0", 2380),
            ("", 2379),
            ("tcp://10.96.0.1:2380", 2380),
            ("tcp://[fd00::1]:2380", 2380),
            ("tcp://etcd:2380\n", 2380),
        ] {
            assert_eq!(port(value, true), Ok(expected), "{value}");
        }
        for value in ["0", "65536", "x", "-1", "1.5"] {
            for uses in [true, false] {
                let error = port(value, uses).expect_err(value).to_string();
                assert!(error.contains("from 1 to 65535") && !error.contains("enableServiceLinks"), "{error}");
            }
        }
        for value in ["tcp://10.96.0.1", "tcp://:2380", "tcp://a:0", "tcp://a:x", "tcp://a:1/b", "udp://10.96.0.1:53"] {
            assert!(port(value, true).expect_err(value).to_string().contains("enableServiceLinks"), "{value}");
            assert!(port(value, false).is_ok(), "{value}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        for (name, value) in [
            ("DATABASE_URL", "geheim"),
            ("DPD_READ_DATABASE_URL", "geheim"),
            ("SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD", "geheim"),
            ("DPD_TOKEN or --token", "geheim"),
            ("SKA_PERMISSIONS_API_HOST", "http://me:geheim@a"),
        ] {
            let error = BadVariable::new(name, value, "another").to_string();
            assert!(error.contains(name) && !error.contains("geheim"), "{error}");
        }
        let variables = Variables::from([
            ("DATABASE_URL", "postgres://me:geheim@a/b"),
            // There may be a password without a user before it.
            ("DPD_READ_DATABASE_URL", "postgres:///b?password=geheim"),
            ("DPD_TOKEN", "geheim"),
            ("SKA_PERMISSIONS_API_HOST", "http://me:geheim@a"),
            ("SDP_CONFIG_PASSWORD", "geheim\n"),
            ("PVCNAME", "shared\n"),
            ("API_ROOT_PATH", ""),
            ("UNKNOWN", "geheim"),
        ]);
        let told = "PVCNAME=shared DATABASE_URL=(not shown) DPD_READ_DATABASE_URL=(not shown) SDP_CONFIG_PASSWORD=(not shown) \
                    SKA_PERMISSIONS_API_HOST=(not shown) DPD_TOKEN=(not shown)";
        assert_eq!(variables.told(), told);
        let file = BadVariable::new("SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD_FILE", "/run/x", "a file").to_string();
        assert!(file.contains("/run/x"), "{file}");
    }
}
