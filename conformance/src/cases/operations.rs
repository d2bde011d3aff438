//! Cases of `spec/operations.md`.

use crate::case::cases;

cases! {}
