//! Cases of `spec/tenancy.md`.

use crate::case::cases;

cases! {}
