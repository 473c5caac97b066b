//! The digest suite for WebAssembly: `digest()` gives the address of 65 bytes, a status (0: fine) and 64 hexadecimal digits.
//! `scripts/digest-wasm.mjs` calls it.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A tool of the tests with one exported symbol.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "digest/decoders.rs"]
mod decoders;
#[path = "../tests/decoder/fixture.rs"]
#[allow(dead_code)] // The decoder's own tests use more of it.
mod fixture;
#[path = "digest/suite.rs"]
mod suite;

/// The suite's digest on the portable path.
// SAFETY: no other symbol of this module has the name.
#[unsafe(no_mangle)]
pub extern "C" fn digest() -> *const u8 {
    let text = match suite::digest(hallmark_engine::Isa::Portable, 1) {
        Ok(digest) => format!("0{digest}"),
        Err(why) => format!("1{why:64.64}"),
    };
    text.into_bytes().leak().as_ptr()
}
