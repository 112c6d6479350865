//! Annotations: texts that people add to products. They hang on the product's uid and outlive its absence.

pub mod old;

use crate::status::as_time;
use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

/// Whose annotations are where nobody is known.
pub const ANONYMOUS: &str = "anonymous";

/// The longest text, in bytes.
pub const TEXT_LIMIT: usize = 64 * 1024;

/// Why a text cannot be an annotation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// It is longer than [`TEXT_LIMIT`].
    #[error("is longer than {TEXT_LIMIT} bytes")]
    TooLong,
    /// It has a character that PostgreSQL's text cannot hold.
    #[error("must not contain U+0000")]
    Nul,
}

/// Holds that a text can be an annotation's.
///
/// # Errors
/// Why it cannot.
pub fn check(text: &str) -> Result<(), BadText> {
    match () {
        () if text.trim().is_empty() => Err(BadText::Empty),
        () if text.len() > TEXT_LIMIT => Err(BadText::TooLong),
        () if text.contains('\0') => Err(BadText::Nul),
        () => Ok(()),
    }
}

/// An annotation, as the contract names its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the contract's")]
pub struct Annotation {
    pub annotation_id: i64,
    pub data_product_uid: Uuid,
    pub annotation_text: String,
    pub user_principal_name: String,
    #[serde(serialize_with = "as_time")]
    pub timestamp_created: DateTime<Utc>,
    #[serde(serialize_with = "as_time")]
    pub timestamp_modified: DateTime<Utc>,
}

/// Some of a product's annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The annotations, oldest first.
    pub annotations: Vec<Annotation>,
    /// Whether none comes after them.
    pub is_last: bool,
}

/// A text that somebody writes to a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The product.
    pub product: Uuid,
    /// The text, not empty and without U+0000.
    pub text: String,
    /// Who writes.
    pub author: String,
}

/// What became of the revision of an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Revision {
    Done,
    Unknown,
    NotTheAuthor,
}
