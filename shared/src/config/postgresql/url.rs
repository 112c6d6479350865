//! `DATABASE_URL`, read as RFC 3986 has it, and strictly: what a password would be cut off at, or taken apart by, is an error
//! rather than a host that is asked for.

use super::{Server, TlsMode};
use crate::config::Secret;
use percent_encoding::percent_decode_str;

/// The characters that end one part of a URL and begin another.
const ENDS: [char; 3] = ['/', '?', '#'];
const ENCODE: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE, with each of : / ? # @ % [ ] and blanks in user, \
                      password and database written as % and two hex digits (@ is %40, / is %2F, ? is %3F, # is %23)";
const KEYS: &str = "host, port, user, password, dbname, sslmode, sslrootcert, sslcert, sslkey and options";

/// Reads a URL. The error is what was expected, and holds nothing of it.
pub(super) fn read(url: &str) -> Result<Server, String> {
    let encode = || ENCODE.to_owned();
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")).ok_or_else(encode)?;
    let (authority, rest) = rest.split_at(rest.find(ENDS).unwrap_or(rest.len()));
    // A second `@` is one of the password, and so may be what the first part ended at.
    let is_blank = |c: char| c.is_whitespace() || c.is_control();
    if url.matches('@').count() > 1 || rest.contains(['@', '#']) || url.contains(is_blank) {
        return Err(encode());
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, place) = match authority.split_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let mut server = Server::default();
    if let Some(user) = user {
        let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
        server.user = decoded(user).ok_or_else(encode)?;
        server.password =
            password.map(decoded).map(|password| password.ok_or_else(encode)).transpose()?.flatten().map(Secret);
    }
    let (host, port) = place_of(place).ok_or_else(encode)?;
    // The `%` before an address's zone need not be encoded, as people write it.
    let host = if place.starts_with('[') { Some(host.to_owned()) } else { decoded(host).ok_or_else(encode)? };
    server.host = host.map(|host| self::host(&host).ok_or_else(encode)).transpose()?;
    server.port = port.filter(|port| !port.is_empty()).map(|port| self::port(port).ok_or_else(encode)).transpose()?;
    let database = path.strip_prefix('/').unwrap_or(path);
    if database.contains('/') {
        return Err(encode());
    }
    server.database = decoded(database).ok_or_else(encode)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decoded(key).ok_or_else(encode)?.unwrap_or_default(), decoded(value).ok_or_else(encode)?);
        set(&mut server, &key, value)?;
    }
    Ok(server)
}

/// Sets what a parameter of the query names.
fn set(server: &mut Server, key: &str, value: Option<String>) -> Result<(), String> {
    let bad = |what: &str| format!("{what} in its {key}");
    match key {
        "host" | "hostaddr" => {
            server.host =
                value.map(|host| self::host(&host).ok_or_else(|| bad("a host's name or address"))).transpose()?;
        }
        "port" => server.port = value.map(|text| port(&text).ok_or_else(|| bad("a port"))).transpose()?,
        "user" => server.user = value,
        "password" => server.password = value.map(Secret),
        "dbname" => server.database = value,
        "sslmode" | "ssl-mode" => {
            let mode = value.map(|mode| TlsMode::read(&mode).ok_or_else(|| bad(TlsMode::NAMES)));
            server.tls.mode = mode.transpose()?;
        }
        "sslrootcert" | "ssl-root-cert" | "ssl-ca" => server.tls.root = value.map(Into::into),
        "sslcert" | "ssl-cert" => server.tls.certificate = value.map(Into::into),
        "sslkey" | "ssl-key" => server.tls.key = value.map(Into::into),
        "options" => server.options = value,
        // A name shows nothing of what it was given.
        key if key.len() <= 40 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) => {
            return Err(format!("no parameters in it but {KEYS}; it has {key}"));
        }
        _ => return Err(format!("no parameters in it but {KEYS}")),
    }
    Ok(())
}

/// The host of an authority, without the brackets of an address, and its port.
fn place_of(place: &str) -> Option<(&str, Option<&str>)> {
    if let Some(literal) = place.strip_prefix('[') {
        let (address, rest) = literal.split_once(']')?;
        // A zone may follow the address itself.
        address.split('%').next()?.parse::<std::net::Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((address, Some(port))),
            None => rest.is_empty().then_some((address, None)),
        };
    }
    match place.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((place, None)),
    }
}

/// A host as connections are made to it: a name, an address without brackets, or the folder of a socket.
pub(super) fn host(text: &str) -> Option<String> {
    if text.starts_with('/') {
        return Some(text.to_owned());
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let (address, zone) = bare.split_once('%').unwrap_or((bare, ""));
    let zone = zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone);
    let is_plain =
        |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || "/,@?#[]\"'".contains(c));
    if address.parse::<std::net::Ipv6Addr>().is_ok() && is_plain(zone) {
        return Some(if zone.is_empty() { address.to_owned() } else { format!("{address}%{zone}") });
    }
    (!bare.is_empty() && bare.len() == text.len() && is_plain(bare) && !bare.contains([':', '%']))
        .then(|| bare.to_owned())
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?.filter(|port| *port != 0)
}

