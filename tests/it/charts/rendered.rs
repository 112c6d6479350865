//! What is rendered, against what was looked at before, and what of it releases hang on.

use super::{
    HELMS, LEFT_OUT, OLDER, chart, deployments, object, objects, pod, project, read, rendered, template, yaml,
};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use tests::program::with_bare_environment;

/// Compares with `tests/charts/rendered`. What is not there is written, to be looked at.
fn compare(name: &str, rendered: &str, helm: &str, missing: &mut Vec<String>) {
    let path = format!("tests/charts/rendered/{name}.yaml");
    if !project(&path).exists() {
        fs::create_dir_all(project("tests/charts/rendered")).expect("the folder");
        fs::write(project(&path), rendered).expect("the file");
        missing.push(path);
        return;
    }
    let golden = read(&path);
    let mut pairs = golden.lines().zip(rendered.lines()).enumerate();
    if let Some((line, (was, is))) = pairs.find(|(_, (was, is))| was != is) {
        panic!(
            "{path}:{} is not what Helm {helm} renders: {was:?} was {is:?}. `make rendered` writes it anew",
            line + 1
        );
    }
    assert_eq!(golden.lines().count(), rendered.lines().count(), "{path}, Helm {helm}: `make rendered` writes it anew");
}

#[test]
fn values_of_older_charts_and_of_deployments_render_as_before() {
    let mut missing = Vec::new();
    for name in OLDER.into_iter().chain(["everything"]) {
        for helm in HELMS {
            let rendered = rendered(helm, name, &[]);
            assert!(!rendered.contains("e+"), "{name}, Helm {helm}: a number in powers of ten");
            assert!(!rendered.contains("<nil>") && !rendered.contains("<no value>"), "{name}, Helm {helm}");
            compare(name, &rendered, helm, &mut missing);
        }
    }
    assert!(missing.is_empty(), "{missing:?} were not there and are now: look at them, and run this again");
}

#[test]
fn what_releases_hang_on_keeps_its_name() {
    let objects = objects(&rendered("4", "0.19", &["--set", "api.postgresql.host=pg"]));
    let names = |kind: &str| -> Vec<Value> {
        let mut names: Vec<_> = objects
            .iter()
            .filter(|object| object["kind"] == kind)
            .map(|object| object["metadata"]["name"].clone())
            .collect();
        names.sort_by_key(Value::to_string);
        names
    };
    assert_eq!(
        names("Service"),
        ["ska-dataproduct-dashboard-api-service", "ska-dataproduct-dashboard-dashboard-service"]
    );
    assert_eq!(
        names("Ingress"),
        ["ska-dataproduct-dashboard-api-ingress", "ska-dataproduct-dashboard-dashboard-ingress"]
    );
    // The API's Deployment was ska-dataproduct-api: of another name, as its selector is another, which cannot be changed.
    assert_eq!(
        names("Deployment"),
        ["ska-dataproduct-dashboard", "ska-dataproduct-dashboard-api", "ska-dataproduct-dashboard-indexer"]
    );
    for name in ["api", "dashboard"] {
        let service = object(&objects, "Service", &format!("ska-dataproduct-dashboard-{name}-service"));
        assert_eq!(service["spec"]["clusterIP"], "None", "{name}");
    }
    assert_eq!(
        object(&objects, "Deployment", "ska-dataproduct-dashboard")["spec"]["selector"]["matchLabels"],
        json!({"app.kubernetes.io/name": "ska-dataproduct-dashboard", "app": "ska-dataproduct-dashboard-dashboard"})
    );
    // The Service before found pods by this label, which those of the index must not have: a rollback goes back to it.
    for deployment in deployments(&objects) {
        assert!(deployment["spec"]["template"]["metadata"]["labels"]["app"].is_null());
    }
}

#[test]
fn without_postgresql_it_is_one_pod_in_memory() {
    let objects = objects(&rendered("4", "0.19", &["--set", "api.replicas=3"]));
    let deployments = deployments(&objects);
    assert_eq!(deployments.len(), 1);
    assert_eq!(deployments[0]["spec"]["replicas"], 1);
    let container = &pod(&deployments[0])["containers"][0];
    assert_eq!(container["command"], json!(["/usr/bin/dpd", "serve", "--listen", "0.0.0.0:8000"]));
    assert!(!objects.iter().any(|object| object["kind"] == "PodDisruptionBudget"));
}

#[test]
fn paths_are_those_of_the_ingress_and_of_the_programs() {
    for (set, api, dashboard) in [
        ("api.ingress.path=/api/", "/integration/api", "/integration/dashboard"),
        ("ingress.namespaced=false,api.ingress.path=a/b", "/a/b", "/dashboard"),
        ("api.ingress.path=,dashboard.ingress.path=", "/integration", "/integration"),
        ("ingress.namespaced=false,api.ingress.path=", "", "/dashboard"),
    ] {
        let objects = objects(&rendered("4", "0.19", &["--set", set]));
        let path = |name: &str| {
            let ingress = object(&objects, "Ingress", &format!("ska-dataproduct-dashboard-{name}-ingress"));
            ingress["spec"]["rules"][0]["http"]["paths"][0]["path"].clone()
        };
        assert_eq!(path("api"), if api.is_empty() { "/" } else { api }, "{set}");
        assert_eq!(path("dashboard"), format!("{dashboard}/(.*)"), "{set}");
        let variables = pod(&deployments(&objects)[0])["containers"][0]["env"].clone();
        for variable in [
            json!({"name": "API_ROOT_PATH", "value": api}),
            json!({"name": "REACT_APP_SKA_DATAPRODUCT_DASHBOARD_URL", "value": dashboard}),
        ] {
            assert!(variables.as_array().expect("variables").contains(&variable), "{set}: {variable}");
        }
    }
}

