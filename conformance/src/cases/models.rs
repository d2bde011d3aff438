//! Cases of `spec/models.md`.

use crate::case::cases;

cases! {}
