//! The REST door: `/api/v1`, `/v1`, health and metrics.
//!
//! A handler reads the request, calls one use case and maps its answer; nothing is decided here. Every request passes
//! [`context`] (correlation id, client address, security headers, the one error body, metrics), then its group's gate.
//! Knows `aiox-app`; knows no other door.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod address;
mod auth;
mod bound;
mod context;
mod documented;
mod error;
mod frames;
mod names;
pub mod openapi;
mod plain;
pub mod published;
mod read;
mod routes;
mod shape;
mod shown;
mod state;
mod v1;
mod verbs;

pub use address::{Network, NetworkError};
pub use bound::MOST as MOST_STREAMS;
pub use routes::{openapi as operations, router, router_with};
pub use state::{Check, Health, HttpOptions, HttpState, Standing, V1Options};
pub use v1::Service;
