//! The command line. These comments are the manual: `docs/cli.md` is generated from them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::Flags;

pub use attest::*;

mod attest;

/// Run models, get receipts, check them anywhere.
///
/// Every answer of a model can carry a receipt. A receipt says which model gave which output for which input, and anyone can
/// check that offline: that nothing was changed, whose word it is, and, by running the model again on a copy of one's own,
/// that every bit of the output is right.
///
/// MODEL is everywhere the name of a shipped model (digits-cnn, phrase-language, tumour-mlp, tumour-trees, tiny-chat), a local
/// name, a model id or the start of one, or a path: an .onnx file, a .gguf file, or a language model's folder (config.json,
/// *.safetensors, tokenizer.json).
///
/// Results go to standard output, everything else to standard error.
#[derive(Clone, Debug, Parser)]
#[command(name = "hallmark", version, long_version = long_version(), max_term_width = 100)]
#[command(after_long_help = EXIT_CODES)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or accepted
  1  rejected: a check failed, or a file, model or input is refused
  2  the command line or the configuration is wrong
  3  undecided: nothing failed, and not enough was shown
  4  something could not be read, written or reached
With several bundles the worst counts: 1, then 4, then 3.";

/// Version and commit.
fn long_version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("HALLMARK_COMMIT"), ")")
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Folder for models, receipts, keys and pins [env: HALLMARK_HOME; default: the platform's data folder]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub home: Option<PathBuf>,
    /// Configuration file [env: HALLMARK_CONFIG; default: the platform's folder]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Threads of a run; the output does not depend on it [env: HALLMARK_THREADS; default: all cores]
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    pub threads: Option<usize>,
    /// Memory that a run may take, in MiB [env: HALLMARK_MEMORY_MIB; default: 4096]
    #[arg(long, global = true, value_name = "MIB", help_heading = "Global options")]
    pub memory_mib: Option<usize>,
    /// Seconds that a run may take, 0 for no limit [env: HALLMARK_TIME_LIMIT; default: 300]
    #[arg(long, global = true, value_name = "SECONDS", help_heading = "Global options")]
    pub time_limit: Option<u64>,
    /// Print the result as JSON, errors too
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
}

