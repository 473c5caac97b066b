//! Measures a proxy: requests per second at keep-alive connections before an upstream that answers at once.
//!
//! ```text
//! load upstream 127.0.0.1:9001 60             an OpenAI-compatible server with one answer; ends after 60 s
//! load gateway  127.0.0.1:9002 60 http://127.0.0.1:9001/v1
//! load gateway-tee ...                        the same with OpenGradient's fields
//! load client   127.0.0.1:9002 64 10          64 connections for 10 s: requests/s, median and 99th percentile in ms
//! load rsa      10                            RSA-2048 signatures/s on all cores
//! ```
//! `./x bench-gateway` makes a table of it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use hallmark_gateway::providers::{Client, Offer, Patience, Provider, openai};
use hallmark_gateway::{Gateway, NativeKey, TeeKey};
use hallmark_receipt::{Alg, Certificate, Purpose, SecretKey, Signer as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const BODY: &str = r#"{"model":"m","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Write one sentence about the sea, please."}],"temperature":0.2,"max_tokens":64}"#;
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"The sea keeps its own time, and lends a little of it to whoever stands on the shore."},"finish_reason":"stop"}],"usage":{"prompt_tokens":21,"completion_tokens":19,"total_tokens":40}}"#;

/// As in the `hallmark` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Client and upstream take one thread each, so that they cost the server as little as they can.
    let mut runtime = match args.first() {
        Some(kind) if kind.starts_with("gateway") => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    runtime.enable_all().build().unwrap().block_on(run(&args));
}

async fn run(args: &[String]) {
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["upstream", address, seconds] => {
            let listener = TcpListener::bind(address).await.unwrap();
            let _ = tokio::time::timeout(secs(seconds), upstream(listener)).await;
        }
        [kind @ ("gateway" | "gateway-tee"), address, seconds, url] => {
            let listener = TcpListener::bind(address).await.unwrap();
            gateway(url, *kind == "gateway-tee")
                .serve(listener, tokio::time::sleep(secs(seconds)))
                .await
                .unwrap();
        }
        ["client", address, connections, seconds] => {
            client(address, connections.parse().unwrap(), secs(seconds)).await;
        }
        ["rsa", seconds] => rsa(secs(seconds)),
        _ => panic!("load upstream|gateway|gateway-tee|client|rsa ..."),
    }
}

fn secs(text: &str) -> Duration {
    Duration::from_secs(text.parse().unwrap())
}

fn gateway(url: &str, tee: bool) -> Gateway {
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
    let mut builder = Gateway::builder("bench", certificate.sign(&identity).unwrap(), Arc::new(key))
        .backend(Arc::new(backend));
    if tee {
        builder = builder.opengradient(TeeKey::generate().unwrap());
    }
    builder.build().unwrap()
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

/// Reads one message with a content-length, and leaves what comes after in `buffer`.
async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let total = end + 4 + content_length(&buffer[..end]);
            while buffer.len() < total {
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            let rest = buffer.split_off(total);
            return Some(std::mem::replace(buffer, rest));
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        line.split_at_checked(NAME.len()).filter(|(name, _)| name.eq_ignore_ascii_case(NAME))
    });
    value.map_or(0, |(_, text)| std::str::from_utf8(text).unwrap().trim().parse().unwrap())
}

async fn client(address: &str, connections: usize, time: Duration) {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let started = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (address, request) = (address.to_owned(), request.clone());
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (mut buffer, mut times) = (Vec::new(), Vec::new());
                while started.elapsed() < time {
                    let asked = Instant::now();
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let answer = message(&mut stream, &mut buffer).await.unwrap();
                    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
                    times.push(asked.elapsed().as_secs_f64() * 1000.0);
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.append(&mut task.await.unwrap());
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    println!("{rate:.1} {:.3} {:.3}", times[times.len() / 2], times[times.len() * 99 / 100]);
}

/// How often RSA alone signs, on every core.
fn rsa(time: Duration) {
    let key = TeeKey::generate().unwrap();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    let count: usize = std::thread::scope(|scope| {
        let sign = || {
            let mut count = 0;
            while started.elapsed() < time {
                key.sign(BODY.as_bytes()).unwrap();
                count += 1;
            }
            count
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(sign)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{:.1}", count as f64 / started.elapsed().as_secs_f64());
}
