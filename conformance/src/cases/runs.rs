//! Cases of `spec/runs.md`.

use crate::case::cases;

cases! {}
