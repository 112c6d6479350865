//! A permissions service that is well, slow, broken or away. Whatever it does, nobody sees more than he may, and nobody waits
//! for long.

use super::{session, standalone};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::permissions::{COLLEAGUE, Line, MEMBER, Mode, OUTSIDER, Permissions, nowhere};
use tests::program::{Server, serve};
use tests::volume::Volume;

fn fill(volume: &Volume) {
    volume.product("eb-open", "eb-open-20240101-00001", "n: 1");
    volume.product("eb-staff", "eb-staff-20240101-00001", "context: {access_group: staff}\nn: 2");
}

fn seen(api: &Server, token: &str) -> usize {
    let answer = api.ask("POST", "/filterdataproducts", Some(token), b"{}");
    assert_eq!(answer.status, 200);
    answer.json()["total"].as_u64().and_then(|total| usize::try_from(total).ok()).expect("a total")
}

fn trouble(api: &Server) -> Value {
    api.status()["permissions_api"]["error"].clone()
}

#[test]
fn a_burst_asks_once_and_the_answer_is_kept() {
    let site = standalone(fill, &[]);
    site.permissions.set(Mode::Slowly(Duration::from_millis(300)));
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| seen(&site.api, MEMBER))).collect();
        assert!(asking.into_iter().all(|asking| asking.join().expect("an answer") == 2));
    });
    assert_eq!(site.permissions.asked(), 1);
    // Kept, whatever becomes of the service meanwhile.
    site.permissions.set(Mode::Never);
    assert_eq!((seen(&site.api, MEMBER), site.permissions.asked()), (2, 1));
    site.permissions.set(Mode::Well);
    assert_eq!((seen(&site.api, OUTSIDER), seen(&site.api, COLLEAGUE), site.permissions.asked()), (1, 2, 3));
    assert_eq!(site.api.status()["permissions_api"], json!({"configured": true, "error": null}));
}

#[test]
fn whatever_is_wrong_with_it_what_is_guarded_stays_shut() {
    let staff = json!({"execution_block": "eb-staff-20240101-00001"}).to_string();
    for (mode, says) in [
        (Mode::Never, "no answer within 2 s"),
        (Mode::Half, "no answer within 2 s"),
        (Mode::Status(500), "answered 500"),
        (Mode::Status(302), "answered 302"),
        (Mode::Garbage, "no JSON"),
        (Mode::OtherJson, "not what it should be"),
        (Mode::Endlessly, "too large"),
    ] {
        // One that knows nobody yet but the colleague.
        let site = standalone(fill, &[]);
        let found =
            site.api.ask("POST", "/dataproductsearch", Some(COLLEAGUE), br#"{"key_value_pairs": ["n:2"]}"#).json();
        let by_uid = json!({"uid": found[0]["uid"]}).to_string();
        site.permissions.set(mode);
        let begun = Instant::now();
        assert_eq!(seen(&site.api, MEMBER), 1, "{mode:?}");
        // Two seconds, and as much again for a busy machine.
        assert!(begun.elapsed() < Duration::from_secs(5), "{mode:?}: {:?}", begun.elapsed());
        assert_eq!(site.api.ask("POST", "/dataproductmetadata", Some(MEMBER), staff.as_bytes()).status, 404);
        let answer = site.api.ask("POST", "/download", Some(MEMBER), by_uid.as_bytes());
        assert_eq!(answer.status, 403, "{mode:?}");
        assert!(answer.json()["detail"].as_str().expect("a detail").contains(says), "{mode:?}: {}", answer.json());
        // Nor is it told whether there is such a product.
        let unknown = json!({"uid": "00000000-0000-0000-0000-000000000000"}).to_string();
        let of_unknown = site.api.ask("POST", "/download", Some(MEMBER), unknown.as_bytes());
        assert_eq!((of_unknown.status, of_unknown.json()), (403, answer.json()), "{mode:?}");
        // One token may be what is wrong, and three are not.
        assert_eq!(trouble(&site.api), Value::Null, "{mode:?}");
        let _ = ["another", "yet-another"].map(|token| seen(&site.api, token));
        assert!(trouble(&site.api).as_str().expect("an error").contains(says), "{mode:?}: {}", trouble(&site.api));
        // A failure is forgotten in a moment.
        site.permissions.set(Mode::Well);
        tests::wait_for("the groups", || (seen(&site.api, MEMBER) == 2).then_some(()));
        assert_eq!(trouble(&site.api), Value::Null);
    }
}

#[test]
fn tokens_that_nobody_gave_ask_little_and_keep_nobody_out() {
    let site = standalone(fill, &[]);
    assert_eq!(seen(&site.api, MEMBER), 2);
    site.permissions.set(Mode::Slowly(Duration::from_millis(50)));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for part in 0..24 {
            let api = &site.api;
            scope.spawn(move || {
                for n in 0..20 {
                    let answer = api.ask("GET", "/status", Some(&format!("made-up-{part}-{n}")), b"");
                    assert_eq!(answer.status, 200);
                }
            });
        }
    });
    let most = 50 * (usize::try_from(begun.elapsed().as_secs()).expect("seconds") + 1);
    assert!(site.permissions.asked() <= 1 + most, "{} of at most {most}", site.permissions.asked());
    assert!(site.permissions.most() <= 16, "{}", site.permissions.most());
    assert_eq!(seen(&site.api, MEMBER), 2);
    assert_eq!(trouble(&site.api), Value::Null);
    // Nor does it mean anything that some cannot be asked about: whoever is new comes to his groups a moment later.
    tests::wait_for("his groups", || (seen(&site.api, COLLEAGUE) == 2).then_some(()));
}

