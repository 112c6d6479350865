//! Faults that were met in the field, here and in other programs: one module an area, one short test a kind.

mod access;
mod database;
mod dlm;
mod download;
mod guards;
mod http;
mod pooler;
mod search;
mod settings;
mod volume;
