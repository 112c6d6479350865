//! The proxy on the way to an API, by the variables and rules that `curl` has: those of the URL's own scheme, then
//! `all_proxy`, and none for what `no_proxy` names.

use super::{BadVariable, Secret, Variables};
use std::net::IpAddr;
use url::{Host, Url};

/// The variables that name the proxy for each scheme. Web servers set `HTTP_PROXY` to what a client sends, so it is none.
const OF_HTTP: [&str; 3] = ["http_proxy", "all_proxy", "ALL_PROXY"];
const OF_HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const NOT_FOR: [&str; 2] = ["no_proxy", "NO_PROXY"];
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// A proxy.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Its URL, which may have a password in it.
    pub url: Secret,
    /// Where it is, for people.
    pub place: String,
    /// The variable that names it.
    pub variable: &'static str,
}

/// The proxy on the way to a server.
pub(super) fn to(variables: &Variables, server: &str) -> Result<Option<ProxySettings>, BadVariable> {
    let Ok(server) = Url::parse(server) else { return Ok(None) };
    let names = if server.scheme() == "https" { &OF_HTTPS[..] } else { &OF_HTTP };
    let Some((variable, url)) = first(variables, names)? else { return Ok(None) };
    let excepted = first(variables, &NOT_FOR)?.map(|(_, hosts)| hosts).unwrap_or_default();
    if server.host().is_none_or(|host| is_among(&host, &excepted)) {
        return Ok(None);
    }
    let url = if url.contains("://") { url } else { format!("http://{url}") };
    let read = Url::parse(&url).ok().filter(|url| SCHEMES.contains(&url.scheme()));
    let expected = "a proxy's URL such as http://HOST:PORT or socks5://HOST:PORT";
    match read.as_ref().and_then(Url::host) {
        Some(host) if host.to_string() != "" => {
            let port = read.as_ref().and_then(Url::port).map(|port| format!(":{port}")).unwrap_or_default();
            Ok(Some(ProxySettings { place: format!("{host}{port}"), url: Secret(url), variable }))
        }
        _ => Err(BadVariable::new(variable, url, expected)),
    }
}

/// The first of these variables that is set to something, and to what.
fn first(variables: &Variables, names: &[&'static str]) -> Result<Option<(&'static str, String)>, BadVariable> {
    for name in names {
        let text = variables.text(name)?.trim().to_owned();
        if !text.is_empty() {
            return Ok(Some((name, text)));
        }
    }
    Ok(None)
}

/// Whether a host is one of these: by its name, as one of a domain, by its address, or by that of its network.
fn is_among(host: &Host<&str>, hosts: &str) -> bool {
    let address = match host {
        Host::Domain(name) => name.trim_matches(['[', ']']).parse().ok(),
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(IpAddr::V6(*address)),
    };
    let name = host.to_string().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    hosts.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some(address) = address {
            return is_in(address, entry.trim_matches(['[', ']']));
        }
        let entry = entry.to_ascii_lowercase();
        let entry = entry.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
        name.strip_suffix(entry).is_some_and(|rest| rest.is_empty() || (rest.ends_with('.') && !entry.is_empty()))
    })
}

/// Whether an address is this one, or in this network.
fn is_in(address: IpAddr, network: &str) -> bool {
    let (network, bits) = match network.split_once('/') {
        Some((network, bits)) => (network, bits.parse::<u32>().ok()),
        None => (network, Some(128)),
    };
    let shifted = |value: u128, width: u32, bits: u32| value.checked_shr(width.saturating_sub(bits)).unwrap_or(0);
    match (address, network.parse(), bits) {
        (IpAddr::V4(own), Ok(IpAddr::V4(other)), Some(bits)) => {
            shifted(u32::from(own).into(), 32, bits) == shifted(u32::from(other).into(), 32, bits)
        }
        (IpAddr::V6(own), Ok(IpAddr::V6(other)), Some(bits)) => {
            shifted(own.into(), 128, bits) == shifted(other.into(), 128, bits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(server: &str, pairs: &[(&str, &str)]) -> Option<(&'static str, String)> {
        let proxy = to(&pairs.iter().copied().collect(), server).unwrap_or_else(|error| panic!("{error}"));
        proxy.map(|proxy| (proxy.variable, proxy.place))
    }

    #[test]
    fn each_scheme_has_its_own() {
        let (plain, secure) = ("http://api.example.org", "https://api.example.org/x");
        let place = "p.example.org:3128";
        for (variable, of_http, of_https) in [
            ("https_proxy", false, true),
            ("HTTPS_PROXY", false, true),
            ("http_proxy", true, false),
            ("HTTP_PROXY", false, false),
            ("all_proxy", true, true),
            ("ALL_PROXY", true, true),
        ] {
            for value in ["http://p.example.org:3128", "p.example.org:3128/", "socks5h://me:geheim@p.example.org:3128"]
            {
                for (server, expected) in [(plain, of_http), (secure, of_https)] {
                    let expected = expected.then(|| place.to_owned());
                    let found = proxy(server, &[(variable, value)]).map(|(_, place)| place);
                    assert_eq!(found, expected, "{variable}={value} {server}");
                }
            }
            assert_eq!(proxy(secure, &[(variable, "")]), None, "{variable}");
        }
        let both = [("all_proxy", "a:1"), ("http_proxy", "b:2")];
        assert_eq!(proxy(plain, &both), Some(("http_proxy", "b:2".to_owned())));
        assert_eq!(proxy(secure, &both), Some(("all_proxy", "a:1".to_owned())));
        for bad in ["ftp://p:1", "http://", "http://p:x", "'http://p:1'"] {
            let error = to(&[("http_proxy", bad)].into(), plain).expect_err(bad).to_string();
            assert!(error.contains("http_proxy"), "{error}");
        }
        let error = to(&[("http_proxy", "ftp://me:geheim@p")].into(), plain).expect_err("bad").to_string();
        assert!(!error.contains("geheim"), "{error}");
    }

    #[test]
    fn some_hosts_have_none() {
        for (server, none_for, expected) in [
            ("http://api.example.org", "example.org", true),
            ("http://api.example.org", ".example.org", true),
            ("http://api.example.org", "*.example.org", true),
            ("http://example.org:8000", "a, .EXAMPLE.org", true),
            ("http://example.org.", "example.org", true),
            ("http://badexample.org", "example.org", false),
            ("http://api.example.org", "api", false),
            ("http://api.example.org", "a *", true),
            ("http://127.0.0.1:8000", "localhost,127.0.0.1", true),
            ("http://10.1.2.3", "10.0.0.0/8", true),
            ("http://11.1.2.3", "10.0.0.0/8", false),
            ("http://10.1.2.3", "10.1.2.4", false),
            ("http://10.1.2.3", "0.0.0.0/0", true),
            ("http://[::1]:8000", "[::1]", true),
            ("http://[fd00::1]", "fd00::/8", true),
            ("http://[fe80::1]", "fd00::/8,10.0.0.0/8", false),
            ("http://10.1.2.3", ".3", false),
        ] {
            let found = proxy(server, &[("http_proxy", "p:1"), ("no_proxy", none_for)]);
            assert_eq!(found.is_none(), expected, "{server} {none_for}");
        }
        assert!(proxy("http://a", &[("http_proxy", "p:1"), ("NO_PROXY", "a")]).is_none());
        assert!(proxy("http://a", &[("http_proxy", "p:1"), ("NO_PROXY", "a"), ("no_proxy", "b")]).is_some());
    }
}
