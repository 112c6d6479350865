//! The faults of the service before this one that are known, as reasons why answers differ.

/// Why answers differ, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fault {
    /// A file that was removed stays in its lists.
    Gone,
    /// One that was added is not noticed.
    New,
    /// One that was edited is not read again.
    Edited,
    /// Of products with the same metadata it has one.
    Identical,
    /// It knows the product, and its lists leave it out.
    Unlisted,
    /// `%` and `_` in a value.
    Wildcards,
    /// A filter by annotation.
    AnnotationFilter,
    /// A failure that was none when it was asked again.
    Busy,
    /// A field that a search has to have seen before it can be filtered by.
    UnseenField,
    /// Columns of products that the caller may not see.
    GuardedColumns,
    /// It has no `HEAD` of archives.
    NoSizes,
    /// Archives that end on a whole block of tar's.
    Blocks,
    /// Times without a zone.
    Zone,
    /// What has no author or time is shown with one here.
    Unknown,
    /// Values that JSON does not hold.
    Texts,
    /// What only one of them has, or has in another version, was found by one of them alone.
    Products,
}

impl Fault {
    /// For people, and for programs to tell it by.
    pub(super) fn words(self) -> &'static str {
        match self {
            Fault::Gone => "the old one lists removed products until it is restarted",
            Fault::New => "the old one notices new products at its next index only",
            Fault::Edited => "the old one reads edited files at its next index only",
            Fault::Identical => "the old one keeps one of products with the same metadata",
            Fault::Unlisted => "the old one has it, and lists it not: its limit comes before the access rule",
            Fault::Wildcards => "% and _ are wildcards in the old one",
            Fault::AnnotationFilter => "the old one fails at a filter by annotation",
            Fault::Busy => "the old one failed, and did not when it was asked again",
            Fault::UnseenField => "the old one ignores a filter by a field that no search has seen",
            Fault::GuardedColumns => "the old one has columns of products that the caller may not see",
            Fault::NoSizes => "the old one does not tell sizes of archives",
            Fault::Blocks => "the old one fills archives up to 10 KiB",
            Fault::Zone => "the old one's times have no zone",
            Fault::Unknown => "what has no author or time is shown as anonymous's, or of 1970-01-01",
            Fault::Texts => "dates, .nan and numbers that JSON cannot hold keep their text in the new one",
            Fault::Products => "it follows from products that only one has, or has in another version",
        }
    }
}
