//! What a quote reports: an enclave (SGX) or a trust domain (TDX), as Intel's `sgx_report.h` and `sgx_quote_5.h` lay them out.

use hallmark_receipt::json::{Object, Value};
use hallmark_receipt::wire::to_hex;
use serde::Deserialize;

use crate::bytes::Bytes;
use crate::measurement::{Measurements, Register};

/// The report of an enclave: 384 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclaveReport<'a> {
    /// All of it: what a report's signature is over.
    pub bytes: &'a [u8; EnclaveReport::LENGTH],
    /// The processor's security versions, as the hardware has them.
    pub cpu_svn: &'a [u8; 16],
    /// What is saved when the enclave is left.
    pub misc_select: u32,
    /// The enclave's extended product.
    pub isv_ext_prod_id: &'a [u8; 16],
    /// Flags (8 bytes) and XFRM (8 bytes).
    pub attributes: &'a [u8; 16],
    /// What was loaded.
    pub mr_enclave: &'a [u8; 32],
    /// SHA-256 of the key that signed the enclave.
    pub mr_signer: &'a [u8; 32],
    /// Configuration that the loader named.
    pub config_id: &'a [u8; 64],
    /// The signer's product.
    pub isv_prod_id: u16,
    /// The product's security version.
    pub isv_svn: u16,
    /// The configuration's security version.
    pub config_svn: u16,
    /// The signer's family of products.
    pub isv_family_id: &'a [u8; 16],
    /// What the enclave binds itself to.
    pub report_data: &'a [u8; 64],
}

impl<'a> EnclaveReport<'a> {
    /// Its length in bytes.
    pub const LENGTH: usize = 384;

    /// Reads a report. Its reserved bytes are signed, and may come to mean something.
    pub(super) fn read(bytes: &'a [u8; EnclaveReport::LENGTH]) -> Option<Self> {
        let mut reader = Bytes(bytes);
        let cpu_svn = reader.array()?;
        let misc_select = reader.u32()?;
        reader.take(12)?;
        let isv_ext_prod_id = reader.array()?;
        let attributes = reader.array()?;
        let mr_enclave = reader.array()?;
        reader.take(32)?;
        let mr_signer = reader.array()?;
        reader.take(32)?;
        let config_id = reader.array()?;
        let isv_prod_id = reader.u16()?;
        let isv_svn = reader.u16()?;
        let config_svn = reader.u16()?;
        reader.take(42)?;
        let isv_family_id = reader.array()?;
        Some(Self {
            bytes,
            cpu_svn,
            misc_select,
            isv_ext_prod_id,
            attributes,
            mr_enclave,
            mr_signer,
            config_id,
            isv_prod_id,
            isv_svn,
            config_svn,
            isv_family_id,
            report_data: reader.array()?,
        })
    }

    /// The flags among the attributes.
    pub fn flags(&self) -> u64 {
        low(self.attributes)
    }

    /// Whether its memory can be read from outside.
    pub fn is_debug(&self) -> bool {
        self.flags() & 2 != 0
    }

    /// Every field, decoded.
    pub fn fields(&self) -> Object {
        let flags = names(self.flags(), ENCLAVE_FLAGS.iter().copied());
        let numbers = [
            ("misc_select", u64::from(self.misc_select)),
            ("isv_prod_id", self.isv_prod_id.into()),
            ("isv_svn", self.isv_svn.into()),
            ("config_svn", self.config_svn.into()),
        ];
        let bytes: [(&str, &[u8]); 9] = [
            ("cpu_svn", self.cpu_svn),
            ("isv_ext_prod_id", self.isv_ext_prod_id),
            ("attributes", self.attributes),
            ("mr_enclave", self.mr_enclave),
            ("mr_signer", self.mr_signer),
            ("config_id", self.config_id),
            ("isv_family_id", self.isv_family_id),
            ("report_data", self.report_data),
            ("xfrm", self.attributes.get(8..).unwrap_or_default()),
        ];
        fields(&bytes, &numbers, [("flags", flags)])
    }

