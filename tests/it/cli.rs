//! `dpd` as a person meets it.

use std::net::TcpListener;
use std::process::{Command, Output};
use tests::program::{Server, binary, serve, with_bare_environment};
use tests::volume::{Volume, sample};

fn dpd(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = with_bare_environment(Command::new(binary("dpd")));
    command.args(arguments).envs(environment.iter().copied()).output().expect("its end")
}

fn refused(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text
}

#[test]
fn what_cannot_be_started_says_why_in_one_line() {
    let volume = Volume::new();
    let path = volume.path().to_str().expect("text");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    volume.write("file", "");
    let file = volume.at("file").to_str().expect("text").to_owned();
    for (arguments, environment, says) in [
        (&["serve", "/nowhere"][..], &[][..], "/nowhere"),
        (&["serve", &file], &[], "file"),
        (&["serve"], &[], "PERSISTENT_STORAGE_PATH"),
        (&["serve", path, "--listen", &address], &[], "--listen"),
        (&["serve", path, "--listen", "nonsense"], &[], "nonsense"),
        (&["serve", path], &[("INDEXING_PARALLEL_WORKERS", "many")], "INDEXING_PARALLEL_WORKERS: 'many'"),
        (&["serve", path], &[("DPD_WATCH", "never")], "events, notify, poll or auto"),
        (&["serve", path], &[("RUST_LOG", "a=b=c")], "RUST_LOG"),
    ] {
        let text = refused(&dpd(arguments, environment));
        assert_eq!(text.trim().lines().count(), 1, "{text}");
        assert!(text.contains(says), "{text}");
    }
    refused(&dpd(&["sreve"], &[]));
}

#[test]
fn help_lists_every_variable_and_the_readme_does_too() {
    let help = String::from_utf8(dpd(&["serve", "--help"], &[]).stdout).expect("text");
    let readme = std::fs::read_to_string(sample().join("../../README.md")).expect("the README");
    for variable in shared::config::VARIABLES {
        assert!(help.contains(variable.name) && help.contains(variable.default), "--help lacks {}", variable.name);
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{}`", variable.name)));
        let row = row.unwrap_or_else(|| panic!("the README lacks {}", variable.name));
        assert!(row.contains(variable.default), "{row}");
    }
}

#[test]
fn it_says_what_it_serves_and_what_to_try() {
    let server = Server::start(&sample());
    tests::wait_for("its words", || server.log().contains("Ctrl-C").then_some(()));
    let said = server.log();
    assert!(said.contains("serving 14 data products"), "{said}");
    assert_eq!(said.matches("curl -s").count(), 3);
    for line in said.lines().filter(|line| line.contains("curl -s")) {
        let line = line[line.find("curl").expect("curl")..].replace("EXECUTION-BLOCK", "eb-aa05-20221118-00042");
        let mut shell = Command::new("sh");
        let folder = tempfile::tempdir().expect("a folder");
        let done = shell.args(["-c", &line]).current_dir(folder.path()).output();
        // Where curl is not installed the lines are still those that are meant.
        if Command::new("curl").arg("--version").output().is_ok() {
            assert!(done.expect("a shell").status.success(), "{line}");
        }
    }
}

#[test]
fn the_storage_path_may_come_from_the_environment() {
    let mut command = with_bare_environment(Command::new(binary("dpd")));
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("PERSISTENT_STORAGE_PATH", sample())
        .env("PVCNAME", "shared");
    let server = Server::with(command, true);
    assert_eq!(server.status()["pv_interface_status"]["metadata_store_name"], "shared");
    assert_eq!(server.search(&["metadata_store_name:shared"]).len(), 14);
}

#[test]
fn nothing_is_written_to_the_volume() {
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    let server = Server::with(serve(volume.path()), true);
    assert_eq!(server.folders(), ["eb"]);
    assert_eq!(std::fs::read_dir(volume.path()).expect("the folder").count(), 1);
}
