//! Cases of `spec/xmpp.md`.

use crate::case::cases;

cases! {}
