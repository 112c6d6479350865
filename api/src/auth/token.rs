//! The `Authorization` header, as RFC 6750 has it.

use sha2::{Digest, Sha256};
use warp::http::{HeaderMap, HeaderValue, header};

/// The longest token, in bytes.
const LONGEST: usize = 8 * 1024;

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
    /// The header's value that carries it.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// What answers about it are kept under: it cannot be turned back into a token.
    pub(super) fn digest(&self) -> [u8; 32] {
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
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
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
    fn tokens_are_not_shown() {
        let credentials = read(&["Bearer secret"]);
        assert!(!format!("{credentials:?}").contains("secret"));
        let Credentials::Token(token) = credentials else { panic!("it is one") };
        assert!(!format!("{:?}", token.header()).contains("secret"));
    }
}
