//! Certificates for the tests' servers: an authority, and what it vouches for.

use crate::postgres::user;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

/// An authority, and a certificate of its for a server, in files that PostgreSQL takes.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// For a server that goes by these names and addresses.
    ///
    /// # Panics
    /// When they cannot be made.
    pub fn of(names: &[&str]) -> Certificates {
        let folder = tempfile::Builder::new().prefix("dpd-tls-").tempdir().expect("a folder");
        let mut authority = CertificateParams::new(Vec::new()).expect("an authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = authority.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let own = CertificateParams::new(names).expect("a server").signed_by(&key, &issuer).expect("a certificate");
        for (name, text) in [("root.pem", root.pem()), ("own.pem", own.pem()), ("key.pem", key.serialize_pem())] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("for its owner alone");
            if let Some((user, group)) = user() {
                std::os::unix::fs::chown(&path, Some(user), Some(group)).expect("for the server's user");
            }
        }
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("for all");
        Certificates { folder }
    }

    /// The authority's certificate.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// What PostgreSQL is to be told of them.
    pub fn settings(&self) -> [String; 3] {
        let place = self.folder.path().display();
        ["ssl=on".to_owned(), format!("ssl_cert_file={place}/own.pem"), format!("ssl_key_file={place}/key.pem")]
    }
}
