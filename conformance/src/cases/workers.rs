//! Cases of `spec/workers.md`.

use crate::case::cases;

cases! {}
