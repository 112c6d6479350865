//! The headers by which a client asks for a part: a part that is answered is a part of what there is.

use api::download::range::{Conditions, Decision, Validators, decide};

pub(crate) fn feed(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n').map(|line| (!line.is_empty()).then_some(line));
    let mut next = || lines.next().flatten();
    let conditions = Conditions {
        range: next(),
        if_range: next(),
        if_match: next(),
        if_none_match: next(),
        if_modified_since: next(),
        if_unmodified_since: next(),
    };
    let own = Validators::new("\"abc\"".to_owned(), 784_111_777_000_000_000);
    for total in [0, 1, 1000, u64::MAX] {
        match decide(&conditions, &own, total) {
            Decision::Part(first, last) => {
                assert!(first <= last && last < total, "{first}-{last} of {total}");
                assert!(conditions.range.is_some());
            }
            Decision::Unsatisfiable => assert!(conditions.range.is_some()),
            Decision::NotModified => {
                assert!(conditions.if_none_match.or(conditions.if_modified_since).is_some());
            }
            Decision::Failed => assert!(conditions.if_match.or(conditions.if_unmodified_since).is_some()),
            Decision::Whole => {}
        }
    }
}