/// A part without its encoding, nothing where it is empty; nothing at all where a `%` is not followed by two digits.
#[expect(clippy::option_option, reason = "that there is none is not an error")]
fn decoded(part: &str) -> Option<Option<String>> {
    let is_encoded = |after: &str| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !part.split('%').skip(1).all(is_encoded) {
        return None;
    }
    let text = percent_decode_str(part).decode_utf8().ok()?.into_owned();
    Some(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> (Option<String>, Option<u16>) {
        let server = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        (server.host, server.port)
    }

    #[test]
    fn hosts_are_names_addresses_and_folders() {
        for (url, host, port) in [
            ("postgres://dpd@[::1]:5432/dpd", Some("::1"), Some(5432)),
            ("postgres://[::1]", Some("::1"), None),
            ("postgres://[2001:DB8::1]:1/x", Some("2001:DB8::1"), Some(1)),
            ("postgres://[::ffff:127.0.0.1]/x", Some("::ffff:127.0.0.1"), None),
            ("postgres://me@[fe80::1%25eth0]:5432/x", Some("fe80::1%eth0"), Some(5432)),
            ("postgres://me@[fe80::1%eth0]/x", Some("fe80::1%eth0"), None),
            ("postgresql://db.example.org/x", Some("db.example.org"), None),
            ("postgres://db:/x", Some("db"), None),
            ("postgres://%2Fvar%2Frun%2Fpostgresql/x", Some("/var/run/postgresql"), None),
            ("postgres:///x?host=/tmp&port=5433", Some("/tmp"), Some(5433)),
            ("postgres:///x?host=%3A%3A1", Some("::1"), None),
            ("postgres:///x?host=[::1]", Some("::1"), None),
            ("postgres:///x", None, None),
        ] {
            assert_eq!(place(url), (host.map(str::to_owned), port), "{url}");
        }
    }

    #[test]
    fn all_parts_are_read() {
        let server = read(
            "postgres://m%40e:g%3Ah:e%2Fi%25m@db:1/d%2Fb?sslmode=verify-full&sslrootcert=%2Fca.pem&options=-c%20geqo%3Doff",
        );
        let server = server.expect("a server");
        assert_eq!(server.user.as_deref(), Some("m@e"));
        assert_eq!(server.password.expect("a password").0, "g:h:e/i%m");
        assert_eq!(server.database.as_deref(), Some("d/b"));
        assert_eq!(server.options.as_deref(), Some("-c geqo=off"));
        assert_eq!((server.tls.mode, server.tls.root), (Some(TlsMode::VerifyFull), Some("/ca.pem".into())));
        let other = read("postgres://h/?user=a%2Bb&password=p+w&dbname=x").expect("a server");
        assert_eq!((other.user.as_deref(), other.database.as_deref()), (Some("a+b"), Some("x")));
        assert_eq!(other.password.expect("a password").0, "p+w");
    }

    #[test]
    fn what_is_not_encoded_is_refused_and_not_shown() {
        for url in [
            "postgres://dpd:12?geheim@127.0.0.1:5432/dpd",
            "postgres://dpd:12#geheim@127.0.0.1:5432/dpd",
            "postgres://dpd:12/geheim@127.0.0.1:5432/dpd",
            "postgres://dpd:12@geheim@127.0.0.1:5432/dpd",
            "postgres://dpd:geheim@x/y@127.0.0.1/dpd",
            "postgres://dpd:geheim%@127.0.0.1/dpd",
            "postgres://dpd:%geheim@127.0.0.1/dpd",
            "postgres://dpd:a:%geheim@127.0.0.1/dpd",
            "postgres://dpd:ge heim@127.0.0.1/dpd",
            "postgres://dpd:geheim@127.0.0.1/dpd#geheim",
            "postgres://dpd:geheim@127.0.0.1/dpd/geheim",
            "postgres://dpd:geheim@127.0.0.1/dpd?ge.heim=1",
            "postgres://dpd:geheim@127.0.0.1:geheim/dpd",
            "postgres://dpd:geheim@127.0.0.1:0/dpd",
            "postgres://dpd:geheim@127.0.0.1:70000/dpd",
            "postgres://dpd:geheim@::1/dpd",
            "postgres://dpd:geheim@[::1/dpd",
            "postgres://dpd:geheim@[geheim]/dpd",
            "postgres://dpd:geheim@[::1]geheim/dpd",
            "postgres://dpd:geheim@a,geheim/dpd",
            "postgres://dpd:geheim@h/dpd?sslmode=geheim",
            "postgres://dpd:geheim@h/dpd?port=geheim",
            "mysql://dpd:geheim@h/dpd",
            "geheim",
        ] {
            let error = read(url).err().unwrap_or_else(|| panic!("{url} was read"));
            assert!(!error.contains("geheim"), "{url}: {error}");
        }
        let error = read("postgres://h/dpd?connect_timeout=geheim").expect_err("unknown");
        assert!(error.contains("connect_timeout") && !error.contains("geheim"), "{error}");
    }
}