    /// What runs.
    pub fn measurements(&self) -> Measurements {
        Measurements::from([
            (Register::MrEnclave, self.mr_enclave.to_vec()),
            (Register::MrSigner, self.mr_signer.to_vec()),
            (Register::IsvProdId, self.isv_prod_id.to_be_bytes().to_vec()),
            (Register::ConfigId, self.config_id.to_vec()),
        ])
    }
}

/// The report of a trust domain: 584 bytes (TDX 1.0), 648 (1.5) or 885 (1.5, extended).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdReport<'a> {
    /// Security versions of the TDX module (0: its own, 1: its major version) and of what it stands on, at launch.
    pub tee_tcb_svn: &'a [u8; 16],
    /// The TDX module.
    pub mr_seam: &'a [u8; 48],
    /// Its signer; zero for Intel's.
    pub mr_signer_seam: &'a [u8; 48],
    /// Its attributes.
    pub seam_attributes: &'a [u8; 8],
    /// The trust domain's attributes: [`TdAttribute`].
    pub td_attributes: u64,
    /// Which extended features of the processor it may use.
    pub xfam: u64,
    /// What was loaded at first: its firmware.
    pub mr_td: &'a [u8; 48],
    /// Configuration that its owner named.
    pub mr_config_id: &'a [u8; 48],
    /// Its owner.
    pub mr_owner: &'a [u8; 48],
    /// The owner's own configuration.
    pub mr_owner_config: &'a [u8; 48],
    /// What was measured at run time.
    pub rtmr: [&'a [u8; 48]; 4],
    /// What the trust domain binds itself to.
    pub report_data: &'a [u8; 64],
    /// TDX 1.5 and later.
    pub v15: Option<Td15<'a>>,
}

/// What TDX 1.5 adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Td15<'a> {
    /// The security versions now, after updates that trust domains survived.
    pub tee_tcb_svn2: &'a [u8; 16],
    /// The service trust domains that are bound to it; zero: none.
    pub mr_service_td: &'a [u8; 48],
    /// The extended body.
    pub extended: Option<Td15Extended<'a>>,
}

/// What the extended body of TDX 1.5 adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Td15Extended<'a> {
    /// Which virtual machine of a partitioned trust domain asked; 0: the only one, or the first level.
    pub vm_id: u8,
    /// The instance.
    pub td_id: &'a [u8; 32],
    /// Digest of what devices are attached.
    pub device_info: &'a [u8; 48],
    /// Service trust domains bound at creation.
    pub init_service_td_hash: &'a [u8; 48],
    /// Their attributes.
    pub init_service_td_attributes: &'a [u8; 8],
    /// The processor's security versions at creation.
    pub init_cpu_svn: &'a [u8; 16],
    /// The TDX module's security versions at creation.
    pub init_tee_tcb_svn: &'a [u8; 16],
    /// The platform that it was created on.
    pub init_tee_fmspc: &'a [u8; 12],
    /// Service trust domains bound now.
    pub service_td_hash: &'a [u8; 48],
    /// Their attributes.
    pub service_td_attributes: &'a [u8; 8],
}

