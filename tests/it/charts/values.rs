//! `charts/README.md` lists every value, with its default and what the comment above it in values.yaml says.

use super::{chart, project, read, yaml};
use serde_json::Value;
use std::fs;

/// Where the list begins and ends in the README.
const MARKS: [&str; 2] = ["<!-- values -->\n", "<!-- end of values -->"];

/// Every value with a comment: its path, and the comment. What is below it belongs to it.
fn documented(values: &str) -> Vec<(Vec<&str>, String)> {
    let mut found = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    let mut comment = String::new();
    for line in values.lines() {
        let text = line.trim_start();
        if let Some(more) = text.strip_prefix("# ") {
            comment = if comment.is_empty() { more.to_owned() } else { format!("{comment} {more}") };
            continue;
        }
        let told = std::mem::take(&mut comment);
        let Some((key, _)) = text.split_once(':').filter(|_| !text.starts_with("- ")) else { continue };
        path.truncate((line.len() - text.len()) / 2);
        path.push(key);
        if !told.is_empty() {
            found.push((path.clone(), told));
        }
    }
    found
}

/// All values that are no maps of others, or maps that are documented as a whole.
fn leaves<'a>(value: &'a Value, path: &[&'a str], documented: &[(Vec<&str>, String)], all: &mut Vec<Vec<&'a str>>) {
    match value.as_object() {
        Some(map) if !map.is_empty() && !documented.iter().any(|(known, _)| known == path) => {
            for (key, value) in map {
                leaves(value, &[path, &[key.as_str()]].concat(), documented, all);
            }
        }
        _ => all.push(path.to_vec()),
    }
}

fn at<'a>(values: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(values, |value, key| &value[*key])
}

fn table() -> String {
    let text = chart("values.yaml");
    let (values, documented) = (yaml(&text), documented(&text));
    let mut all = Vec::new();
    leaves(&values, &[], &documented, &mut all);
    for path in &all {
        assert!(documented.iter().any(|(known, _)| known == path), "{} has no comment in values.yaml", path.join("."));
    }
    let rows = documented.iter().map(|(path, meaning)| {
        let value = at(&values, path);
        let default = match value {
            Value::String(text) if text.is_empty() => String::new(),
            Value::String(text) => format!("`{text}`"),
            // It is a paragraph by itself, and values.yaml shows it.
            value if value.to_string().len() > 100 => "see values.yaml".to_owned(),
            value => format!("`{value}`"),
        };
        format!("| `{}` | {default} | {meaning} |\n", path.join("."))
    });
    format!("| value | default | meaning |\n|---|---|---|\n{}", rows.collect::<String>())
}

#[test]
fn the_readme_lists_every_value() {
    let readme = read("charts/README.md");
    let (before, rest) = readme.split_once(MARKS[0]).expect("where the list begins");
    let (list, after) = rest.split_once(MARKS[1]).expect("where it ends");
    let table = table();
    if list.is_empty() {
        fs::write(project("charts/README.md"), format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]))
            .expect("the README");
        panic!("charts/README.md had no list of values and has one now: look at it, and run this again");
    }
    for (listed, is) in list.lines().zip(table.lines()) {
        assert_eq!(listed, is, "charts/README.md differs from values.yaml: `make rendered` writes it anew");
    }
    assert_eq!(list.lines().count(), table.lines().count(), "charts/README.md: `make rendered` writes it anew");
}

#[test]
fn the_schema_knows_every_value() {
    let text = chart("values.yaml");
    let (values, schema) = (yaml(&text), serde_json::from_str::<Value>(&chart("values.schema.json")).expect("JSON"));
    let mut all = Vec::new();
    leaves(&values, &[], &documented(&text), &mut all);
    for path in all {
        let known = path.iter().fold(&schema, |schema, key| &schema["properties"][*key]);
        assert!(known.is_object(), "values.schema.json does not know {}", path.join("."));
    }
}
