//! Pods are within Pod Security *restricted*, and what else the field has learnt of pods like these.

use super::{HELMS, OLDER, chart, deployments, objects, pod, rendered, yaml};
use serde_json::{Value, json};

/// Kinds of volumes that *restricted* admits.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

/// What *restricted* asks of a pod, by the standard's own list; each complaint a line.
fn complaints(pod: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            complaints.push(what.to_owned());
        }
    };
    let security = &pod["securityContext"];
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        check(pod[field].is_null() || pod[field] == false, field);
    }
    check(security["runAsNonRoot"] == true, "runAsNonRoot");
    check(security["runAsUser"] != 0, "runAsUser");
    check(["RuntimeDefault", "Localhost"].iter().any(|kind| security["seccompProfile"]["type"] == *kind), "seccomp");
    for field in ["seLinuxOptions", "sysctls", "windowsOptions", "appArmorProfile"] {
        check(security[field].is_null(), field);
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let kinds = volume.as_object().into_iter().flatten().map(|(kind, _)| kind).filter(|kind| *kind != "name");
        kinds.for_each(|kind| check(VOLUMES.contains(&kind.as_str()), kind));
    }
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let containers: Vec<_> = lists.iter().flat_map(|list| pod[*list].as_array().into_iter().flatten()).collect();
    check(!containers.is_empty(), "containers");
    for container in containers {
        let security = &container["securityContext"];
        check(security["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        check(security["capabilities"] == json!({"drop": ["ALL"]}), "capabilities");
        for field in ["privileged", "procMount", "seLinuxOptions", "windowsOptions", "runAsUser", "runAsNonRoot"] {
            check(security[field].is_null(), field);
        }
        let ports = container["ports"].as_array().into_iter().flatten();
        check(ports.clone().all(|port| port["hostPort"].is_null()), "hostPort");
    }
    complaints
}

fn all(mut check: impl FnMut(&str, &Value)) {
    for name in OLDER.into_iter().chain(["everything"]) {
        for helm in HELMS {
            let deployments = deployments(&objects(&rendered(helm, name, &[])));
            assert!(!deployments.is_empty(), "{name}");
            for deployment in deployments {
                check(&format!("{name}, Helm {helm}, {}", deployment["metadata"]["name"]), &deployment);
            }
        }
    }
}

#[test]
fn pods_are_restricted() {
    all(|name, deployment| assert_eq!(complaints(pod(deployment)), Vec::<String>::new(), "{name}"));
}

#[test]
fn what_is_not_restricted_is_told() {
    let dashboard =
        |object: &Value| object["kind"] == "Deployment" && object["metadata"]["name"] == "ska-dataproduct-dashboard";
    let objects = objects(&rendered("4", "0.19", &[]));
    // It is not ours, and the README says so.
    let found = complaints(pod(objects.iter().find(|object| dashboard(object)).expect("the dashboard")));
    assert_eq!(found, ["runAsNonRoot", "seccomp", "allowPrivilegeEscalation", "capabilities"]);
    let mut pod = pod(&deployments(&objects)[0]).clone();
    pod["hostNetwork"] = json!(true);
    pod["volumes"][0]["hostPath"] = json!({"path": "/"});
    pod["securityContext"]["runAsUser"] = json!(0);
    pod["containers"][0]["securityContext"]["privileged"] = json!(true);
    assert_eq!(complaints(&pod), ["hostNetwork", "runAsUser", "hostPath", "privileged"]);
}

#[test]
fn pods_change_nothing_that_is_not_theirs() {
    all(|name, deployment| {
        let pod = pod(deployment);
        let container = &pod["containers"][0];
        let security = &pod["securityContext"];
        assert_eq!((&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]), (&json!(false), &json!(false)));
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
        // It would change the owner of every file of the volume.
        assert!(security["fsGroup"].is_null(), "{name}");
        // That of distroless's images, whose watches on files are counted together on a node.
        assert!(security["runAsUser"] != 65532, "{name}");
        let is_api = container["name"] == "api";
        for list in [&pod["volumes"], &container["volumeMounts"]] {
            let list = list.as_array().expect("a list");
            let volume = list.iter().find(|volume| volume["name"] == "shared-storage").expect("the volume");
            let read_only = [&volume["readOnly"], &volume["persistentVolumeClaim"]["readOnly"]].contains(&&json!(true));
            assert_eq!(read_only, is_api || name.starts_with("everything"), "{name}");
        }
    });
}

#[test]
fn pods_begin_and_end_in_good_order() {
    all(|name, deployment| {
        let (spec, pod) = (&deployment["spec"], pod(deployment));
        let container = &pod["containers"][0];
        assert_eq!(spec["strategy"]["rollingUpdate"], json!({"maxUnavailable": 0, "maxSurge": 1}), "{name}");
        assert_eq!(spec["progressDeadlineSeconds"], 3600, "{name}");
        assert_eq!(pod["topologySpreadConstraints"][0]["topologyKey"], "kubernetes.io/hostname", "{name}");
        // What it does with a database that is down is nothing that a restart mends.
        for probe in ["startupProbe", "livenessProbe"] {
            assert_eq!(container[probe]["httpGet"]["path"], "/livez", "{name}");
        }
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz", "{name}");
        let limits = &container["resources"]["limits"];
        assert!(container["resources"]["requests"]["cpu"].is_string() && limits["memory"].is_string(), "{name}");
        if container["name"] == "api" {
            let seconds = |variable: &str| -> u64 {
                let variables = container["env"].as_array().expect("variables");
                let found = variables.iter().find(|found| found["name"] == variable);
                found.map_or(0, |found| found["value"].as_str().expect("a text").parse().expect("a number"))
            };
            let waits = seconds("DPD_DRAIN_SECONDS") + seconds("DPD_DOWNLOAD_GRACE_SECONDS");
            let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a number");
            assert!(pod["terminationGracePeriodSeconds"].as_u64() > Some(waits + sleep), "{name}");
        }
    });
    let values = yaml(&chart("values.yaml"));
    for program in ["api", "indexer"] {
        assert!(values[program]["resources"]["limits"]["cpu"].is_null(), "{program}");
    }
}
