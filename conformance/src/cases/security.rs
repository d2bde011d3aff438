//! Cases of `spec/security.md`.

use crate::case::cases;

cases! {}
