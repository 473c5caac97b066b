//! Counts for `/metrics`, in Prometheus's text form. No label comes from a requester.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the answer times, in milliseconds.
const BOUNDS: [u64; 10] = [5, 20, 50, 100, 250, 500, 1000, 5000, 30_000, 120_000];

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident: $kind:literal,)*) => {
        /// What a gateway counts.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $doc])* pub $name: AtomicU64,)*
            /// Answers by time, one bucket a bound and one beyond.
            times: [AtomicU64; BOUNDS.len() + 1],
            time_sum: AtomicU64,
        }

        impl Metrics {
            fn rows(&self) -> Vec<(&'static str, &'static str, String, u64)> {
                vec![$((stringify!($name), $kind, concat!($($doc),*).trim().to_owned(), self.$name.load(Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Requests that came in.
    requests_total: "counter",
    /// Requests that were answered in full.
    answers_total: "counter",
    /// Requests refused as the requester's fault (4xx).
    refused_total: "counter",
    /// Requests that failed as the node's or a provider's fault (5xx).
    failed_total: "counter",
    /// Answers that the client did not wait for, or that broke off.
    broken_total: "counter",
    /// Receipts issued.
    receipts_total: "counter",
    /// Signed events of streams.
    stream_events_total: "counter",
    /// Tokens of requests.
    input_tokens_total: "counter",
    /// Tokens of answers.
    output_tokens_total: "counter",
    /// Answers being made now.
    answers_running: "gauge",
    /// Open connections.
    connections: "gauge",
}

impl Metrics {
    /// Counts a request that got no answer: the requester's fault or not, by its status.
    pub fn refused(&self, status: http::StatusCode) {
        let count = if status.is_client_error() { &self.refused_total } else { &self.failed_total };
        count.fetch_add(1, Relaxed);
    }

    /// Counts an answer that took this long.
    pub fn answered(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let at = BOUNDS.iter().position(|bound| millis <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.times.get(at) {
            bucket.fetch_add(1, Relaxed);
        }
        self.time_sum.fetch_add(millis, Relaxed);
        self.answers_total.fetch_add(1, Relaxed);
    }

    /// The page.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail, here and below.
        for (name, kind, help, value) in self.rows() {
            let name = format!("hallmark_gateway_{name}");
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
        let name = "hallmark_gateway_answer_seconds";
        let _ = write!(
            out,
            "# HELP {name} Time from request to the end of the answer.\n# TYPE {name} histogram\n"
        );
        let mut count = 0;
        for (index, bucket) in self.times.iter().enumerate() {
            count += bucket.load(Relaxed);
            let bound =
                BOUNDS.get(index).map_or("+Inf".to_owned(), |bound| (*bound as f64 / 1000.0).to_string());
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = self.time_sum.load(Relaxed) as f64 / 1000.0;
        let _ = write!(out, "{name}_sum {sum}\n{name}_count {count}\n");
        out
    }
}
