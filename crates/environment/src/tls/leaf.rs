//! Leaves (`attestation.md` §10.3): the certificate in which a key shows itself, and what of the other side's counts. TLS alone
//! proves that the other side has the key; whose it is, the exchange behind the handshake says.

use std::fmt;
use std::sync::Arc;

use hallmark_attestation::x509::encode::{
    bit_string, explicit, integer, key_usage, name, oid, sequence, time,
};
use hallmark_receipt::{Alg, PublicKey, SignError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureAlgorithm,
    SignatureScheme,
};

use crate::SharedSigner;

/// RFC 5280 §4.1.2.5: no end. How long a key counts, its evidence says.
const NO_END: u64 = 253_402_300_799;

/// Why a certificate is no leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// None, or more than one.
    #[error("{got} certificates, where one is due")]
    Count {
        /// How many.
        got: usize,
    },
    /// Not a certificate.
    #[error("not a certificate")]
    Form,
    /// A key of another kind or encoding.
    #[error("the certificate's key: {0}")]
    Key(#[from] hallmark_receipt::keys::KeyError),
}

/// The key of the one certificate that the other side shows.
pub fn key(certificates: Option<&[CertificateDer<'_>]>) -> Result<PublicKey, LeafError> {
    let [leaf] = certificates.unwrap_or_default() else {
        return Err(LeafError::Count { got: certificates.map_or(0, <[_]>::len) });
    };
    let leaf = ParsedCertificate::try_from(leaf).map_err(|_| LeafError::Form)?;
    Ok(PublicKey::from_spki(&leaf.subject_public_key_info())?)
}

/// What shows `signer`'s key in TLS.
pub fn resolver(signer: SharedSigner) -> Result<Arc<SingleCertAndKey>, SignError> {
    let key = Key { public: signer.public_key(), signer };
    let certificate = CertificateDer::from(certificate(&key)?);
    Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], Arc::new(key)))))
}

/// The key's certificate, signed by itself. The same key of Ed25519 always has the same one.
fn certificate(key: &Key) -> Result<Vec<u8>, SignError> {
    let algorithm = sequence(&[oid(match key.public.alg() {
        Alg::P256 => "1.2.840.10045.4.3.2",
        // The lists of algorithms grow together; `Key::choose_scheme` offers nothing for another one.
        _ => "1.3.101.112",
    })]);
    let name = name("hallmark attested");
    let id = key.public.id();
    let serial: Vec<u8> = std::iter::once(1).chain(id.0.as_bytes().iter().copied().take(15)).collect();
    let tbs = sequence(&[
        explicit(0, &integer(&[2])),
        integer(&serial),
        algorithm.clone(),
        name.clone(),
        sequence(&[time(0), time(NO_END)]),
        name,
        key.public.to_spki(),
        explicit(3, &sequence(&[key_usage(0x80)])),
    ]);
    let signature = key.signature(&tbs)?;
    Ok(sequence(&[tbs, algorithm, bit_string(&signature)]))
}

/// A key that signs handshakes, wherever its private half lives.
#[derive(Clone)]
struct Key {
    signer: SharedSigner,
    public: PublicKey,
}

impl Key {
    /// In the form that certificates and TLS have: of P-256 `ECDSA-Sig-Value` (RFC 5480 §A), DER.
    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self.signer.sign(message)?;
        Ok(match (self.public.alg(), signature.split_at_checked(32)) {
            (Alg::P256, Some((r, s))) => sequence(&[integer(r), integer(s)]),
            _ => signature,
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.public)
    }
}

impl rustls::sign::SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let scheme = rustls::sign::Signer::scheme(self);
        offered.contains(&scheme).then(|| Box::new(self.clone()) as Box<_>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.public.alg() {
            Alg::P256 => SignatureAlgorithm::ECDSA,
            _ => SignatureAlgorithm::ED25519,
        }
    }
}

impl rustls::sign::Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.signature(message).map_err(|error| Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        match self.public.alg() {
            Alg::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            _ => SignatureScheme::ED25519,
        }
    }
}

/// The cryptography of both sides: TLS 1.3's, and keys that are agreed upon with ML-KEM first.
pub fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

/// Takes any leaf whose key signed the handshake, for the time being: nothing is given to the other side, or taken from it, until
/// its presentation was accepted.
#[derive(Debug)]
pub struct Provisional(pub Arc<CryptoProvider>);

impl Provisional {
    fn leaf(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !others.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        key(Some(std::slice::from_ref(leaf)))
            .map(|_| ())
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.0.signature_verification_algorithms)
    }
}

const SCHEMES: [SignatureScheme; 2] = [SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];
const NOT_13: Error = Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13);

impl ServerCertVerifier for Provisional {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::leaf(leaf, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NOT_13)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for Provisional {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::leaf(leaf, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NOT_13)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}
