//! Faults that were found in use, here or in other systems of the kind. None may come back. One module an area.

mod access;
//! Faults that were met in the field: one short test each, one module an area.

mod download;
//! Faults that were found in use, here or in others' programs: one module an area, one short test a kind.

mod http;
//! Faults that were met in the field, by kind: each is here so that it does not come back.

mod database;
mod pooler;
mod settings;
//! Faults that were found in the field, each kind with a short test of its right value.

mod dlm;
mod search;
//! Faults that were met in the field, each with the smallest input that shows it: they stay mended.

mod volume;
