//! The command line of evidence from hardware.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What a verifier of receipts knows of hardware.
#[derive(Args, Clone, Debug, Default)]
pub struct HardwareArgs {
    /// Today's collateral and revocation lists for hardware evidence, in place of what the receipt carries: files, or folders of them
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub collateral: Vec<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub dangers: Dangers,
}

/// What no verifier should take but to try things out.
#[derive(Args, Clone, Debug, Default)]
pub struct Dangers {
    /// Take evidence of debug mode, in which anybody can read the memory; the policy must say so too
    #[arg(long)]
    pub dangerously_accept_debug: bool,
    /// Take evidence under the development roots, which no hardware made: anybody can sign with their keys
    #[cfg(feature = "simulated")]
    #[arg(long)]
    pub dangerously_accept_simulated: bool,
}

/// `attest`.
#[derive(Clone, Debug, Subcommand)]
pub enum AttestCommand {
    /// Judge evidence: who made the hardware, which code it measured, whether its certificates hold
    ///
    /// Prints one row for each check, then what was shown and what was not. Nothing is fetched: certificates, collateral and
    /// revocation lists come from files. Files are raw, base64, hexadecimal, PEM, or as the makers' tools write them.
    Verify(AttestVerify),
    /// Ask the makers for what judging evidence takes, and write it to a file: certificates, collateral, revocation lists
    ///
    /// The file is for --collateral of `attest verify` and `verify`, which fetch nothing. Intel, AMD, NVIDIA and AWS are asked, as the
    /// evidence needs; what they said before is kept in the home. Evidence that is rejected as it is, is not collected for.
    Collect(AttestCollect),
    /// Show every field of evidence, decoded and not judged
    Show {
        /// The evidence; `-` reads standard input
        file: PathBuf,
        /// What kind of evidence it is
        #[arg(long, value_enum)]
        kind: KindArg,
    },
    /// Make evidence without hardware, good or with a flaw, under a development root whose keys everybody has
    ///
    /// It is marked SIMULATED in what is signed, and nobody takes it who does not ask for it. Prints the command that judges it.
    #[cfg(feature = "simulated")]
    Produce(AttestProduce),
    /// Policies of evidence
    Policy {
        /// What to do.
        #[command(subcommand)]
        command: AttestPolicyCommand,
    },
}

/// `attest verify`.
#[derive(Args, Clone, Debug)]
pub struct AttestVerify {
    /// The evidence; `-` reads standard input
    pub file: PathBuf,
    /// What kind of evidence it is
    #[arg(long, value_enum)]
    pub kind: KindArg,
    /// What the maker publishes about its platforms, and revocation lists: files, or folders of them; may be repeated
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub collateral: Vec<PathBuf>,
    /// Certificates that did not come inside the evidence; may be repeated
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub cert: Vec<PathBuf>,
    /// The log of events behind runtime measurements
    #[arg(long, value_name = "FILE")]
    pub event_log: Option<PathBuf>,
    /// The nonce that you chose
    #[arg(long, value_name = "HEX")]
    pub nonce: Option<String>,
    /// Of a device: the nonce that its CPU's evidence binds, which the device must answer
    #[arg(long, value_name = "HEX")]
    pub cpu_nonce: Option<String>,
    /// The report data (Nitro: user data) that the evidence must carry
    #[arg(long, value_name = "HEX")]
    pub report_data: Option<String>,
    /// The time to judge at: seconds since 1970, or as 2026-11-21T08:12:44Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// `genuine`, or a TOML file as `attest policy init` prints it
    #[arg(long, value_name = "POLICY", default_value = "genuine")]
    pub policy: String,
    /// A policy in Rego as Confidential Containers has them, which must take what all other checks accept
    #[cfg(feature = "rego")]
    #[arg(long, value_name = "FILE")]
    pub rego: Option<PathBuf>,
    /// Reference values for --rego: a JSON object, each member a value or a list of those that may be
    #[cfg(feature = "rego")]
    #[arg(long, value_name = "FILE", requires = "rego")]
    pub reference: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub dangers: Dangers,
}

/// `attest collect`.
#[derive(Args, Clone, Debug)]
pub struct AttestCollect {
    /// The evidence; `-` reads standard input
    pub file: PathBuf,
    /// What kind of evidence it is
    #[arg(long, value_enum)]
    pub kind: KindArg,
    /// Certificates that did not come inside the evidence; may be repeated
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub cert: Vec<PathBuf>,
    /// Ask this cache of Intel's services (PCCS) instead of Intel
    #[arg(long, value_name = "URL")]
    pub pccs: Option<String>,
    /// The file to write: a snapshot, *.collateral.json
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub dangers: Dangers,
}

/// `attest produce`.
#[cfg(feature = "simulated")]
#[derive(Args, Clone, Debug)]
pub struct AttestProduce {
    /// What kind of evidence to make
    #[arg(long, value_enum)]
    pub kind: KindArg,
    /// Which form of it: another version, product or key [default: the kind's first]
    #[arg(long, value_name = "FORM")]
    pub form: Option<String>,
    /// What the evidence is to bind (of Nitro the user data)
    #[arg(long, value_name = "HEX")]
    pub report_data: Option<String>,
    /// The nonce that it is to answer
    #[arg(long, value_name = "HEX")]
    pub nonce: Option<String>,
    /// The time that it is of: seconds since 1970, or as 2026-11-21T08:12:44Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// What is to be wrong with it; any other name lists them
    #[arg(long, value_name = "FLAW")]
    pub flaw: Option<String>,
    /// The folder to write to
    #[arg(long, value_name = "FOLDER")]
    pub output: PathBuf,
}

/// `attest policy`.
#[derive(Clone, Debug, Subcommand)]
pub enum AttestPolicyCommand {
    /// Print a policy file with every key, explained
    Init,
}

/// Kinds of evidence from hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// AWS Nitro Enclaves
    Nitro,
    /// Intel TDX
    Tdx,
    /// Intel SGX
    Sgx,
    /// AMD SEV-SNP
    SevSnp,
    /// NVIDIA GPUs and NVSwitches
    Nvidia,
}
