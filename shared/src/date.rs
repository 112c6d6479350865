//! Dates: the one inside an execution block's id, and those that clients write.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// The date of a product whose execution block names none: 1970-01-01.
pub fn unknown() -> NaiveDate {
    DateTime::UNIX_EPOCH.date_naive()
}

/// The date in the third dash-separated part of an execution block's id (`eb-m005-20231031-12345` → 2023-10-31), and
/// [`unknown`] where there is none or it is no date.
pub fn of_execution_block(id: &str) -> NaiveDate {
    id.split('-').nth(2).and_then(compact).unwrap_or_else(unknown)
}

/// Reads `yyyymmdd`, eight digits.
fn compact(text: &str) -> Option<NaiveDate> {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    NaiveDate::from_ymd_opt(text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?)
}

/// Reads `yyyy-mm-dd` with all its digits, as nearly all dates are written. Searches read thousands, and the library takes
/// twenty times as long.
fn plain(text: &str) -> Option<NaiveDate> {
    let [y, yy, yyy, yyyy, b'-', m, mm, b'-', d, dd] = *text.as_bytes() else { return None };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0, |all, digit| digit.is_ascii_digit().then(|| all * 10 + u32::from(digit - b'0')))
    };
    let year = i32::try_from(number(&[y, yy, yyy, yyyy])?).ok()?;
    NaiveDate::from_ymd_opt(year, number(&[m, mm])?, number(&[d, dd])?)
}

/// Reads a date as clients and metadata write it: `YYYY-MM-DD`, or a date and time of RFC 3339 with or without zone (the
/// grid sends the latter), of which the written date counts.
pub fn parse(text: &str) -> Option<NaiveDate> {
    let text = text.trim();
    if let Some(date) = plain(text) {
        return Some(date);
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .ok()
        .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|t| t.date_naive()))
        .or_else(|| local(text, "%Y-%m-%dT%H:%M:%S%.f"))
        // As texts are compared: in lower case.
        .or_else(|| local(text, "%Y-%m-%dt%H:%M:%S%.f"))
}

fn local(text: &str, format: &str) -> Option<NaiveDate> {
    NaiveDateTime::parse_from_str(text, format).ok().map(|time| time.date())
}

/// Writes a date as rows show it: `YYYY-MM-DD`.
pub fn format(date: NaiveDate) -> String {
    date.format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn execution_blocks_carry_a_date() {
        for (id, date) in [
            ("eb-m005-20231031-12345", "2023-10-31"),
            ("eb-m005-20240229-1", "2024-02-29"),
            ("eb-m005-20230229-1", "1970-01-01"),
            ("eb-m005-2023103-1", "1970-01-01"),
            ("eb-m005-+2023103-1", "1970-01-01"),
            ("eb-m005", "1970-01-01"),
            ("", "1970-01-01"),
            ("é-ü-２０２３１０３１", "1970-01-01"),
        ] {
            assert_eq!(format(of_execution_block(id)), date, "{id}");
        }
    }

    #[test]
    fn clients_write_dates_in_several_ways() {
        for text in [
            "2023-10-31",
            " 2023-10-31 ",
            "2023-10-31T00:00:00.000Z",
            "2023-10-31T23:59:59+02:00",
            "2023-10-31T01:02:03",
            "2023-10-31t01:02:03",
            "2023-10-31t00:00:00z",
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Some("2023-10-31"), "{text}");
        }
        for text in ["", "31-10-2023", "2023-13-01", "yesterday", "2023-10-31x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
