//! The wall clock, read here and nowhere else.

use chrono::{DateTime, Utc};

/// The time now.
#[expect(clippy::disallowed_methods, reason = "this is the clock's home")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
