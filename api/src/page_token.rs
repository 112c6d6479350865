//! Where a page ended, for the client to carry: whichever process is asked for the next one begins it there.
//!
//! A token is a place in an order and nothing secret: its last row was shown, and whoever sends it is answered what he may see.

use crate::error::{ApiError, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use shared::query::{Page, Place, Query};

/// The name in a request's body.
const NAME: &str = "pageToken";
/// The longest token that is given, in bytes: what a page is sorted by may be long, and is sent back with each request.
const LONGEST: usize = 4096;

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    /// What the request asked for, but for the page.
    search: u64,
    /// The page that begins after the place.
    page: usize,
    place: Place,
}

impl Token {
    /// The text of the one for what follows a place, with which a page of this [`search`] ended; `None` where it would be too
    /// long.
    pub(crate) fn of(search: u64, page: usize, place: &Place) -> Option<String> {
        let token = Token { search, page, place: place.clone() };
        let text = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).ok()?);
        (text.len() <= LONGEST).then_some(text)
    }

    /// The one in a body.
    ///
    /// # Errors
    /// Where it is none of ours, or one of another search.
    pub(crate) fn read(body: &Value, query: &Query) -> Result<Option<Token>> {
        let bad = |why: &str| ApiError::BadRequest(format!("{NAME} {why}. Ask without it for the first page."));
        let Some(search) = search(body) else { return Ok(None) };
        let text = match body.get(NAME) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(_) => return Err(bad("must be a string")),
        };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let token = bytes.and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok());
        let token = token.ok_or_else(|| bad("is none that was given here"))?;
        if token.search != search || token.place.values.len() != query.sort.len() {
            return Err(bad("is of a request with another filter, order or page size"));
        }
        Ok(Some(token))
    }

    /// Lets a query begin at the place, or as many pages after it as asked for; at the next one where the body names none.
    /// Pages before it are counted off.
    pub(crate) fn follow_on(self, body: &Value, page: &mut Page, query: &mut Query) {
        if body.get("page").is_none_or(Value::is_null) {
            page.page = self.page;
        }
        if let Some(after) = page.page.checked_sub(self.page) {
            query.after = Some(self.place);
            query.offset = after.saturating_mul(page.page_size);
        }
    }
}

/// What a request asks for, but for the page: the same in all processes and versions. `None` where it has no fields.
pub(crate) fn search(body: &Value) -> Option<u64> {
    let mut hash = Sha256::new();
    for (name, value) in body.as_object()?.iter().filter(|(name, _)| ![NAME, "page"].contains(&name.as_str())) {
        hash.update(format!("{}:{value},", Value::from(name.as_str())));
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    Some(u64::from_le_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use shared::filter::grid;
    use shared::number::Number;
    use shared::query::SortValue;

    fn asked(body: &Value) -> Result<(usize, Option<Place>, usize)> {
        let (mut query, mut page) = grid::parse(body).expect("a filter");
        if let Some(token) = Token::read(body, &query)? {
            token.follow_on(body, &mut page, &mut query);
        }
        Ok((page.page, query.after, query.offset))
    }

    #[test]
    fn a_token_leads_to_the_pages_after_it() {
        let body =
            json!({"pageSize": 10, "sortModel": [{"field": "a", "sort": "asc"}, {"field": "b", "sort": "desc"}]});
        let number = Number::of(&json!(0.1 + 0.2)).expect("a number");
        let place = Place {
            values: vec![Some(SortValue::Number(number)), Some(SortValue::Text("\u{e4}\"".to_owned()))],
            date_created: Default::default(),
            uid: Default::default(),
        };
        let token = Token::of(search(&body).expect("a search"), 3, &place).expect("a token");
        let with = |page: Value, token: &str| {
            let mut body = body.clone();
            (body["page"], body["pageToken"]) = (page, json!(token));
            body
        };
        for (page, expected) in [
            (json!(null), (3, Some(place.clone()), 0)),
            (json!(3), (3, Some(place.clone()), 0)),
            (json!(5), (5, Some(place.clone()), 20)),
            (json!(2), (2, None, 20)),
            (json!(0), (0, None, 0)),
        ] {
            assert_eq!(asked(&with(page.clone(), &token)).expect("a page"), expected, "{page}");
        }
        for mut bad in [with(json!(3), "no token"), with(json!(3), ""), with(json!(3), &token[..20])] {
            assert!(matches!(asked(&bad), Err(ApiError::BadRequest(_))), "{bad}");
            bad["pageToken"] = json!(5);
            assert!(asked(&bad).is_err());
        }
        let mut other = with(json!(3), &token);
        other["pageSize"] = json!(11);
        assert!(matches!(asked(&other), Err(ApiError::BadRequest(why)) if why.contains("another filter")));
        let long = Place { values: vec![Some(SortValue::Text("x".repeat(LONGEST)))], ..place };
        assert_eq!(Token::of(search(&body).expect("a search"), 3, &long), None);
    }
}
