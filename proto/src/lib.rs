//! Generated code of the `.proto` files: messages, client and server of `worker.v1`.
//!
//! Knows nothing else of the system. To change a message, edit `proto/worker/v1/worker.proto` by
//! its extension rule (fields from 20, oneof members from 10, numbers never reused) and run
//! `cargo run -p xtask -- proto`; a test refuses code that is not current.

/// The protocol between a hub and its workers.
pub mod worker {
    /// Package `worker.v1`.
    #[expect(clippy::allow_attributes, reason = "the code generator writes attributes of its own")]
    pub mod v1 {
        include!("gen/worker.v1.rs");
    }
}

/// The newest worker protocol of this code.
pub const WORKER_PROTOCOL: u32 = 2;

mod confidential;
