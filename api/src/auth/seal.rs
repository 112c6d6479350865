//! Tokens sealed for the way through a browser: encrypted, so that nobody reads them, and authenticated, so that nobody makes
//! or changes one without the key.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

/// How many bytes a key has.
pub(super) const KEY: usize = 32;
/// What is sealed and in which form. It is authenticated as well: what the key may seal one day for something else, or in
/// another form, does not open as this.
const PURPOSE: &[u8] = b"dpd session cookie, form 1";
/// How many bytes a nonce has. It is long enough to be drawn at random, however many processes do so with one key.
const NONCE: usize = 24;
/// How many bytes the end has, which stands before the token.
const END: usize = 8;
/// The largest token that is unpacked, in bytes.
const LARGEST: usize = 64 * 1024;
/// How hard to try to make it small.
const LEVEL: i32 = 9;

/// A key that seals and opens.
#[derive(Clone)]
pub(super) struct Seal(XChaCha20Poly1305);

impl Seal {
    /// One with this key.
    pub(super) fn new(key: &[u8; KEY]) -> Seal {
        Seal(XChaCha20Poly1305::new(key.into()))
    }

    /// Seals a token that may be used until `end`, in seconds since 1970. The text is of letters, digits, `-` and `_`.
    pub(super) fn close(&self, token: &str, end: i64) -> Option<String> {
        let nonce = XNonce::try_generate().ok()?;
        let mut plain = end.to_be_bytes().to_vec();
        plain.extend(pack(token)?);
        let sealed = self.0.encrypt(&nonce, Payload { msg: &plain, aad: PURPOSE }).ok()?;
        Some(BASE64.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// What was sealed with this key and may still be used `now`; `None` for everything else.
    pub(super) fn open(&self, text: &str, now: i64) -> Option<String> {
        let bytes = BASE64.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let plain = self.0.decrypt(nonce.into(), Payload { msg: sealed, aad: PURPOSE }).ok()?;
        let (end, packed) = plain.split_first_chunk::<END>()?;
        if i64::from_be_bytes(*end) <= now { None } else { unpack(packed) }
    }
}

/// Makes a token small. Those of three parts in base 64, as most are, are mostly JSON that says much twice, which shows when
/// it is decoded.
fn pack(token: &str) -> Option<Vec<u8>> {
    let parts: Option<Vec<_>> = token.split('.').map(|part| BASE64.decode(part).ok()).collect();
    let decoded = parts.filter(|parts| join(parts.iter().map(|part| BASE64.encode(part))) == token);
    let bytes = match decoded {
        Some(parts) => {
            let mut bytes = vec![1];
            for part in parts {
                bytes.extend(u32::try_from(part.len()).ok()?.to_be_bytes());
                bytes.extend(part);
            }
            bytes
        }
        None => [&[0], token.as_bytes()].concat(),
    };
    zstd::bulk::compress(&bytes, LEVEL).ok()
}

/// What [`pack`] was given.
fn unpack(packed: &[u8]) -> Option<String> {
    let bytes = zstd::bulk::decompress(packed, LARGEST).ok()?;
    match bytes.split_first()? {
        (0, token) => String::from_utf8(token.to_vec()).ok(),
        (_, mut rest) => {
            let mut parts = Vec::new();
            while let Some((length, after)) = rest.split_first_chunk() {
                let (part, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
                parts.push(BASE64.encode(part));
                rest = after;
            }
            Some(join(parts))
        }
    }
}

fn join(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_until_its_end() {
        let seal = Seal::new(&[7; KEY]);
        let jwt = format!("{}.{}.{}", BASE64.encode(r#"{"alg":"RS256"}"#), BASE64.encode(r#"{"exp":5}"#), "c2ln");
        // The last ones look like base 64 but are not what that would be written as.
        for token in [jwt.as_str(), "opaque", "a", "a.b.c", "token-of_a~member", "..", "YQ==", "YR", "YR.YR.YR"] {
            let sealed = seal.close(token, 100).expect("sealed");
            assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{sealed}");
            assert_eq!(seal.open(&sealed, 99).as_deref(), Some(token));
            assert_eq!(seal.open(&sealed, 100), None, "{token}");
            // Nobody sees whether two are the same.
            assert_ne!(seal.close(token, 100), Some(sealed));
        }
    }

    #[test]
    fn nothing_else_opens() {
        let seal = Seal::new(&[7; KEY]);
        let sealed = seal.close("token", i64::MAX).expect("sealed");
        let bytes = BASE64.decode(&sealed).expect("base 64");
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(seal.open(&BASE64.encode(other), 0), None, "bit of byte {at}");
            assert_eq!(seal.open(&BASE64.encode(&bytes[..at]), 0), None, "the first {at} bytes");
        }
        for text in ["", "x", "é", "=", &sealed[1..], &format!("{sealed}A"), &format!("{sealed}==")] {
            assert_eq!(seal.open(text, 0), None, "{text:?}");
        }
        assert_eq!(Seal::new(&[8; KEY]).open(&sealed, 0), None);
        // The same key for something else.
        let nonce = XNonce::generate();
        let plain = [&i64::MAX.to_be_bytes()[..], &pack("token").expect("packed")].concat();
        let other = seal.0.encrypt(&nonce, Payload { msg: &plain, aad: b"something else" }).expect("sealed");
        assert_eq!(seal.open(&BASE64.encode([nonce.as_slice(), &other].concat()), 0), None);
    }

    #[test]
    fn usual_tokens_become_no_larger() {
        let groups: Vec<String> =
            (0..40).map(|n: u64| format!("{:016x}-0000-4000-8000", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let claims = format!(r#"{{"iss":"https://login.example.org/","exp":1,"groups":{groups:?}}}"#);
        let signature: Vec<u8> = (0..=255_u8).map(|n| n.wrapping_mul(97)).collect();
        let token =
            join([r#"{"alg":"RS256"}"#.as_bytes(), claims.as_bytes(), &signature].map(|part| BASE64.encode(part)));
        let sealed = Seal::new(&[7; KEY]).close(&token, 1).expect("sealed");
        assert!(sealed.len() < token.len(), "{} of {}", sealed.len(), token.len());
    }
}