impl<'a> TdReport<'a> {
    /// Length in bytes of TDX 1.0's.
    pub const LENGTH_10: usize = 584;
    /// Length in bytes of TDX 1.5's.
    pub const LENGTH_15: usize = 648;
    /// Length in bytes of the extended one.
    pub const LENGTH_15_EXTENDED: usize = 885;

    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Bytes(bytes);
        let mut report = Self {
            tee_tcb_svn: reader.array()?,
            mr_seam: reader.array()?,
            mr_signer_seam: reader.array()?,
            seam_attributes: reader.array()?,
            td_attributes: low(reader.array::<8>()?),
            xfam: low(reader.array::<8>()?),
            mr_td: reader.array()?,
            mr_config_id: reader.array()?,
            mr_owner: reader.array()?,
            mr_owner_config: reader.array()?,
            rtmr: [reader.array()?, reader.array()?, reader.array()?, reader.array()?],
            report_data: reader.array()?,
            v15: None,
        };
        if bytes.len() > Self::LENGTH_10 {
            report.v15 = Some(Td15 {
                tee_tcb_svn2: reader.array()?,
                mr_service_td: reader.array()?,
                extended: if bytes.len() > Self::LENGTH_15 { Some(extended(&mut reader)?) } else { None },
            });
        }
        Some(report)
    }

    /// Whether it has `attribute`.
    pub fn has(&self, attribute: TdAttribute) -> bool {
        self.td_attributes & attribute.mask() != 0
    }

    /// Every field, decoded.
    pub fn fields(&self) -> Object {
        let mut bytes: Vec<(&str, &[u8])> = vec![
            ("tee_tcb_svn", self.tee_tcb_svn),
            ("mr_seam", self.mr_seam),
            ("mr_signer_seam", self.mr_signer_seam),
            ("seam_attributes", self.seam_attributes),
            ("mr_td", self.mr_td),
            ("mr_config_id", self.mr_config_id),
            ("mr_owner", self.mr_owner),
            ("mr_owner_config", self.mr_owner_config),
            ("report_data", self.report_data),
        ];
        let rtmr = ["rtmr0", "rtmr1", "rtmr2", "rtmr3"];
        bytes.extend(rtmr.into_iter().zip(self.rtmr).map(|(name, value)| (name, value.as_slice())));
        let mut numbers = Vec::new();
        if let Some(v15) = &self.v15 {
            bytes.push(("tee_tcb_svn2", v15.tee_tcb_svn2));
            bytes.push(("mr_service_td", v15.mr_service_td));
        }
        if let Some(extended) = self.v15.as_ref().and_then(|v15| v15.extended.as_ref()) {
            numbers.push(("vm_id", u64::from(extended.vm_id)));
            bytes.extend([
                ("td_id", extended.td_id.as_slice()),
                ("device_info", extended.device_info),
                ("init_service_td_hash", extended.init_service_td_hash),
                ("init_service_td_attributes", extended.init_service_td_attributes),
                ("init_cpu_svn", extended.init_cpu_svn),
                ("init_tee_tcb_svn", extended.init_tee_tcb_svn),
                ("init_tee_fmspc", extended.init_tee_fmspc),
                ("service_td_hash", extended.service_td_hash),
                ("service_td_attributes", extended.service_td_attributes),
            ]);
        }
        let attributes = TdAttribute::ALL.iter().map(|attribute| (attribute.bit(), attribute.name()));
        let texts = [
            ("td_attributes", Value::Str(format!("{:#x}", self.td_attributes))),
            ("td_flags", names(self.td_attributes, attributes)),
            ("xfam", Value::Str(format!("{:#x}", self.xfam))),
        ];
        fields(&bytes, &numbers, texts)
    }

    /// What runs.
    pub fn measurements(&self) -> Measurements {
        let mut registers: Measurements = [
            (Register::MrTd, self.mr_td),
            (Register::MrConfigId, self.mr_config_id),
            (Register::MrOwner, self.mr_owner),
            (Register::MrOwnerConfig, self.mr_owner_config),
            (Register::MrSeam, self.mr_seam),
            (Register::MrSignerSeam, self.mr_signer_seam),
        ]
        .into_iter()
        .chain((0..).map(Register::Rtmr).zip(self.rtmr))
        .map(|(register, value)| (register, value.to_vec()))
        .collect();
        if let Some(v15) = &self.v15 {
            registers.insert(Register::MrServiceTd, v15.mr_service_td.to_vec());
        }
        registers
    }
}

fn extended<'a>(reader: &mut Bytes<'a>) -> Option<Td15Extended<'a>> {
    Some(Td15Extended {
        vm_id: reader.u8()?,
        td_id: reader.array()?,
        device_info: reader.array()?,
        init_service_td_hash: reader.array()?,
        init_service_td_attributes: reader.array()?,
        init_cpu_svn: reader.array()?,
        init_tee_tcb_svn: reader.array()?,
        init_tee_fmspc: reader.array()?,
        service_td_hash: reader.array()?,
        service_td_attributes: reader.array()?,
    })
}

