//! Which API the command for people asks, and as whom.

use super::{BadVariable, ProxySettings, Secret, Variables, proxy};

/// Where the API is, and what is shown to it.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Its URL, with no `/` at the end.
    pub server: String,
    /// The token that says who asks.
    pub token: Option<Secret>,
    /// The proxy on the way to it.
    pub proxy: Option<ProxySettings>,
}

impl ClientSettings {
    /// Reads them. `server` and `token` are those that were given otherwise than by the environment.
    ///
    /// # Errors
    /// The one that cannot be used.
    pub fn read(
        variables: &Variables,
        server: Option<String>,
        token: Option<String>,
    ) -> Result<ClientSettings, BadVariable> {
        let expected = "an http or https URL, such as http://127.0.0.1:8000";
        let server = match server {
            Some(server) => url(&server).ok_or_else(|| BadVariable::new("DPD_SERVER or --server", server, expected))?,
            None => variables.value("DPD_SERVER", expected, url)?,
        };
        let token = match token {
            Some(token) => token,
            None => variables.text("DPD_TOKEN")?,
        };
        let token = token.trim().trim_start_matches("Bearer ").to_owned();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let expected = "a token of printable characters, without spaces";
            return Err(BadVariable::new("DPD_TOKEN or --token", token, expected));
        }
        let proxy = proxy::to(variables, &server)?;
        Ok(ClientSettings { server, proxy, token: (!token.is_empty()).then_some(Secret(token)) })
    }
}

fn url(text: &str) -> Option<String> {
    let url = text.trim().trim_end_matches('/');
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let fits = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"\\".contains(&byte));
    fits.then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let read = |server: &str, token: &str| {
            ClientSettings::read(&[("DPD_SERVER", server), ("DPD_TOKEN", token)].into(), None, None)
        };
        let settings = read("https://example.org/api/", "Bearer abc").expect("settings");
        assert_eq!(
            (settings.server.as_str(), settings.token.map(|t| t.0)),
            ("https://example.org/api", Some("abc".into()))
        );
        assert_eq!(read("", "").expect("defaults").server, "http://127.0.0.1:8000");
        for (server, token) in [("example.org", ""), ("ftp://x", ""), ("http://", ""), ("http://a b", "")] {
            assert!(read(server, token).expect_err("bad").to_string().contains("DPD_SERVER"));
        }
        let error = read("", "gehe im").expect_err("bad").to_string();
        assert!(error.contains("DPD_TOKEN") && !error.contains("gehe"), "{error}");
        assert!(ClientSettings::read(&Variables::default(), Some("x".to_owned()), None).is_err());
    }
}
