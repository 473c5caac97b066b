//! The judge against forgeries, edits of form, redaction, and the shared vectors.

// The helpers of tests may stop a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fixture;
mod forgery;
mod form;
mod hardware;
mod judgement;
mod privacy;
mod proof;
mod resigned;
mod streams;
mod vectors;