/// The first eight bytes as a number.
fn low(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Attributes of a trust domain (Intel TDX Module ABI specification 348551-008US, table 3.23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TdAttribute {
    /// Its memory can be read from outside.
    Debug,
    /// Profiling, by hardware or software (HGS+, performance counters, LBRs): shows what it does.
    Profiling,
    /// Defence against single steps.
    SingleStepDefence,
    /// Service trust domains are reported in full.
    ServiceTdExtension,
    /// Linear address space separation.
    Lass,
    /// The host cannot make it fault on its pages.
    SeptVeDisable,
    /// It can be moved to another machine.
    Migratable,
    /// Protection keys for supervisors.
    Pks,
    /// Key locker.
    KeyLocker,
    /// A provisioning agent of TDX Connect.
    ProvisioningAgent,
    /// Performance monitoring.
    Perfmon,
}

impl TdAttribute {
    /// Every attribute, in the order of bits.
    pub const ALL: &[Self] = &[
        Self::Debug,
        Self::Profiling,
        Self::SingleStepDefence,
        Self::ServiceTdExtension,
        Self::Lass,
        Self::SeptVeDisable,
        Self::Migratable,
        Self::Pks,
        Self::KeyLocker,
        Self::ProvisioningAgent,
        Self::Perfmon,
    ];

    /// Its bit; of profiling, the first of three.
    pub fn bit(self) -> u32 {
        match self {
            Self::Debug => 0,
            Self::Profiling => 4,
            Self::SingleStepDefence => 16,
            Self::ServiceTdExtension => 17,
            Self::Lass => 27,
            Self::SeptVeDisable => 28,
            Self::Migratable => 29,
            Self::Pks => 30,
            Self::KeyLocker => 31,
            Self::ProvisioningAgent => 62,
            Self::Perfmon => 63,
        }
    }

    /// Its bits.
    pub fn mask(self) -> u64 {
        let width: u64 = if self == Self::Profiling { 7 } else { 1 };
        width.checked_shl(self.bit()).unwrap_or(0)
    }

    /// Its name: in policies and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Profiling => "profiling",
            Self::SingleStepDefence => "single-step-defence",
            Self::ServiceTdExtension => "service-td-extension",
            Self::Lass => "lass",
            Self::SeptVeDisable => "sept-ve-disable",
            Self::Migratable => "migratable",
            Self::Pks => "pks",
            Self::KeyLocker => "key-locker",
            Self::ProvisioningAgent => "provisioning-agent",
            Self::Perfmon => "perfmon",
        }
    }
}

/// Bits of a trust domain's attributes that the table of the ABI requires to be zero: 1-3, 7-15, 23-26, 32-61.
pub const RESERVED_TD_ATTRIBUTES: u64 = 0x3fff_ffff_0780_ff8e;
/// The features of XFAM that exist.
pub const XFAM_DEFINED: u64 = 0x0006_dbe7;
/// Those that every trust domain has: x87 and SSE.
pub const XFAM_REQUIRED: u64 = 3;

/// An enclave was initialised.
pub const FLAG_INIT: u64 = 1;

const ENCLAVE_FLAGS: &[(u32, &str)] = &[
    (0, "init"),
    (1, "debug"),
    (2, "mode64"),
    (4, "provision-key"),
    (5, "einittoken-key"),
    (6, "cet"),
    (7, "kss"),
    (10, "aex-notify"),
];

/// The names of the bits that are set.
fn names(flags: u64, table: impl Iterator<Item = (u32, &'static str)>) -> Value {
    Value::Array(
        table
            .filter(|(bit, _)| flags.checked_shr(*bit).is_some_and(|rest| rest & 1 == 1))
            .map(|(_, name)| name.into())
            .collect(),
    )
}

pub(super) fn fields<const N: usize>(
    bytes: &[(&str, &[u8])],
    numbers: &[(&str, u64)],
    others: [(&str, Value); N],
) -> Object {
    let bytes = bytes.iter().map(|(name, bytes)| ((*name).to_owned(), Value::Str(to_hex(bytes))));
    let numbers =
        numbers.iter().filter_map(|(name, number)| Some(((*name).to_owned(), Value::int(*number)?)));
    bytes.chain(numbers).chain(others.map(|(name, value)| (name.to_owned(), value))).collect()
}