impl Global {
    /// What the settings take from the command line.
    pub fn flags(&self) -> Flags {
        Flags {
            home: self.home.clone(),
            config: self.config.clone(),
            threads: self.threads,
            memory_mib: self.memory_mib,
            time_limit: self.time_limit,
        }
    }
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// The whole story in under half a minute: run models, get receipts, check them, forge one, see it refused
    ///
    /// Runs each shipped model on real, held-out samples, writes a bundle for each into the folder, and verifies them in
    /// separate processes whose home holds nothing but the model's file. Then attacks one bundle in five ways and
    /// shows why each forgery is refused. Exits with 1 if anything went other than told.
    Demo(Demo),
    /// Add, list and show models
    Model {
        /// What to do.
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// Run a model, and get a receipt for the answer
    ///
    /// Without --receipt and --evidence the model just runs. With either, the answer gets a receipt, which is kept in the home
    /// with its openings (input, output and salts) and, with --receipt, written to a bundle that anyone can check. The keys that
    /// sign are made on first use.
    Infer(Infer),
    /// Add a proof to answers given earlier: evidence `zk`, which needs nothing from who signed the receipt
    ///
    /// All bundles of one call share one proof, so they are of one model and their inputs have equal shapes. Each bundle is written anew
    /// where it lies. A proof is verifiable and hides nothing: whoever checks it needs the bundle's openings, and it tells something of
    /// every answer that it is shared by, so prove apart what its holders must not know of each other.
    Prove(Prove),
    /// Check bundles: which model, in which environment, made the right way, settled
    ///
    /// Prints one row for each check, then what was shown and what was not. The re-run uses the verifier's own copy of the
    /// model: the one that --model names, or a shipped or stored one of the same id. A key that travels in a bundle is never
    /// trusted for itself: without a re-run, only identities pinned by `keys trust` or --trust count.
    Verify(Verify),
    /// Check evidence from hardware, offline and at any time: AWS Nitro, Intel TDX and SGX, AMD SEV-SNP, NVIDIA
    Attest {
        /// What to do.
        #[command(subcommand)]
        command: AttestCommand,
    },
    /// Talk to a language model; every answer comes with a receipt and its verdict
    ///
    /// The model runs in this process. Each answer is signed, kept with its receipt in the home, and then judged as anyone would
    /// judge it: run again, token by token. Exits with the worst verdict.
    Chat(Chat),
    /// Serve models: OpenAI's and Anthropic's APIs, ONNX models at /v1/infer; a receipt with every answer
    ///
    /// Serves the shipped and the home's models, or those that --model names, and models of providers from a table. Keys of
    /// providers come from the environment variables that the table names. Listens on this machine alone unless --keys says who may ask. Keeps the newest 100,000
    /// receipts, at most 4 GiB, in the home's folder `gateway`.
    Up(Up),
    /// Verify gateways' answers for plain clients: an endpoint on this machine that hands out only what holds
    ///
    /// Forwards OpenAI's and Anthropic's requests to the first gateway that answers. Each event of a stream is handed out once
    /// its signature by the pinned identity held; the end of an answer once its receipt is accepted, opened, compared and kept
    /// in the home. Anything wrong ends the answer with an error. Re-runs nothing; `hallmark verify` does with a kept receipt.
    Proxy(Proxy),
    /// List, show and redact receipts
    #[command(visible_alias = "receipt")]
    Receipts {
        /// What to do.
        #[command(subcommand)]
        command: ReceiptsCommand,
    },
    /// Make, show, rotate, revoke, trust and export keys
    Keys {
        /// What to do.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Show every setting and where its value came from
    ///
    /// A flag beats the environment, which beats the configuration file, which beats the default. The file is TOML with
    /// the keys that this command prints.
    Config,
    /// Print completions for a shell
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// `demo`.
#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// Folder for the bundles and forgeries
    #[arg(long, value_name = "DIR", default_value = "hallmark-demo")]
    pub dir: PathBuf,
}

/// `model`.
#[derive(Clone, Debug, Subcommand)]
pub enum ModelCommand {
    /// Check a model's files and copy them into the home
    Add {
        /// An .onnx file (external data is read from its folder and from nowhere else), a .gguf file, or a language model's
        /// folder
        file: PathBuf,
        /// A local name
        #[arg(long)]
        name: Option<String>,
        /// Compute a language model in int8: a third of the memory to read, so about three times the speed, and answers of its own. The
        /// model so made has an id of its own
        #[arg(long)]
        int8: bool,
    },
    /// Make a model of integers from an ONNX model of floats, so that its answers can be proved
    ///
    /// Runs the model on samples to learn its ranges, and adds the new model, with an id of its own, to the home. Prints how far the new
    /// outputs are from the old ones. Exits with 1 if an operator has no integer form (it is named) or the samples do not fit, 2 if the name
    /// is taken by a shipped model, 4 if a file cannot be read.
    Quantize(Quantize),
    /// Commit to a quantised model's weights, so that its answers can be proved
    ///
    /// Writes the commitment into the model's manifest: a model with an id of its own and the same files, which is stored in the home.
    /// A local name of the model moves to it.
    Commit {
        /// The model
        model: String,
        /// A local name
        #[arg(long)]
        name: Option<String>,
    },
    /// List shipped and stored models
    List,
    /// Show a model's id, files, inputs, outputs and operators
    Show {
        /// The model
        model: String,
    },
}

/// `model quantize`.
#[derive(Args, Clone, Debug)]
pub struct Quantize {
    /// The model
    pub model: String,
    /// Inputs like those to come, many rows: .npz by input name, or .npy for a single input
    #[arg(long, value_name = "FILE")]
    pub calibrate: PathBuf,
    /// The right class of each row (.npy of integers): prints the accuracy before and after
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// A local name [default: the model's, with -int8]
    #[arg(long)]
    pub name: Option<String>,
}

/// `infer`.
#[derive(Args, Clone, Debug)]
pub struct Infer {
    /// The model
    pub model: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub from: InferInput,
    /// Write the outputs, by name, to an .npz file
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Evidence for the receipt [default with --receipt: signature,replay]; `zk` is added to what the receipt lists
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub evidence: Vec<EvidenceArg>,
    /// The environment of evidence `tee`: `hardware`, or a development form as `attest produce --form` has them, marked SIMULATED
    /// [default: the hardware, else tdx-v4]
    #[arg(long, value_name = "FORM")]
    pub environment: Option<String>,
    /// Write the receipt's bundle to a file; with --rows a folder, in which each row's bundle has its number
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Make one request of each row of the input, along the first axis, each with a receipt of its own; evidence `zk` is one proof
    /// for all, which costs little more than for one
    #[arg(long, requires = "input", conflicts_with = "output")]
    pub rows: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub proof: ProofArgs,
}

/// How proofs are made.
#[derive(Args, Clone, Debug, Default)]
pub struct ProofArgs {
    /// The fewest bits of security of a proof, all its errors together; at most about 118 can be had [default: 100]
    #[arg(long, value_name = "BITS")]
    pub proof_bits: Option<u32>,
    /// Tell the stages of proving where standard error is no terminal too
    #[arg(long)]
    pub progress: bool,
}

/// Where the inputs come from.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct InferInput {
    /// Inputs: .npy, .npz by input name, or JSON; `-` reads standard input
    ///
    /// JSON is an object by input name, each input as {"dtype", "shape", "data"} or as nested lists; a model with one
    /// input also takes that input alone. Non-finite numbers are the strings "NaN", "Infinity" and "-Infinity".
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Held-out samples of a shipped model: the one with this number, from 0; without a number, the first
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "0")]
    pub sample: Option<usize>,
}

