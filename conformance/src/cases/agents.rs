//! Cases of `spec/agents.md`.

use crate::case::cases;

cases! {}
