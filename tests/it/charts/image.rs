//! What the image holds is enough: the programs and the libraries that they are linked to, on a root that nobody may write to,
//! without capabilities, without /tmp.

use super::{project, read};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tests::postgres::Postgres;
use tests::program::{Server, binary};
use tests::volume::Volume;

const PROGRAMS: [&str; 3] = ["dpd", "dpd-api", "dpd-indexer"];

/// The image's user.
const USER: u32 = 10617;

/// Runs `PROGRAM…` as a container would: `ROOT VOLUME ro|rw PROGRAM…`, in a mount namespace of its own.
const CONTAINER: &str = r#"
set -e
root=$1 volume=$2 access=$3
shift 3
mount --bind "$root" "$root"
mount --bind "$volume" "$root/mnt/data"
mount -o "remount,bind,$access" "$root/mnt/data"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec=10617:10617 --groups= "$root" "$@"
"#;

fn container(root: &Path, volume: &Path, access: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", CONTAINER, "container"]).args([root, volume]).arg(access);
    command
}

/// The libraries that a program is linked to, with the one that loads them.
fn libraries(program: &Path) -> BTreeSet<String> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8(output.stdout).expect("text");
    let paths = text.lines().filter_map(|line| {
        let line = line.rsplit_once("=> ").map_or(line, |(_, path)| path);
        line.split_whitespace().next().filter(|path| path.starts_with('/')).map(str::to_owned)
    });
    paths.collect()
}

/// The image's root, of links to what was built.
fn root() -> TempDir {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let open = Permissions::from_mode(0o755);
    fs::set_permissions(root.path(), open.clone()).expect("its mode");
    for folder in ["usr/bin", "mnt/data"] {
        fs::create_dir_all(root.path().join(folder)).expect("a folder");
    }
    for program in PROGRAMS {
        let (from, to) = (binary(program), root.path().join("usr/bin").join(program));
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(|_| ())).expect("the program");
        for library in libraries(&from) {
            let to = root.path().join(library.trim_start_matches('/'));
            fs::create_dir_all(to.parent().expect("a folder")).expect("its folder");
            fs::copy(&library, &to).expect("the library");
        }
    }
    root
}

/// Whether this machine lets a test make containers of this kind.
fn may_contain() -> bool {
    let (root, volume) = (root(), Volume::new());
    let output = container(root.path(), volume.path(), "ro").args(["/usr/bin/dpd", "--version"]).output();
    let output = output.expect("unshare");
    if !output.status.success() {
        eprintln!("NOT TESTED: the programs in the image's root, as this machine forbids it: {output:?}");
    }
    output.status.success()
}

/// What the kernel says of it.
fn says(server: &Server, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn start(root: &Path, volume: &Volume, access: &str, command: &[&str], variables: &[(&str, &str)]) -> Server {
    let mut process = container(root, volume.path(), access);
    process.args(command).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(variables.iter().copied());
    Server::with(process, false)
}

#[test]
fn programs_need_no_more_than_the_image_has() {
    // What gcr.io/distroless/cc-debian12 has.
    let has = ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
    for program in PROGRAMS {
        for library in libraries(&binary(program)) {
            let name = library.rsplit('/').next().expect("a name");
            assert!(has.contains(&name), "{program} needs {library}, which the image has not");
        }
    }
}

#[test]
fn programs_run_in_the_images_root() {
    if !may_contain() {
        return;
    }
    let (root, volume, database) = (root(), Volume::new(), Postgres::shared().empty_database());
    volume.product("product/eb-a-20240101-1", "eb-a-20240101-1", "");
    for folder in ["", "product", "product/eb-a-20240101-1"] {
        fs::set_permissions(volume.at(folder), Permissions::from_mode(0o777)).expect("its mode");
    }
    let url = database.url();
    let variables = [
        ("PERSISTENT_STORAGE_PATH", "/mnt/data/product"),
        ("DATABASE_URL", url.as_str()),
        ("DPD_API_LISTEN", "127.0.0.1:0"),
        ("DPD_INDEXER_LISTEN", "127.0.0.1:0"),
    ];
    let indexer = start(root.path(), &volume, "rw", &["/usr/bin/dpd-indexer"], &variables);
    let api = start(root.path(), &volume, "ro", &["/usr/bin/dpd-api"], &variables);
    let standalone = ["/usr/bin/dpd", "serve", "--listen", "127.0.0.1:0"];
    let standalone = start(root.path(), &volume, "ro", &standalone, &variables[..1]);
    for server in [&api, &standalone] {
        tests::wait_for("the tables", || (server.get("/readyz").status == 200).then_some(()));
        tests::wait_for("the product", || (server.search(&[]).len() == 1).then_some(()));
        let archive = server.post("/download", &json!({"execution_block": "eb-a-20240101-1"}));
        assert!(archive.status == 200 && archive.body.len() > 1024, "{}", archive.status);
        assert_eq!(server.get("/docs/index.html").status, 200);
    }
    for server in [&indexer, &api, &standalone] {
        assert_eq!(says(server, "Uid:"), [USER; 4].map(|id| id.to_string()).join(" "));
        assert_eq!((says(server, "CapEff:"), says(server, "NoNewPrivs:")), ("0".repeat(16), "1".to_owned()));
        assert!(!Path::new(&format!("/proc/{}/root/tmp", server.pid())).exists());
        let written = fs::write(format!("/proc/{}/root/usr/written", server.pid()), "");
        assert!(written.is_err(), "its root can be written to");
    }
    // The indexer's one file on the volume.
    assert_eq!(fs::metadata(volume.at("product/.dpd-volume-id")).expect("the identity").uid(), USER);
    for server in [indexer, api, standalone] {
        server.stop();
    }
}

#[test]
fn the_image_is_what_the_chart_says() {
    let file = read("Containerfile");
    let values = super::yaml(&super::chart("values.yaml"));
    let line = |begins: &str| file.lines().rfind(|line| line.starts_with(begins)).map(str::to_owned);
    assert_eq!(line("USER "), Some(format!("USER {USER}:{USER}")));
    assert_eq!(values["securityContext"]["runAsUser"], USER);
    for program in PROGRAMS {
        assert!(file.contains(&format!("target/release/{program}")), "{program}");
    }
    // What the chart's probes and Services reach.
    for listen in ["DPD_API_LISTEN=0.0.0.0:8000", "DPD_INDEXER_LISTEN=0.0.0.0:8001"] {
        assert!(file.contains(listen), "{listen}");
    }
    let ignored = read(".containerignore");
    assert!(ignored.lines().any(|line| line == "/target"), "{ignored}");
    assert!(project("Cargo.lock").exists());
}
