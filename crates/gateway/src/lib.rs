//! The inference node: OpenAI's and Anthropic's wire formats over any [`Backend`], and a receipt with every answer.
//!
//! ```text
//! POST /v1/chat/completions  ->  x-hallmark-receipt: 7f3a..   x-hallmark-capability: uC4..
//! GET  /v1/receipts/7f3a..       x-hallmark-capability: uC4..  ->  the bundle with its openings, once
//! ```
//!
//! A receipt's claim commits, with salts, to two string tensors: `request` (the request's body in RFC 8785's form) and `response`
//! (the assistant's message in the same form). An answer from a provider is for a model that is only *claimed*: nobody outside can
//! hash its bytes. A stream's events are signed one by one (`spec/stream.md`).
//!
//! Nothing that a requester says is logged. Time and randomness come from a [`Host`].
//!
//! **What this crate does not do**: end TLS (a proxy or the caller's listener does), take payment, or judge receipts.

pub mod backend;
pub mod chat;
pub mod dialect;
pub mod error;
pub mod host;
pub mod json;
pub mod limits;
pub mod local;
pub mod metrics;
pub mod notary;
pub mod providers;
mod routes;
mod server;
pub mod signing;
mod sse;
pub mod store;
pub mod tee;

pub use backend::{Answer, Backend, BackendError, ModelCard, Price, Replay};
pub use chat::{ChatRequest, Delta};
pub use error::ApiError;
pub use host::{Host, System};
pub use limits::{ApiKey, Limits, Quota};
pub use server::{BuildError, Builder, Gateway};
pub use signing::{Key, NativeKey};
pub use store::{Capability, Filed, Folder, Memory, ReceiptStore};
pub use tee::TeeKey;
