//! Cases of `spec/policy.md`.

use crate::case::cases;

cases! {}
