//! Makers' services on a loopback socket: they serve what the development provider makes, in the makers' own forms, or misbehave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hallmark_attestation::simulated::Form;
use hallmark_attestation::x509::{Certificate, CertificateId};
use hallmark_attestation::{Evidence, encoding};
use hallmark_receipt::wire::{from_hex, to_base64};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Act {
    /// With headers and a body, status 200.
    Serve(Vec<(&'static str, String)>, Vec<u8>),
    /// With a status and headers, without a body.
    Status(u16, Vec<(&'static str, String)>),
    /// Never.
    Silence,
    /// With half of a body, and then nothing.
    HalfThenSilence,
    /// With half of a body; then the connection closes.
    HalfThenClose,
    /// With a body that never ends.
    Endless,
    /// With a head that never ends.
    EndlessHead,
}

#[derive(Default)]
struct State {
    /// By what the path, or the body, begins with.
    acts: Vec<(Vec<u8>, Act)>,
    /// What is answered first, each once, whatever is asked for.
    first: Vec<Act>,
    /// How often each path was asked for.
    asked: HashMap<String, u32>,
}

/// A service.
#[derive(Clone)]
pub struct Maker {
    pub base: String,
    state: Arc<Mutex<State>>,
}

impl Maker {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let maker = Self { base, state: Arc::default() };
        let state = maker.state.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move { serve(socket, &state).await });
            }
        });
        maker
    }

    /// Answers what begins with `start` (a path, or the body of what is posted) so from now on.
    pub fn on(&self, start: impl AsRef<[u8]>, act: Act) {
        let mut state = self.state.lock().unwrap();
        let start = start.as_ref().to_vec();
        state.acts.retain(|(known, _)| *known != start);
        state.acts.push((start, act));
    }

    /// Answers the next requests so, whatever they ask for.
    pub fn first(&self, acts: Vec<Act>) {
        self.state.lock().unwrap().first = acts;
    }

    /// How often it was asked since the last time, in all.
    pub fn asked(&self) -> u32 {
        std::mem::take(&mut self.state.lock().unwrap().asked).into_values().sum()
    }

    /// Serves all that `evidence` of this form needs, as its maker does.
    pub fn publish(&self, form: Form, evidence: &Evidence) {
        let serve = |body: &[u8]| Act::Serve(Vec::new(), body.to_vec());
        match form {
            Form::TdxV4 | Form::TdxV5 | Form::Sgx => self.publish_intel(form, &evidence.collateral[0]),
            Form::Nvidia => {
                let chain: Vec<_> =
                    evidence.certificates.iter().map(|der| Certificate::parse(der).unwrap()).collect();
                for (pair, response) in chain[1..].windows(2).zip(&evidence.collateral) {
                    self.on(CertificateId::of(&pair[0], &pair[1]).request(), serve(response));
                }
            }
            Form::Nitro => {
                for (name, list) in ["instance", "zone", "region", "root"].iter().zip(&evidence.collateral) {
                    self.on(format!("/crl.simulated.invalid/nitro/{name}.crl"), serve(list));
                }
            }
            _ => {
                let (key, product) = match form {
                    Form::SnpV3 => ("vcek", "Genoa"),
                    Form::SnpV5 => ("vcek", "Turin"),
                    Form::SnpVlek => ("vlek", "Milan"),
                    _ => ("vcek", "Milan"),
                };
                let [leaf, intermediate, root] = &evidence.certificates[..] else {
                    panic!("a chain of three")
                };
                let base = format!("/{key}/v1/{product}/");
                self.on(format!("{base}cert_chain"), serve(pem(&[intermediate, root]).as_bytes()));
                self.on(format!("{base}crl"), serve(&evidence.collateral[0]));
                if key == "vcek" {
                    self.on(&base, serve(leaf));
                }
            }
        }
    }

    fn publish_intel(&self, form: Form, bundle: &[u8]) {
        let bundle: Value = serde_json::from_slice(bundle).unwrap();
        let text = |name: &str| bundle[name].as_str().unwrap().to_owned();
        let list = |name: &str| from_hex(&text(name)).unwrap();
        let chain = |name: &'static str, member: &str| {
            let encoded = text(member).replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
            vec![(name, encoded)]
        };
        let signed = |name: &str, member: &str| {
            let (text, signature) = (text(member), text(&format!("{member}_signature")));
            format!("{{\"{name}\":{text},\"signature\":\"{signature}\"}}").into_bytes()
        };
        let family = if form == Form::Sgx { "sgx" } else { "tdx" };
        self.on(
            "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            Act::Serve(chain("SGX-PCK-CRL-Issuer-Chain", "pck_crl_issuer_chain"), list("pck_crl")),
        );
        self.on("/IntelSGXRootCA.der", Act::Serve(Vec::new(), list("root_ca_crl")));
        self.on(
            format!("/{family}/certification/v4/tcb?fmspc=514D554C0000&update=standard"),
            Act::Serve(
                chain("TCB-Info-Issuer-Chain", "tcb_info_issuer_chain"),
                signed("tcbInfo", "tcb_info"),
            ),
        );
        self.on(
            format!("/{family}/certification/v4/qe/identity?update=standard"),
            Act::Serve(
                chain("SGX-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain"),
                signed("enclaveIdentity", "qe_identity"),
            ),
        );
    }
}

