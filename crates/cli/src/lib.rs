//! The command line of Hallmark.