#[test]
fn budgets_are_for_several_pods_alone() {
    for (replicas, budgets) in [("1", 0), ("2", 1)] {
        let more = ["--set", &format!("api.postgresql.host=pg,indexer.replicas=1,api.replicas={replicas}")];
        let objects = objects(&rendered("4", "0.19", &more));
        let found: Vec<_> = objects.iter().filter(|object| object["kind"] == "PodDisruptionBudget").collect();
        assert_eq!(found.len(), budgets, "{replicas}");
        for budget in found {
            assert_eq!((&budget["spec"]["maxUnavailable"], &budget["spec"]["minAvailable"]), (&json!(1), &Value::Null));
        }
    }
}

#[test]
fn sleep_before_the_end_is_for_clusters_that_know_it() {
    for (version, seconds, grace) in [("1.27.0", Value::Null, 43), ("1.30.0", json!(3), 46), ("1.37.0", json!(3), 46)] {
        for helm in HELMS {
            let objects = objects(&rendered(helm, "0.19", &["--kube-version", version]));
            let pod = pod(&deployments(&objects)[0]).clone();
            let sleep = &pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
            assert_eq!((sleep, &pod["terminationGracePeriodSeconds"]), (&seconds, &json!(grace)), "{version}");
        }
    }
    let old = template("4", &[], &["--kube-version", "1.26.0"]).expect_err("too old a cluster");
    assert!(old.contains("requires kubeVersion: >=1.27.0-0"), "{old}");
}

#[test]
fn alerts_and_dashboard_are_the_files() {
    for helm in HELMS {
        let flags = ["--set", "metrics.prometheusRule.enabled=true,metrics.grafanaDashboard.enabled=true"];
        let objects = objects(&rendered(helm, "integration", &flags));
        let rule = object(&objects, "PrometheusRule", "ska-dataproduct-dashboard-index");
        assert_eq!(rule["spec"], yaml(&chart("files/dpd-rules.yaml")));
        let map = object(&objects, "ConfigMap", "ska-dataproduct-dashboard-index-dashboard");
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let dashboard = map["data"]["dpd-dashboard.json"].as_str().expect("a text");
        assert_eq!(read(dashboard), read(&chart("files/dpd-dashboard.json")));
    }
}

#[test]
fn a_network_policy_leaves_names_to_be_found() {
    let objects = objects(&rendered("4", "0.19", &["--set", "networkPolicy.enabled=true,api.postgresql.host=pg"]));
    let policy = object(&objects, "NetworkPolicy", "ska-dataproduct-dashboard");
    let egress = policy["spec"]["egress"].as_array().expect("rules").clone();
    let everywhere = egress.iter().filter(|rule| rule["to"].is_null());
    let ports: Vec<_> = everywhere.flat_map(|rule| rule["ports"].as_array().expect("ports").clone()).collect();
    for (port, protocol) in [(53, "UDP"), (53, "TCP"), (5353, "UDP"), (5353, "TCP"), (5432, "TCP"), (443, "TCP")] {
        assert!(ports.contains(&json!({"port": port, "protocol": protocol})), "{protocol} {port} in {ports:?}");
    }
}

#[test]
fn the_version_is_the_programs() {
    let version = yaml(&chart("Chart.yaml"))["appVersion"].clone();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let deployments = deployments(&objects(&rendered("4", "0.19", &[])));
    let container = &pod(&deployments[0])["containers"][0];
    assert_eq!(container["image"], format!("artefact.skao.int/ska-dataproduct-index:{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn notes_say_what_differs() {
    let notes = |values: &str, more: &[&str]| {
        let all = ["install", "dpd", "charts/ska-dataproduct-dashboard", "--dry-run=client", "-n", "integration"];
        let files = [values, LEFT_OUT].map(|file| format!("--values=tests/charts/values/{file}.yaml"));
        let mut command = with_bare_environment(Command::new(project("target/helm/4/helm")));
        let output = command.current_dir(project("")).args(all).args(files).args(more).output().expect("Helm's end");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.split_once("\nNOTES:\n").unwrap_or_else(|| panic!("{values}: {output:?}")).1.to_owned()
    };
    for (values, more, says, does_not) in [
        ("0.12", &[][..], "- api.elasticsearch\n- api.vault\n- dashboard.vault\n- permissionsApi", "connections"),
        ("0.19", &[], "the index is in memory, in one pod at the most", "no effect"),
        ("0.18", &["--set=api.postgresql.host=pg"], "indexingHeartbeatStaleSeconds is 300", "in memory"),
        ("integration", &[], "up to\n42 connections: 10 for each of 2 API pods and 11 for each of 2", "StaleSeconds"),
        ("integration", &["--set=securityContext.runAsUser=null"], "a user of the cluster's choice", "10617"),
        (
            "dev-environment",
            &[],
            "import-annotations --from sdp_sdp_dataproduct_dashboard_integration.dpd_annotations_ci_dev`",
            "no effect",
        ),
        ("0.19", &["--set=api.enabled=false"], "without an index", "differs"),
    ] {
        let notes = notes(values, more);
        assert!(notes.contains(says) && !notes.contains(does_not), "{values}: {notes}");
    }
}
