//! Measures a proxy: requests per second at keep-alive connections before an upstream that answers at once.
//!
//! ```text
//! load upstream 127.0.0.1:9001 60             an OpenAI-compatible server with one answer; ends after 60 s
//! load gateway  127.0.0.1:9002 60 http://127.0.0.1:9001/v1
//! load gateway-tee ...                        the same with OpenGradient's fields
//! load client   127.0.0.1:9002 64 10          64 connections for 10 s: requests/s, median and 99th percentile in ms
//! load proxy    127.0.0.1:9003 60 http://127.0.0.1:9002     what verifies the gateway, as `hallmark proxy` does
//! load latency  127.0.0.1:9002 127.0.0.1:9003 300           300 streams from each in turn: milliseconds to the first token,
//!                                             median and 99th percentile of the one, then of the other
//! load rsa      10                            RSA-2048 signatures/s on all cores
//! ```
//! `./x bench-gateway` makes a table of it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use hallmark_gateway::providers::{Client, Offer, Patience, Provider, openai};
use hallmark_gateway::proxy::{Behind, Sample};
use hallmark_gateway::{Gateway, NativeKey, Proxy, TeeKey};
use hallmark_receipt::{Alg, Certificate, Purpose, SecretKey, Signer as _};
use hallmark_verdict::Context;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const BODY: &str = r#"{"model":"m","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Write one sentence about the sea, please."}],"temperature":0.2,"max_tokens":64}"#;
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"The sea keeps its own time, and lends a little of it to whoever stands on the shore."},"finish_reason":"stop"}],"usage":{"prompt_tokens":21,"completion_tokens":19,"total_tokens":40}}"#;

/// What makes a request ask for a stream, and the words that it gets.
const STREAM: &str = r#""stream":true"#;
const WORDS: [&str; 8] = ["tide ", "by ", "tide, ", "the ", "sea ", "lends ", "its ", "time"];

/// As in the `hallmark` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Client and upstream take one thread each, so that they cost the server as little as they can.
    let mut runtime = match args.first() {
        Some(kind) if kind.starts_with("gateway") || kind == "proxy" => {
            tokio::runtime::Builder::new_multi_thread()
        }
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
        ["proxy", address, seconds, url] => {
            let listener = TcpListener::bind(address).await.unwrap();
            let keep = Box::new(|_: &_, _: &_| Ok(()));
            let gateways = [Behind { url: (*url).to_owned(), node: identity().public_key().id(), key: None }];
            let proxy = Proxy::new(&gateways, Context::default(), keep, Sample::default()).unwrap();
            proxy.serve(listener, tokio::time::sleep(secs(seconds))).await.unwrap();
        }
        ["latency", direct, proxy, rounds] => latency([direct, proxy], rounds.parse().unwrap()).await,
        ["client", address, connections, seconds] => {
            client(address, connections.parse().unwrap(), secs(seconds)).await;
        }
        ["rsa", seconds] => rsa(secs(seconds)),
        _ => panic!("load upstream|gateway|gateway-tee|proxy|latency|client|rsa ..."),
    }
}

fn secs(text: &str) -> Duration {
    Duration::from_secs(text.parse().unwrap())
}

fn identity() -> SecretKey {
    SecretKey::from_seed(Alg::Ed25519, &[1; 32]).unwrap()
}

fn gateway(url: &str, tee: bool) -> Gateway {
    let identity = identity();
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
            let answer = response("application/json", ANSWER);
            let chunk = |delta: &str, finish: &str| {
                format!(
                    "data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
                )
            };
            let words = WORDS.map(|word| chunk(&format!("{{\"content\":\"{word}\"}}"), "null")).concat();
            let events = words + &chunk("{}", "\"stop\"") + "data: [DONE]\n\n";
            let events = response("text/event-stream", &events);
            let mut buffer = Vec::new();
            while let Some(asked) = message(&mut stream, &mut buffer).await {
                let streams = asked.windows(STREAM.len()).any(|window| window == STREAM.as_bytes());
                stream.write_all(if streams { &events } else { &answer }).await.unwrap();
            }
        });
    }
}

fn response(kind: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn request(address: &str, body: &str) -> Vec<u8> {
    let path = "POST /v1/chat/completions HTTP/1.1";
    format!(
        "{path}\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
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
    let request = request(address, BODY);
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
                    stream.write_all(&request).await.unwrap();
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
    let (half, slow) = percentiles(&mut times);
    println!("{rate:.1} {half:.3} {slow:.3}");
}

/// Median and 99th percentile.
fn percentiles(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Asks each address in turn for a stream; tells how long the first word took.
async fn latency(addresses: [&str; 2], rounds: usize) {
    let body = BODY.replacen('{', &format!("{{{STREAM},"), 1);
    let mut streams = Vec::new();
    for address in addresses {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        streams.push((stream, request(address, &body), Vec::new()));
    }
    for _ in 0..rounds {
        for (stream, request, times) in &mut streams {
            let (asked, mut got) = (Instant::now(), Vec::new());
            stream.write_all(request).await.unwrap();
            let mut first = None;
            while !got.ends_with(b"\r\n0\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
                if first.is_none() && got.windows(WORDS[0].len()).any(|window| window == WORDS[0].as_bytes())
                {
                    first = Some(asked.elapsed().as_secs_f64() * 1000.0);
                }
            }
            assert!(got.windows(6).any(|window| window == b"[DONE]"), "{}", String::from_utf8_lossy(&got));
            times.push(first.unwrap());
        }
    }
    let [direct, proxy] = [0, 1].map(|index| percentiles(&mut streams[index].2));
    println!("{:.3} {:.3} {:.3} {:.3}", direct.0, direct.1, proxy.0, proxy.1);
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
