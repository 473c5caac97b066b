//! What a policy may ask of reports alone.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::flags::{GuestFlag, PlatformFlag};
use super::report::{Firmware, SigningKey};
use super::tcb::{MinimumTcb, Product};

/// What a policy may ask of reports alone (`attestation.md` §6.12). The default is what `genuine` asks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The products that it may run on.
    pub products: Vec<Product>,
    /// The kinds of key that may sign.
    pub keys: Vec<SigningKey>,
    /// The clouds whose VLEKs may sign; none allows any.
    pub vlek_providers: Vec<String>,
    /// Whether an author key must stand behind the guest's ID key.
    pub require_author_key: bool,
    /// The privilege levels that may ask for a report.
    pub vmpl: Vec<u32>,
    /// What the guest policy must say.
    pub require_guest_policy: Vec<GuestFlag>,
    /// What the guest policy must not say.
    pub forbid_guest_policy: Vec<GuestFlag>,
    /// The least ABI that the guest policy must ask for: major, minor.
    pub minimum_abi: [u8; 2],
    /// The guest's least security version number.
    pub minimum_guest_svn: u32,
    /// What the platform must have.
    pub require_platform: Vec<PlatformFlag>,
    /// What the platform must not have.
    pub forbid_platform: Vec<PlatformFlag>,
    /// The least security versions by product: reported, committed, and at launch. Once one is named, a product without is refused.
    pub minimum_tcb: BTreeMap<Product, MinimumTcb>,
    /// The least firmware that the platform is committed to: major, minor, build.
    pub minimum_firmware: Firmware,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            products: Product::ALL.to_vec(),
            keys: vec![SigningKey::Vcek, SigningKey::Vlek],
            vlek_providers: Vec::new(),
            require_author_key: false,
            vmpl: vec![0],
            require_guest_policy: Vec::new(),
            forbid_guest_policy: Vec::new(),
            minimum_abi: [0; 2],
            minimum_guest_svn: 0,
            require_platform: Vec::new(),
            forbid_platform: Vec::new(),
            minimum_tcb: BTreeMap::new(),
            minimum_firmware: [0; 3],
        }
    }
}