/// Kinds of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EvidenceArg {
    /// An identity signs for the claim
    Signature,
    /// Anyone who holds the model can run it again and compare every bit
    Replay,
    /// Hardware vouches for the environment that the signing key lives in
    Tee,
    /// A proof, against the model's commitment, that the model gives this output for this input; it hides nothing
    Zk,
}

/// `prove`.
#[derive(Args, Clone, Debug)]
pub struct Prove {
    /// Bundles with their openings: paths, or ids of receipts in the home
    #[arg(required = true, value_name = "BUNDLE")]
    pub bundles: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub proof: ProofArgs,
}

/// `verify`.
#[derive(Args, Clone, Debug)]
pub struct Verify {
    /// Bundles; `-` reads standard input
    #[arg(required = true, value_name = "BUNDLE")]
    pub bundles: Vec<PathBuf>,
    /// The verifier's own copy of the model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Trust this identity for this run: a public key as `keys export` prints it
    #[arg(long, value_name = "KEY")]
    pub trust: Vec<String>,
    /// `default`, `replay`, or a TOML file [env: HALLMARK_POLICY; default: default]
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// The fewest bits of security that a proof may have, all its errors together [default: the policy's, else 100]
    #[arg(long, value_name = "BITS")]
    pub proof_bits: Option<u32>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub hardware: HardwareArgs,
}

