//! The `Authorization` header, as RFC 6750 has it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use warp::http::{HeaderMap, HeaderValue, header};

/// The longest token, in bytes.
const LONGEST: usize = 8 * 1024;
/// What stands before it in the header, as we write it.
const SCHEME: &str = "Bearer ";

/// What a token is known by: it cannot be turned back into one.
pub(super) type Digest = [u8; 32];

/// What a request says of who sent it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nothing.
    None,
    /// Something that is no bearer token.
    Malformed,
    /// A token, of which nobody knows yet whether it is good.
    Token(Token),
}

/// A bearer token. It is a secret: it is shown nowhere, and kept only as long as its request.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(HeaderValue);

impl Token {
    /// One that was shown before.
    pub(super) fn of(text: &str) -> Option<Token> {
        token(&HeaderValue::try_from(format!("{SCHEME}{text}")).ok()?)
    }

    /// The token alone.
    pub(super) fn text(&self) -> &str {
        self.0.to_str().ok().and_then(|value| value.strip_prefix(SCHEME)).unwrap_or_default()
    }

    /// When it ends by its own word, in seconds since 1970; `None` where it does not say so in a way that is understood here
    /// (RFC 7519). Nobody vouches for it: it may make a session shorter and is good for nothing else.
    pub(super) fn end(&self) -> Option<i64> {
        let claims = self.text().split('.').nth(1)?;
        let claims: Value = serde_json::from_slice(&BASE64.decode(claims.trim_end_matches('=')).ok()?).ok()?;
        let end = claims.get("exp")?;
        // A number of seconds that may be broken; beyond what is counted here it is the largest.
        end.as_i64().or_else(|| end.as_f64().map(|end| end as i64))
    }

    /// The header's value that carries it.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// What answers about it are kept under.
    pub(super) fn digest(&self) -> Digest {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a token)")
    }
}

/// Reads the header.
pub(super) fn credentials(headers: &HeaderMap) -> Credentials {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Credentials::None,
        (Some(value), None) => token(value).map_or(Credentials::Malformed, Credentials::Token),
        (Some(_), Some(_)) => Credentials::Malformed,
    }
}

fn token(value: &HeaderValue) -> Option<Token> {
    let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim_start();
    let body = token.trim_end_matches('=');
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    if !scheme.eq_ignore_ascii_case("bearer") || body.is_empty() || token.len() > LONGEST || !body.bytes().all(fits) {
        return None;
    }
    let mut value = HeaderValue::try_from(format!("{SCHEME}{token}")).ok()?;
    value.set_sensitive(true);
    Some(Token(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Credentials {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
        }
        credentials(&headers)
    }

    #[test]
    fn only_one_bearer_token_counts() {
        assert_eq!(read(&[]), Credentials::None);
        let Credentials::Token(token) = read(&["Bearer abc.DEF-1_2~+/="]) else { panic!("it is one") };
        assert_eq!(token.header(), "Bearer abc.DEF-1_2~+/=");
        assert_eq!(read(&["bearer  abc.DEF-1_2~+/= "]), Credentials::Token(token));
        let long = format!("Bearer {}", "x".repeat(LONGEST + 1));
        for bad in
            ["", "Bearer", "Bearer ", "Bearer =", "Bearer a b", "Bearer a=b", "Basic YTpi", "abc", "Bearer é", &long]
        {
            assert_eq!(read(&[bad]), Credentials::Malformed, "{bad:?}");
        }
        assert_eq!(read(&["Bearer a", "Bearer a"]), Credentials::Malformed);
    }

    #[test]
    fn a_token_may_say_when_it_ends() {
        let end = |claims: &str| Token::of(&format!("e30.{}.c2ln", BASE64.encode(claims))).expect("a token").end();
        assert_eq!(end(r#"{"exp": 1700000000}"#), Some(1_700_000_000));
        assert_eq!(end(r#"{"exp": 1700000000.9}"#), Some(1_700_000_000));
        assert_eq!((end(r#"{"exp": 1e300}"#), end(r#"{"exp": -1}"#)), (Some(i64::MAX), Some(-1)));
        for silent in ["", "{", "[]", "5", "{}", r#"{"exp": "5"}"#, r#"{"exp": null}"#] {
            assert_eq!(end(silent), None, "{silent:?}");
        }
        for other in ["opaque", "a.b", "a.%", "..", "e30"] {
            assert_eq!(Token::of(other).and_then(|token| token.end()), None, "{other:?}");
        }
        let token = Token::of("abc.DEF-1_2~+/=").expect("a token");
        assert_eq!(
            (token.text(), token.header()),
            ("abc.DEF-1_2~+/=", HeaderValue::from_static("Bearer abc.DEF-1_2~+/="))
        );
    }

    #[test]
    fn tokens_are_not_shown() {
        let credentials = read(&["Bearer secret"]);
        assert!(!format!("{credentials:?}").contains("secret"));
        let Credentials::Token(token) = credentials else { panic!("it is one") };
        assert!(!format!("{:?}", token.header()).contains("secret"));
    }
}
