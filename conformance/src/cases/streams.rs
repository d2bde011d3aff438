//! Cases of `spec/streams.md`.

use crate::case::cases;

cases! {}
