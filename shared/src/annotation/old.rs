//! Annotations of the service before this one: what a row of its table comes to here.

use super::{ANONYMOUS, Annotation, BadText, TEXT_LIMIT, check};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The greatest number that the service before gave: its column was a `serial`.
pub const LAST_ID: i64 = i32::MAX as i64;

/// The longest name of an author and the longest uid that are read, in bytes.
pub const NAME_LIMIT: usize = 1024;

/// A text of a row, as far as it was read.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// How long it is in bytes; `None` where there is none.
    pub length: Option<i64>,
    /// The bytes, where they are no more than were to be read.
    pub bytes: Option<Vec<u8>>,
}

/// A row of the table, as others wrote it.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields are the table's columns")]
pub struct Row {
    pub id: Option<i64>,
    pub uid: Cell,
    pub annotation_text: Cell,
    pub user_principal_name: Cell,
    pub timestamp_created: Option<DateTime<Utc>>,
    pub timestamp_modified: Option<DateTime<Utc>>,
}

/// An annotation that can be kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The annotation, with the number that it had.
    pub annotation: Annotation,
    /// Whether it named no author: it is kept as [`ANONYMOUS`]'s, as one is that is written where nobody is known.
    pub without_author: bool,
    /// Whether it had no time: it is kept as of 1970-01-01, as a product's date is where none is known.
    pub without_time: bool,
}

/// Why a row is no annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Unusable {
    #[error("the id is missing, or none from 1 to {LAST_ID}")]
    Id,
    #[error("another row has the same id")]
    IdTwice,
    #[error("the uid is no UUID")]
    Uid,
    #[error("there is no text, or an empty one")]
    NoText,
    #[error("the text is longer than {TEXT_LIMIT} bytes")]
    TooLong,
    #[error("the text is no UTF-8")]
    NoUtf8,
    #[error("the author's name is longer than {NAME_LIMIT} bytes, or no UTF-8")]
    Author,
}

impl Row {
    /// What the row comes to.
    ///
    /// # Errors
    /// Why that is nothing.
    pub fn read(self) -> Result<Kept, Unusable> {
        let id = self.id.filter(|id| (1..=LAST_ID).contains(id)).ok_or(Unusable::Id)?;
        // The column was of a fixed length, and the uid is followed by blanks.
        let uid = self.uid.text().flatten().ok_or(Unusable::Uid)?;
        let uid: Uuid = uid.trim().parse().map_err(|_| Unusable::Uid)?;
        if self.annotation_text.length.is_some_and(|length| length > TEXT_LIMIT as i64) {
            return Err(Unusable::TooLong);
        }
        let text = self.annotation_text.text().ok_or(Unusable::NoUtf8)?.ok_or(Unusable::NoText)?;
        check(&text).map_err(|error| match error {
            BadText::TooLong => Unusable::TooLong,
            BadText::Empty | BadText::Nul => Unusable::NoText,
        })?;
        let author = self.user_principal_name.text().ok_or(Unusable::Author)?;
        let author = author.filter(|author| !author.trim().is_empty());
        let (without_author, author) = (author.is_none(), author.unwrap_or_else(|| ANONYMOUS.to_owned()));
        let (created, modified) = (self.timestamp_created, self.timestamp_modified);
        let known = created.or(modified);
        let created = known.unwrap_or(DateTime::UNIX_EPOCH);
        let annotation = Annotation {
            annotation_id: id,
            data_product_uid: uid,
            annotation_text: text,
            user_principal_name: author,
            timestamp_created: created,
            timestamp_modified: modified.unwrap_or(created),
        };
        Ok(Kept { annotation, without_author, without_time: known.is_none() })
    }
}

impl Cell {
    /// The text; nothing in it where there is none, and nothing at all where it was too long to be read or is no UTF-8.
    #[expect(clippy::option_option, reason = "no text is another thing than one that does not read")]
    fn text(&self) -> Option<Option<String>> {
        match (self.length, &self.bytes) {
            (None, _) => Some(None),
            (Some(_), Some(bytes)) => String::from_utf8(bytes.clone()).ok().map(Some),
            (Some(_), None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str) -> Cell {
        Cell { length: i64::try_from(text.len()).ok(), bytes: Some(text.into()) }
    }

    fn time(seconds: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(seconds, 0)
    }

    fn row() -> Row {
        Row {
            id: Some(7),
            // Blank-padded.
            uid: cell(&format!("{:64}", "6a11ddaa-6b45-6759-47e7-a5abd5105b0e")),
            annotation_text: cell("Ärger"),
            user_principal_name: cell("a@b"),
            timestamp_created: time(5),
            timestamp_modified: time(9),
        }
    }

    #[test]
    fn what_is_missing_is_kept_as_unknown() {
        let kept = row().read().expect("an annotation");
        assert_eq!(kept.annotation.annotation_id, 7);
        assert_eq!(kept.annotation.data_product_uid.to_string(), "6a11ddaa-6b45-6759-47e7-a5abd5105b0e");
        assert!(!kept.without_author && !kept.without_time);
        for (created, modified, expected) in [
            (time(5), None, (time(5), time(5), false)),
            (None, time(9), (time(9), time(9), false)),
            (None, None, (time(0), time(0), true)),
        ] {
            let kept = Row { timestamp_created: created, timestamp_modified: modified, ..row() }.read().expect("one");
            let own = &kept.annotation;
            let times = (Some(own.timestamp_created), Some(own.timestamp_modified), kept.without_time);
            assert_eq!(times, expected, "{created:?} {modified:?}");
        }
        for author in [Cell::default(), cell("  ")] {
            let kept = Row { user_principal_name: author, ..row() }.read().expect("one");
            assert!(kept.without_author && kept.annotation.user_principal_name == ANONYMOUS);
        }
    }

    #[test]
    fn what_is_no_annotation_says_why() {
        let long = |length: usize| Cell { length: i64::try_from(length).ok(), bytes: None };
        let broken = Cell { length: Some(1), bytes: Some(vec![0xff]) };
        for (row, why) in [
            (Row { id: None, ..row() }, Unusable::Id),
            (Row { id: Some(0), ..row() }, Unusable::Id),
            (Row { id: Some(LAST_ID + 1), ..row() }, Unusable::Id),
            (Row { uid: cell("eb-m005"), ..row() }, Unusable::Uid),
            (Row { uid: Cell::default(), ..row() }, Unusable::Uid),
            (Row { uid: long(5000), ..row() }, Unusable::Uid),
            (Row { uid: broken.clone(), ..row() }, Unusable::Uid),
            (Row { annotation_text: Cell::default(), ..row() }, Unusable::NoText),
            (Row { annotation_text: cell(" \n"), ..row() }, Unusable::NoText),
            (Row { annotation_text: long(TEXT_LIMIT + 1), ..row() }, Unusable::TooLong),
            (Row { annotation_text: broken.clone(), ..row() }, Unusable::NoUtf8),
            (Row { user_principal_name: broken.clone(), ..row() }, Unusable::Author),
            (Row { user_principal_name: long(NAME_LIMIT + 1), ..row() }, Unusable::Author),
        ] {
            assert_eq!(row.clone().read(), Err(why), "{row:?}");
        }
    }
}
