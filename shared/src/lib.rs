//! The domain of the data product index, and the stores that hold it.
//!
//! Without features this crate is the **pure core**: bytes and values in, values out. What a product is
//! ([`product`]), how its metadata is read ([`yaml`]), how it is named ([`uid`], [`folder`]), who may see it
//! ([`access`]), and what a search means ([`filter`], [`query`]) are decided here and nowhere else, and can be tested
//! without a disk, a clock or a network. What searches read, columns of values, is made and read by [`segment`].
//!
//! The feature `service` adds what a running process needs around it: [`config`], [`clock`], [`telemetry`], the
//! [`volume`] and the [`store`]; `http` adds the [`server`] that accepts connections, and `postgres` the store in
//! PostgreSQL.

pub mod access;
pub mod annotation;
pub mod bounded;
pub mod column;
pub mod date;
pub mod dlm;
pub mod filter;
pub mod flow;
pub mod folder;
pub mod json;
pub mod label;
pub mod number;
pub mod product;
pub mod query;
pub mod row;
pub mod segment;
pub mod status;
pub mod terminal;
pub mod uid;
pub mod yaml;

#[cfg(feature = "service")]
pub mod clock;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
pub mod identity;
#[cfg(feature = "service")]
pub mod metrics;
#[cfg(feature = "service")]
pub mod process;
#[cfg(feature = "http")]
pub mod server;
#[cfg(feature = "service")]
pub mod store;
#[cfg(feature = "service")]
pub mod telemetry;
#[cfg(feature = "service")]
pub mod volume;
