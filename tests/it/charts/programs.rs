//! What the chart sets is what the programs read: they start with it, and serve.

use super::{OLDER, deployments, objects, pod, rendered};
use serde_json::{Value, json};
use std::process::Command;
use tests::postgres::{Database, Postgres};
use tests::program::{Server, binary, with_bare_environment};
use tests::volume::Volume;

/// The places of a test, instead of those in a cluster.
struct Site {
    volume: Volume,
    secrets: Volume,
    database: Database,
}

impl Site {
    fn new() -> Site {
        let volume = Volume::new();
        volume.product("product/eb-a-20240101-1", "eb-a-20240101-1", "");
        let secrets = Volume::new();
        secrets.write("password", "geheim\n");
        Site { volume, secrets, database: Postgres::shared().empty_database() }
    }

    /// What a variable is here, where it names a place; nothing where it is as the chart has it.
    fn instead(&self, name: &str) -> Option<String> {
        Some(match name {
            "PERSISTENT_STORAGE_PATH" => self.volume.at("product").display().to_string(),
            "SKA_DATAPRODUCT_API_POSTGRESQL_HOST" => "127.0.0.1".to_owned(),
            "SKA_DATAPRODUCT_API_POSTGRESQL_PORT" => Postgres::shared().port().to_string(),
            "SKA_DATAPRODUCT_API_POSTGRESQL_USER" => "postgres".to_owned(),
            "SKA_DATAPRODUCT_API_POSTGRESQL_DBNAME" => self.database.name().to_owned(),
            "SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD_FILE" => self.secrets.at("password").display().to_string(),
            // The server has no certificate.
            "SKA_DATAPRODUCT_API_POSTGRESQL_SSLMODE" => "prefer".to_owned(),
            "SKA_DATAPRODUCT_API_POSTGRESQL_SSLROOTCERT" => String::new(),
            "DPD_READ_DATABASE_URL" => self.database.url(),
            _ if name.ends_with("_LISTEN") => "127.0.0.1:0".to_owned(),
            _ => return None,
        })
    }

    /// A container as a process of this machine.
    fn start(&self, container: &Value) -> Server {
        let words: Vec<&str> =
            container["command"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
        let program = words[0].strip_prefix("/usr/bin/").expect("where the image has its programs");
        let mut command = with_bare_environment(Command::new(binary(program)));
        command.args(words[1..].iter().map(|word| if *word == "0.0.0.0:8000" { "127.0.0.1:0" } else { word }));
        for (name, value) in variables(container) {
            command.env(&name, self.instead(&name).unwrap_or(value));
        }
        Server::with(command, false)
    }
}

/// A container's variables; of those that are secrets some text.
fn variables(container: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let variables = container["env"].as_array().expect("variables").iter();
    let pairs = variables.map(|variable| match variable["valueFrom"]["secretKeyRef"].is_object() {
        true => (text(&variable["name"]), "geheim".to_owned()),
        false => (text(&variable["name"]), text(&variable["value"])),
    });
    pairs.collect()
}

#[test]
fn programs_start_with_what_the_chart_sets_and_serve() {
    for name in OLDER.into_iter().chain(["everything"]) {
        let site = Site::new();
        let deployments = deployments(&objects(&rendered("4", name, &[])));
        let containers: Vec<_> =
            deployments.iter().map(|deployment| pod(deployment)["containers"][0].clone()).collect();
        let mut api = None;
        let mut running = Vec::new();
        for container in &containers {
            let server = site.start(container);
            if container["name"] == "api" { api = Some(server) } else { running.push(server) }
        }
        let api = api.expect("an API");
        // As an ingress asks it, which leaves the prefix.
        let prefix = if name == "everything" { "/data/api" } else { "/integration/api" };
        let found = || {
            let answer = api.post(&format!("{prefix}/dataproductsearch"), &json!({"start_date": "1900-01-01"}));
            let row = answer.json().as_array()?.first()?.clone();
            (row["execution_block"] == "eb-a-20240101-1").then_some(())
        };
        tests::wait_for(&format!("a product with the values of {name}"), found);
        tests::wait_for(name, || (api.get("/readyz").status == 200).then_some(()));
        assert_eq!(api.get(&format!("{prefix}/status")).status, 200, "{name}");
        for indexer in running {
            assert_eq!(indexer.get("/livez").status, 200, "{name}");
            indexer.stop();
        }
        api.stop();
    }
}

/// The ports that a container's program listens on.
fn listens(container: &Value) -> Vec<u64> {
    let command = container["command"].as_array().expect("words").iter().filter_map(Value::as_str).map(str::to_owned);
    let variables = variables(container).into_iter().filter(|(name, _)| name.ends_with("_LISTEN"));
    let addresses = command.chain(variables.map(|(_, address)| address));
    let port = |address: String| address.strip_prefix("0.0.0.0:").map(|port| port.parse().expect("a port"));
    addresses.filter_map(port).collect()
}

#[test]
fn programs_listen_where_the_pod_says() {
    for name in OLDER.into_iter().chain(["everything"]) {
        for deployment in deployments(&objects(&rendered("4", name, &[]))) {
            let container = &pod(&deployment)["containers"][0];
            let ports = container["ports"].as_array().expect("ports").iter();
            let mut told: Vec<_> = ports.filter_map(|port| port["containerPort"].as_u64()).collect();
            let mut listens = listens(container);
            told.sort_unstable();
            listens.sort_unstable();
            assert_eq!(listens, told, "{name}, {}: each port once", container["name"]);
        }
    }
}

#[test]
fn the_chart_sets_what_programs_read() {
    for name in OLDER.into_iter().chain(["everything"]) {
        for deployment in deployments(&objects(&rendered("4", name, &[]))) {
            for (variable, _) in variables(&pod(&deployment)["containers"][0]) {
                let known = shared::config::VARIABLES.iter().any(|known| known.name == variable);
                assert!(known, "{name}: no program reads {variable}");
            }
        }
    }
}
