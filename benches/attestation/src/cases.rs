//! The shared vectors: `cases.tsv`, with the files that its rows name.

use std::path::{Path, PathBuf};

use hallmark_attestation::{Context, Decision, Input, Kind, Memo, Policy, Report, verify};

use crate::Result;

/// The time of rows that name none: every certificate of theirs was in force.
const UNTIMED: u64 = 1_700_000_000;

/// One row, its files read.
#[derive(Clone)]
pub struct Case {
    pub kind: Kind,
    /// The evidence's path below the folder.
    pub name: String,
    pub evidence: Vec<u8>,
    pub certificates: Vec<Vec<u8>>,
    pub collateral: Vec<Vec<u8>>,
    /// Seconds since 1970.
    pub at: u64,
    pub allowed: Allowed,
    pub accepted: bool,
}

/// What a row's policy allows beyond `genuine`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    Nothing,
    ServiceTd,
    Configuration,
    Vmpl1,
}

impl Allowed {
    fn read(policy: &str) -> Option<Self> {
        match policy {
            "genuine" => Some(Self::Nothing),
            "genuine + allow service TD" => Some(Self::ServiceTd),
            "genuine + allow ConfigurationAndSWHardeningNeeded" => Some(Self::Configuration),
            "genuine + allow VMPL 1" => Some(Self::Vmpl1),
            _ => None,
        }
    }

    pub fn policy(self) -> Result<Policy> {
        let more = match self {
            Self::Nothing => "",
            Self::ServiceTd => "[tdx]\nallow_service_td = true",
            Self::Configuration => {
                "[sgx.tcb]\nallow = ['UpToDate', 'SWHardeningNeeded', 'ConfigurationAndSWHardeningNeeded']"
            }
            Self::Vmpl1 => "[sev-snp]\nvmpl = [0, 1]",
        };
        Ok(Policy::parse(&format!("name = 'genuine'\n{more}"))?)
    }
}

impl Case {
    pub fn judge(&self, policy: &Policy, memo: Option<&Memo>) -> Report {
        let certificates: Vec<&[u8]> = self.certificates.iter().map(Vec::as_slice).collect();
        let collateral: Vec<&[u8]> = self.collateral.iter().map(Vec::as_slice).collect();
        let input = Input {
            evidence: &self.evidence,
            certificates: &certificates,
            collateral: &collateral,
            event_log: None,
        };
        verify(self.kind, &input, &Context { memo, ..Context::new(self.at, policy) })
    }
}

/// The reason why evidence is not accepted, as programs know it.
pub fn reason(report: &Report) -> String {
    use hallmark_receipt::check::Cause as _;
    match &report.decision {
        Decision::Accepted(_) => "accepted".to_owned(),
        Decision::Rejected => {
            report.reasons().next().map_or_else(String::new, |(_, reason)| reason.code().to_owned())
        }
        Decision::Undecided(missing) => {
            let names: Vec<_> = missing.iter().map(|id| id.to_string()).collect();
            format!("undecided: {}", names.join(", "))
        }
    }
}

/// Every row of a policy that is known here; nothing where the folder is not present.
pub fn read() -> Result<Option<Vec<Case>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation-vectors");
    if !folder.is_dir() {
        return Ok(None);
    }
    let table = std::fs::read_to_string(folder.join("cases.tsv"))?;
    let mut cases = Vec::new();
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, name, with, at, policy, verdict, ..] = columns[..] else {
            return Err(format!("a row of another form: {line}").into());
        };
        let (Some(kind), Some(allowed)) = (Kind::from_name(kind), Allowed::read(policy)) else { continue };
        let files = files(&folder, with)?;
        let is_certificate = matches!(kind, Kind::SevSnp | Kind::Nvidia);
        let (certificates, collateral) =
            if is_certificate { (files, Vec::new()) } else { (Vec::new(), files) };
        cases.push(Case {
            kind,
            name: name.to_owned(),
            evidence: std::fs::read(folder.join(name))?,
            certificates,
            collateral,
            at: at.parse().unwrap_or(UNTIMED),
            allowed,
            accepted: verdict == "accept",
        });
    }
    Ok(Some(cases))
}

/// The file at `path`, or those of the folder there but for the quote.
fn files(folder: &Path, path: &str) -> Result<Vec<Vec<u8>>> {
    let at = folder.join(path);
    let mut paths: Vec<PathBuf> = match path {
        "" => Vec::new(),
        _ if at.is_dir() => std::fs::read_dir(at)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?,
        _ => vec![at],
    };
    paths.sort();
    paths.retain(|path| path.file_name().is_none_or(|name| name != "quote.dat"));
    Ok(paths.iter().map(std::fs::read).collect::<std::io::Result<_>>()?)
}
