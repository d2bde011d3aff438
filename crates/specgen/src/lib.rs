//! The documents that describe a hub to other programs, made of the code: OpenAPI, JSON Schemas, the example configuration,
//! and the requirements of the specification as data.
//!
//! [`generated`] gives every generated file by its path in the repository; the hub serves those that are [`documents`]. Beside it stand the
//! rules that the documents must keep: [`lint`] (they are whole and can be read), [`openapi`] and [`schema`] (nothing that a client
//! relies on is taken away), [`proto`] (numbers keep their meaning), [`version`] (between
//! two releases it is that of the next one), [`coverage`] (every operation is exercised by a test). The
//! tests of this crate hold them; `cargo run -p xtask -- spec` writes the files.
//!
//! Knows `aiox-http`, `aiox-federation`, `aiox-config` and `aiox-model`, of each its documents only: nothing here needs a database or a network.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod canonical;
mod configuration;
pub mod coverage;
mod generate;
pub mod lint;
pub mod openapi;
pub mod proto;
mod requirements;
pub mod schema;
pub mod tree;
pub mod version;

pub use canonical::canonical;
pub use configuration::example;
pub use generate::{documents, federation, generated, node, schemas};
pub use requirements::requirements;
