//! Documents of the `/v1` surface and of the OpenAI-compatible endpoints.
//!
//! Lenient in, strict out: what is read accepts more than what is written. Schema names carry the prefix `V1` where `/api/v1` has a
//! document of the same name.

pub mod error;
pub mod gateway;
pub mod openai;
pub mod tenants;
