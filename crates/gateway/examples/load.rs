//! Measures a proxy: requests per second at keep-alive connections before an upstream that answers at once.
//!
//! ```text
//! load upstream 127.0.0.1:9001 60             an OpenAI-compatible server with one answer; ends after 60 s
//! load gateway  127.0.0.1:9002 60 http://127.0.0.1:9001/v1
//! load client   127.0.0.1:9002 64 10          64 connections for 10 s
//! ```
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hallmark_gateway::providers::{Client, Offer, Patience, Provider, openai};
use hallmark_gateway::{Gateway, NativeKey};
use hallmark_receipt::{Alg, Certificate, Purpose, SecretKey, Signer as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const BODY: &str = r#"{"model":"m","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Write one sentence about the sea, please."}],"temperature":0.2,"max_tokens":64}"#;
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"The sea keeps its own time, and lends a little of it to whoever stands on the shore."},"finish_reason":"stop"}],"usage":{"prompt_tokens":21,"completion_tokens":19,"total_tokens":40}}"#;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["upstream", address, seconds] => {
            let listener = TcpListener::bind(address).await.unwrap();
            let _ = tokio::time::timeout(secs(seconds), upstream(listener)).await;
        }
        ["gateway", address, seconds, url] => {
            let listener = TcpListener::bind(address).await.unwrap();
            gateway(url).serve(listener, tokio::time::sleep(secs(seconds))).await.unwrap();
        }
        ["client", address, connections, seconds] => {
            client(address, connections.parse().unwrap(), secs(seconds)).await;
        }
        _ => panic!("load upstream|gateway|client ..."),
    }
}

fn secs(text: &str) -> Duration {
    Duration::from_secs(text.parse().unwrap())
}

fn gateway(url: &str) -> Gateway {
    let identity = SecretKey::from_seed(Alg::Ed25519, &[1; 32]).unwrap();
    let key = NativeKey::from_seed(&[2; 32]).unwrap();
    let certificate = Certificate {
        identity: identity.public_key(),
        key: key.public_key(),
        purpose: Purpose::Receipt,
        not_before: 0,
        not_after: 1 << 52,
    };
    let offers = vec![Offer { name: "m".into(), upstream: "m".into(), price: None }];
    let client = Arc::new(Client::new(Patience::default()).unwrap());
    let backend = Provider::new("local", &openai::SPEC, Some(url), None, offers, client).unwrap();
    Gateway::builder("bench", certificate.sign(&identity).unwrap(), Arc::new(key))
        .backend(Arc::new(backend))
        .build()
        .unwrap()
}

async fn upstream(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
                ANSWER.len()
            );
            let mut buffer = Vec::new();
            while message(&mut stream, &mut buffer).await.is_some() {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }
}

/// Reads one message with a content-length; gives its first line and leaves what comes after in `buffer`.
async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let total = end + 4 + length.map_or(0, |text| text.trim().parse::<usize>().unwrap());
            while buffer.len() < total {
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            buffer.drain(..total);
            return head.lines().next().map(str::to_owned);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn client(address: &str, connections: usize, time: Duration) {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let (count, slowest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (address, request) = (address.to_owned(), request.clone());
            let (count, slowest) = (count.clone(), slowest.clone());
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut buffer = Vec::new();
                while started.elapsed() < time {
                    let asked = Instant::now();
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let head = message(&mut stream, &mut buffer).await.unwrap();
                    assert!(head.contains(" 200 "), "{head}");
                    count.fetch_add(1, Relaxed);
                    slowest.fetch_max(u64::try_from(asked.elapsed().as_micros()).unwrap(), Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rate = count.load(Relaxed) as f64 / started.elapsed().as_secs_f64();
    println!("{rate:.0} requests/s, slowest {:.1} ms", slowest.load(Relaxed) as f64 / 1000.0);
}
