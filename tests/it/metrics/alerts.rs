//! The alerts and the dashboard: Prometheus takes them, each alert fires when it should, and all that they look at is told.

use super::documented;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tests::prometheus::promtool;

const RULES: &str = "charts/ska-dataproduct-dashboard/files/dpd-rules.yaml";
const DASHBOARD: &str = "charts/ska-dataproduct-dashboard/files/dpd-dashboard.json";
const TEST: &str = "tests/prometheus/dpd-rules.test.yaml";

/// The folder of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file of YAML as it is.
fn yaml(path: &str) -> Value {
    shared::yaml::parse(text(path).as_bytes()).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The rules, in order.
fn rules() -> Vec<Value> {
    let groups = yaml(RULES);
    list(&groups["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect()
}

/// The expressions of the dashboard, by the panel's title.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).expect("JSON");
    let mut expressions = Vec::new();
    for panel in list(&dashboard["panels"]) {
        let title = panel["title"].as_str().expect("a title");
        for target in list(&panel["targets"]) {
            expressions.push((title.to_owned(), target["expr"].as_str().expect("an expression").to_owned()));
        }
    }
    expressions
}

/// The names in an expression that begin as those of metrics do.
fn names(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(|c| !is_part(c));
    words
        .filter(|word| ["dpd_", "dpd:", "process_"].iter().any(|start| word.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn prometheus_takes_the_rules_and_all_of_the_dashboard() {
    let (taken, said) = promtool(&repository(), &["check", "rules", RULES]);
    assert!(taken, "{said}");
    let expressions = expressions();
    assert!(expressions.len() > 40, "{expressions:?}");
    let rules: Vec<Value> = expressions
        .iter()
        .enumerate()
        .map(|(n, (_, expression))| {
            // What Grafana puts in.
            let expression = expression.replace("$volume", ".*").replace("$job", ".*");
            assert!(!expression.contains('$'), "{expression}");
            serde_json::json!({"record": format!("dashboard:{n}"), "expr": expression})
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    // What is JSON is YAML as well.
    fs::write(folder.path().join("rules.yaml"), groups.to_string()).expect("written");
    let (taken, said) = promtool(folder.path(), &["check", "rules", "rules.yaml"]);
    assert!(taken && said.contains(&format!("{} rules found", expressions.len())), "{said}");
}

#[test]
fn each_alert_fires_and_does_not_before() {
    let (passed, said) = promtool(&repository(), &["test", "rules", TEST]);
    assert!(passed, "{said}");
    let mut seen = BTreeMap::<String, BTreeSet<bool>>::new();
    let test = yaml(TEST);
    for case in list(&test["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])) {
        let name = case["alertname"].as_str().expect("a name").to_owned();
        seen.entry(name).or_default().insert(!list(&case["exp_alerts"]).is_empty());
    }
    let alerts: BTreeSet<String> =
        rules().iter().filter_map(|rule| rule["alert"].as_str().map(str::to_owned)).collect();
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), alerts);
    for (name, fires) in seen {
        assert_eq!(fires, BTreeSet::from([false, true]), "{name}");
    }
}

#[test]
fn each_alert_has_a_runbook() {
    let runbooks = text("docs/operations.md");
    let headings: BTreeSet<String> =
        runbooks.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_lowercase).collect();
    let alerts: Vec<Value> = rules().into_iter().filter(|rule| rule["alert"].is_string()).collect();
    for rule in &alerts {
        let name = rule["alert"].as_str().expect("a name");
        let runbook = rule["annotations"]["runbook"].as_str().unwrap_or_else(|| panic!("{name} has no runbook"));
        assert_eq!(runbook, format!("docs/operations.md#{}", name.to_lowercase()));
        assert!(headings.contains(&name.to_lowercase()), "{name} is not in docs/operations.md");
        let severity = rule["labels"]["severity"].as_str().expect("a severity");
        assert!(["page", "ticket"].contains(&severity), "{name}: {severity}");
    }
    for heading in headings.iter().filter(|heading| heading.starts_with("dpd")) {
        let is_alert =
            alerts.iter().any(|rule| rule["alert"].as_str().is_some_and(|name| name.to_lowercase() == *heading));
        assert!(is_alert, "{heading} is no alert");
    }
}

#[test]
fn alerts_dashboard_and_runbooks_look_at_what_is_told() {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (name, family) in documented() {
        if family.kind == "histogram" {
            known.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        } else {
            known.insert(name);
        }
    }
    let histograms = documented().into_iter().filter(|(_, family)| family.kind == "histogram").map(|(name, _)| name);
    let (rules, histograms) = (rules(), histograms.collect::<BTreeSet<_>>());
    known.extend(rules.iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)));
    let of_rules = rules.iter().filter_map(|rule| Some((rule["alert"].to_string(), rule["expr"].as_str()?.to_owned())));
    for (whose, expression) in of_rules.chain(expressions()) {
        for name in names(&expression) {
            assert!(known.contains(&name), "{name} of {whose} is not in docs/metrics.md");
        }
    }
    // People are told of a histogram by its name.
    let operations = text("docs/operations.md");
    let (_, runbooks) = operations.split_once("\n## Alerts\n").expect("the runbooks");
    for name in names(runbooks) {
        assert!(
            known.contains(&name) || histograms.contains(&name),
            "{name} of docs/operations.md is not in docs/metrics.md"
        );
    }
}
