//! The chart, rendered by Helm 3 and 4 as operators do: with the values of the charts before it and with those of deployments.

mod image;
mod programs;
mod refusals;
mod rendered;
mod restricted;
mod values;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::program::with_bare_environment;

/// Helm's versions, and the folders of theirs in `target/helm`, where `tests/prepare` puts them.
const HELMS: [&str; 2] = ["3", "4"];

/// What older charts came with, and what deployments set: `tests/charts/values`.
const OLDER: [&str; 10] =
    ["0.11", "0.12", "0.13", "0.14", "0.17", "0.18", "0.19", "integration", "staging", "dev-environment"];

/// What has to be taken out of these by hand: the names of the image of the service before.
const LEFT_OUT: &str = "image-left-out";

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn chart(file: &str) -> String {
    read(&format!("charts/ska-dataproduct-dashboard/{file}"))
}

/// What Helm makes of the chart, without empty lines (in which its versions differ), or what it says is wrong.
fn template(helm: &str, values: &[&str], more: &[&str]) -> Result<String, String> {
    let program = project(&format!("target/helm/{helm}/helm"));
    assert!(program.exists(), "{} is not there: run `make test`", program.display());
    let mut command = with_bare_environment(Command::new(program));
    command.args(["template", "dpd"]).arg(project("charts/ska-dataproduct-dashboard")).args(["-n", "integration"]);
    for file in values {
        command.arg("--values").arg(project(&format!("tests/charts/values/{file}.yaml")));
    }
    let output = command.args(more).output().expect("Helm's end");
    let lines = |text: &[u8]| -> String {
        let text = String::from_utf8_lossy(text);
        text.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("{line}\n")).collect()
    };
    if output.status.success() { Ok(lines(&output.stdout)) } else { Err(lines(&output.stderr)) }
}

/// The same with a chart's values and what has to be left out of them, which goes well.
fn rendered(helm: &str, values: &str, more: &[&str]) -> String {
    template(helm, &[values, LEFT_OUT], more).unwrap_or_else(|error| panic!("{values}, Helm {helm}: {error}"))
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The objects of a rendered chart.
fn objects(rendered: &str) -> Vec<Value> {
    rendered.split("---\n").map(yaml).filter(Value::is_object).collect()
}

fn object(objects: &[Value], kind: &str, name: &str) -> Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}")).clone()
}

/// The Deployments of the index: not the dashboard's, which is not ours.
fn deployments(objects: &[Value]) -> Vec<Value> {
    let is_ours = |object: &&Value| {
        object["kind"] == "Deployment" && object["metadata"]["labels"]["app.kubernetes.io/component"].is_string()
    };
    objects.iter().filter(is_ours).cloned().collect()
}

fn pod(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]
}