pub fn pem(certificates: &[&Vec<u8>]) -> String {
    let block = |der: &&Vec<u8>| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", to_base64(der))
    };
    let pem: String = certificates.iter().map(block).collect();
    assert_eq!(encoding::pem(&pem).unwrap().len(), certificates.len());
    pem
}

/// Reads requests and answers them until the other side has enough.
async fn serve(mut socket: TcpStream, state: &Mutex<State>) {
    while let Some((path, body)) = request(&mut socket).await {
        let act = {
            let mut state = state.lock().unwrap();
            *state.asked.entry(path.clone()).or_default() += 1;
            match state.first.is_empty() {
                false => state.first.remove(0),
                true => {
                    // The longest beginning counts.
                    let fits = |start: &&(Vec<u8>, Act)| {
                        path.as_bytes().starts_with(&start.0)
                            || (!body.is_empty() && body.starts_with(&start.0))
                    };
                    let best = state.acts.iter().filter(fits).max_by_key(|(start, _)| start.len());
                    best.map_or_else(|| Act::Status(404, Vec::new()), |(_, act)| act.clone())
                }
            }
        };
        if answer(&mut socket, act).await.is_none() {
            return;
        }
    }
}

/// The path with its query, and the body.
async fn request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.unwrap_or(0);
    while bytes.len() < end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    if length > 0 {
        assert!(head.contains("content-type: application/ocsp-request"), "{head}");
    }
    Some((head.split(' ').nth(1)?.to_owned(), bytes[end..].to_vec()))
}

/// None where the connection is over.
async fn answer(socket: &mut TcpStream, act: Act) -> Option<()> {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf";
    let head = |status: u16, headers: &[(&str, String)], length: usize| {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n").into_bytes()
    };
    match act {
        Act::Serve(headers, body) => {
            let head = head(200, &headers, body.len());
            socket.write_all(&[head, body].concat()).await.ok()
        }
        Act::Status(status, headers) => socket.write_all(&head(status, &headers, 0)).await.ok(),
        Act::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            None
        }
        Act::HalfThenSilence => {
            socket.write_all(half).await.ok()?;
            tokio::time::sleep(Duration::from_secs(60)).await;
            None
        }
        Act::HalfThenClose => {
            socket.write_all(half).await.ok()?;
            None
        }
        Act::Endless => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            loop {
                socket.write_all(&[b"1000\r\n", &[b'x'; 0x1000][..], b"\r\n"].concat()).await.ok()?;
            }
        }
        Act::EndlessHead => {
            socket.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.ok()?;
            loop {
                socket.write_all(&[b'x'; 0x1000]).await.ok()?;
            }
        }
    }
}