#[test]
fn a_service_that_is_not_there_is_told_of() {
    let volume = Volume::new();
    fill(&volume);
    let mut command = serve(volume.path());
    command.env("SKA_PERMISSIONS_API_HOST", nowhere());
    let api = Server::with(command, true);
    assert_eq!(seen(&api, MEMBER), 1);
    assert!(trouble(&api).as_str().expect("an error").contains("cannot be reached"));
    // Why is for the log.
    tests::wait_for("the cause", || api.log().contains("onnection refused").then_some(()));
}

#[test]
fn status_does_not_wait_for_it() {
    let site = standalone(fill, &[]);
    site.permissions.set(Mode::Never);
    let begun = Instant::now();
    let answer = site.api.ask("GET", "/status", Some(MEMBER), b"");
    assert_eq!(answer.json()["metadata_store_status"]["number_of_dataproducts"], 1);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn tokens_are_in_no_log() {
    let site = standalone(fill, &[("RUST_LOG", "trace")]);
    for mode in [Mode::Well, Mode::Status(500), Mode::Garbage] {
        site.permissions.set(mode);
        for token in [MEMBER, OUTSIDER, "token-of-somebody-else"] {
            seen(&site.api, token);
            site.api.ask("POST", "/annotation", Some(token), b"{\"annotation_text\": \"x\"}");
        }
    }
    site.permissions.set(Mode::Well);
    let cookie = session(&site.api, MEMBER);
    assert_eq!(site.api.get_with("/muidatagridconfig", &[("cookie", &cookie)]).status, 200);
    tests::wait_for("the log", || site.api.log().contains("/annotation").then_some(()));
    let log = site.api.log();
    for token in ["token-of", "bearer t", "Bearer t", &cookie] {
        assert!(!log.contains(token), "{}", log.lines().find(|line| line.contains(token)).unwrap_or_default());
    }
}

#[test]
fn it_is_asked_over_https() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, certificate.cert.pem()).expect("a file");
    let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).expect("a key");
    let settings = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    let settings = settings.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let settings = Arc::new(settings.with_single_cert(vec![certificate.cert.der().clone()], key).expect("settings"));
    let permissions = Permissions::over(move |stream| {
        let session = rustls::ServerConnection::new(settings.clone()).expect("a session");
        Box::new(Ciphered(rustls::StreamOwned::new(session, stream))) as Box<dyn Line>
    });
    let volume = Volume::new();
    fill(&volume);
    let url = format!("https://localhost:{}", permissions.port());
    let start = |authority: Option<&std::path::Path>| {
        let mut command = serve(volume.path());
        command.env("SKA_PERMISSIONS_API_HOST", &url).envs(authority.map(|path| ("SSL_CERT_FILE", path)));
        Server::with(command, true)
    };
    assert_eq!(seen(&start(Some(&authority)), MEMBER), 2);
    let unknown = start(None);
    assert_eq!(seen(&unknown, MEMBER), 1);
    assert!(trouble(&unknown).as_str().expect("an error").contains("cannot be reached"));
    assert_eq!(permissions.asked(), 1);
}

/// TLS over a stream. It is closed as TLS wants it, or the other side takes what it got for a part.
struct Ciphered(rustls::StreamOwned<rustls::ServerConnection, TcpStream>);

impl Read for Ciphered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Ciphered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Ciphered {
    fn drop(&mut self) {
        self.0.conn.send_close_notify();
        let _ = self.0.flush();
    }
}
