//! The two formats in which metrics are told: OpenMetrics, and the older text format 0.0.4 for whoever does not ask for that.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::collections::HashSet;

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own text format, 0.0.4.
    Text,
}

impl Format {
    /// The one that an `Accept` header asks for: OpenMetrics where it is named, and the older one is not wanted more.
    pub fn wanted(accept: &str) -> Format {
        let quality = |kind: &str, versions: &[&str]| {
            let of = |item: &str| {
                let mut parts = item.split(';').map(str::trim);
                let named = parts.next().is_some_and(|own| own.eq_ignore_ascii_case(kind));
                let mut parameters = parts.filter_map(|part| part.split_once('='));
                let version = parameters.clone().find(|(name, _)| name.trim() == "version");
                let fits = version.is_none_or(|(_, version)| versions.contains(&version.trim().trim_matches('"')));
                let quality = parameters.find(|(name, _)| name.trim() == "q").map_or("1", |(_, quality)| quality);
                (named && fits).then(|| quality.trim().parse::<f32>().unwrap_or(0.0))
            };
            accept.split(',').filter_map(of).fold(0.0, f32::max)
        };
        let open = quality("application/openmetrics-text", &["1.0.0"]);
        let text = quality("text/plain", &["0.0.4"]);
        if open > 0.0 && open >= text { Format::OpenMetrics } else { Format::Text }
    }

    /// What an answer in it says that it is.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// All that is registered.
    pub(super) fn text(self, registry: &Registry) -> String {
        let mut text = String::new();
        // Fails where whatever is written to does, which a text does not.
        let _ = encode(&mut text, registry);
        match self {
            Format::OpenMetrics => text,
            Format::Text => older(&text),
        }
    }
}

/// OpenMetrics as the older format has it: there a counter's family is called as its samples are, and nothing marks the end.
fn older(text: &str) -> String {
    let counter = |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
    let counters: HashSet<String> = text.lines().filter_map(counter).collect();
    let mut older = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) if counters.contains(name) => {
                older += &format!("# {what} {name}_total {rest}\n");
            }
            _ => {
                older += line;
                older.push('\n');
            }
        }
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=\"1.0.0\"; q=0.2", Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.4,text/plain;q=0.5", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;version=2.0.0", Format::Text),
            ("application/openmetrics-text;q=much", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("*/*", Format::Text),
            ("", Format::Text),
        ] {
            assert_eq!(Format::wanted(accept), format, "{accept}");
        }
    }

    #[test]
    fn counters_are_called_as_their_samples_where_the_format_is_older() {
        let text = "# HELP a Help of a.\n# TYPE a counter\na_total{x=\"# TYPE b counter\"} 1\n# HELP b a.\n# TYPE b gauge\nb 2\n# EOF\n";
        let expected = "# HELP a_total Help of a.\n# TYPE a_total counter\na_total{x=\"# TYPE b counter\"} 1\n# HELP b a.\n# TYPE b gauge\nb 2\n";
        assert_eq!(older(text), expected);
    }
}
