//! The judge against forgeries, edits of form, redaction, and the shared vectors.

mod fixture;
mod forgery;
mod form;
mod judgement;
mod privacy;
mod resigned;