/// `chat`.
#[derive(Args, Clone, Debug)]
pub struct Chat {
    /// The language model
    pub model: String,
    /// Ask this and print the answer, instead of reading standard input
    #[arg(long, value_name = "TEXT")]
    pub once: Option<String>,
    /// What the model is told beforehand
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// 0 to 2; 0 takes the likeliest token each time [default: the model's]
    #[arg(long)]
    pub temperature: Option<f64>,
    /// The most tokens of an answer
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u64>,
    /// A number that makes the answer repeatable
    #[arg(long)]
    pub seed: Option<i64>,
    /// Write the last receipt's bundle to a file
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

/// `up`.
#[derive(Args, Clone, Debug)]
pub struct Up {
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: std::net::SocketAddr,
    /// A model to serve; may be repeated [default: the shipped ones, and all in the home that have a name]
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
    /// A TOML table of providers and their models
    #[arg(long, value_name = "FILE")]
    pub providers: Option<PathBuf>,
    /// A TOML file of API keys: who may ask, and how much. Without it everyone may who reaches the address
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Make a key of this name, add it to the file of --keys, print its secret once, and serve nothing
    #[arg(long, value_name = "NAME", requires = "keys")]
    pub new_key: Option<String>,
    /// A host name that is this node's, beyond localhost and the address; may be repeated. Requests to other names are refused
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Put evidence `tee` into every receipt: `hardware`, or a development form as `attest produce --form` has them, marked SIMULATED
    #[arg(long, value_name = "FORM")]
    pub environment: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub hardware: HardwareArgs,
}

/// `proxy`.
#[derive(Args, Clone, Debug)]
pub struct Proxy {
    /// A gateway's URL without /v1, and the identity (key or id) that must sign; may be repeated, the first that answers is asked
    #[arg(long, value_name = "URL=IDENTITY", required = true)]
    pub gateway: Vec<String>,
    /// Loopback address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    pub listen: std::net::SocketAddr,
    /// The environment variable with a gateway's API key: one for all, or one for each --gateway in their order. Keys of clients are never
    /// passed on
    #[arg(long, value_name = "NAME")]
    pub key_env: Vec<String>,
    /// A model of which you have a copy, by the name that clients ask for (NAME alone stands for both); may be repeated. Answers to NAME
    /// count only if they are by exactly this model
    #[arg(long, value_name = "NAME=MODEL")]
    pub copy: Vec<String>,
    /// The share of those answers, from 0 to 1, that is run again on your copy before the end of the answer is handed out [default: 0.1]
    #[arg(long, value_name = "SHARE", requires = "copy")]
    pub sample: Option<f64>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub hardware: HardwareArgs,
}

/// `receipts`.
#[derive(Clone, Debug, Subcommand)]
pub enum ReceiptsCommand {
    /// List the receipts in the home
    List,
    /// Show what a receipt says, without its openings
    Show {
        /// A receipt's id or the start of one, or a bundle's path
        receipt: String,
    },
    /// Drop inputs, outputs and salts from a bundle; what stays is still verifiable
    Redact {
        /// A receipt's id or the start of one, or a bundle's path
        receipt: String,
        /// Where to write it [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// `keys`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make an identity and a receipt key that it certifies
    New {
        /// The algorithm
        #[arg(long, value_enum, default_value_t = AlgArg::Ed25519)]
        alg: AlgArg,
    },
    /// Show the identity, its receipt keys and the pinned identities
    Show,
    /// Make a new receipt key and retire the present one
    Rotate,
    /// Revoke a key in the identity's name
    Revoke {
        /// The key's id or the start of one; `identity` for the identity itself
        key: String,
        /// Why
        #[arg(long, value_enum, default_value_t = ReasonArg::Compromised)]
        reason: ReasonArg,
    },
    /// Pin an identity: receipts of its keys are trusted
    Trust {
        /// A public key, or a file that `keys export` wrote, whose revocations come along
        key: String,
        /// A name for it
        #[arg(long, default_value = "")]
        label: String,
        /// Remove the pin
        #[arg(long)]
        remove: bool,
    },
    /// Print the public identity, for others to trust
    Export {
        /// Write identity, certificates and revocations to a file instead
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Signature algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AlgArg {
    /// Ed25519
    Ed25519,
    /// ECDSA over P-256
    P256,
}

/// Why a key is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReasonArg {
    /// Somebody else may have it: nothing that it signed counts
    Compromised,
    /// Replaced: what it signed before counts
    Retired,
}
