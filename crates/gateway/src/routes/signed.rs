//! Answers that come at once, signed to their last byte where the requester asks for it (`stream.md` §6).

use axum::response::Response;
use hallmark_receipt::Digest;
use hallmark_receipt::stream::{Preamble, Signer};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::{RECEIPT, SEAL, SIGN, STREAM, header, respond};
use crate::error::ApiError;
use crate::notary::{Notary, NotaryError, SessionKey, Ticket};

/// Whether the requester asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted(bool);

/// What will sign the answer, if anything does.
pub struct Seal(Option<(Signer<SessionKey>, Preamble)>);

impl Wanted {
    /// What the request's headers say.
    pub fn read(headers: &HeaderMap) -> Self {
        Self(header(headers, &SIGN) == Some("whole"))
    }

    /// Takes from the ticket what the signature needs.
    pub fn start(self, notary: &Notary, ticket: Option<&Ticket>) -> Result<Seal, ApiError> {
        let start = |ticket| notary.stream(ticket);
        Ok(Seal(ticket.filter(|_| self.0).map(start).transpose()?))
    }
}

impl Seal {
    /// The answer with its receipt's id, and its signature.
    pub fn respond(self, value: &Value, id: &Digest) -> Result<Response, ApiError> {
        let text = crate::json::text(value);
        let mut headers: Vec<(HeaderName, String)> = vec![(RECEIPT, id.to_string())];
        if let Some((signer, preamble)) = self.0 {
            let seal = signer.whole(text.as_bytes(), id).map_err(NotaryError::from)?;
            headers.extend([(STREAM, preamble.to_text()), (SEAL, seal)]);
        }
        let mut response = respond(StatusCode::OK, text);
        for (name, text) in headers {
            let value = HeaderValue::try_from(text).map_err(|_| ApiError::Receipt)?;
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }
}
