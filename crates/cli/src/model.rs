//! Models at hand: what MODEL on the command line stands for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use hallmark_model::graph::Graph;
use hallmark_model::llm::checkpoint::{COMPUTE, compute};
use hallmark_model::llm::encoder::is_encoder;
use hallmark_model::llm::safetensors::INDEX;
use hallmark_model::llm::{
    Architecture, Arithmetic, DecoderModel, Encoder, EncoderModel, Network, belongs, kept,
};
use hallmark_model::manifest::{MODEL_FILE, Manifest, Model};
use hallmark_model::onnx::{ExternalData, ExternalDataError, Limits, NoExternalData};
use hallmark_receipt::Digest;

use crate::disk::{self, DiskError};
use crate::fault::Note;
use crate::shipped::{LANGUAGES, SHIPPED, Shipped, ShippedLanguage};
use crate::store::{Home, MAX_DOCUMENT, StoreError};
use crate::tensor_io::InputSpec;

/// The name of a `.gguf` file in a manifest, whatever it is called where it lies.
const GGUF_FILE: &str = "model.gguf";
/// The most bytes of one model file (`model.md` §7.1): more than any that memory holds today, and an end for a device that has none.
pub const MAX_FILE: u64 = 64 << 30;
/// The most bytes of an ONNX file without its external data: no message of its format is longer.
const MAX_ONNX: u64 = 1 << 31;

/// The folder inside an embedding model's.
const POOLING: &str = "1_Pooling";
/// The most files in a language model's folder.
const MAX_FOLDER: usize = 4096;

/// A model whose bytes are at hand and hash to its id.
#[derive(Clone, Debug)]
pub struct Copy {
    /// What it computes.
    pub kind: Kind,
    /// Its files by the manifest's names.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The shipped model that it is, if it is one.
    pub shipped: Option<&'static Shipped>,
}

/// What a model computes.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Tensors from tensors: an ONNX file.
    Graph(Model),
    /// Tokens from tokens: a decoder-only language model.
    Decoder(DecoderModel),
    /// A vector from tokens: an embedding model.
    Encoder(EncoderModel),
}

impl Copy {
    /// A model that is one ONNX file.
    pub fn from_bytes(onnx: &[u8]) -> Result<Self> {
        let kind = Kind::Graph(Model::load(onnx, &NoExternalData, &Limits::default())?);
        Ok(Self { kind, files: BTreeMap::from([(MODEL_FILE.to_owned(), onnx.to_vec())]), shipped: None })
    }

    /// A language model from its files.
    pub fn from_files(mut files: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let encoder = is_encoder(&names(&files), &files);
        // What lies there for a model of the other kind is no part of this one.
        files.retain(|name, _| if encoder { Encoder::belongs(name) } else { Architecture::belongs(name) });
        let names = kept(&names(&files), &files)?;
        files.retain(|name, _| names.contains(name));
        let kind = if encoder {
            Kind::Encoder(EncoderModel::load(&names, &files)?)
        } else {
            Kind::Decoder(DecoderModel::load(&names, &files)?)
        };
        Ok(Self { kind, files, shipped: None })
    }

    /// A model on disk: an ONNX file with external data in its folder, a `.gguf` file, or a folder of a language model; a decoder to be
    /// computed in `arithmetic`, where that is given.
    pub fn from_path(path: &Path, arithmetic: Option<Arithmetic>) -> Result<Self> {
        let gguf = path.extension().is_some_and(|extension| extension == "gguf");
        if path.is_dir() || gguf {
            let mut files = match gguf {
                true => BTreeMap::from([(GGUF_FILE.to_owned(), disk::read(path, MAX_FILE)?)]),
                false => language_files(path)?,
            };
            if let Some(arithmetic) = arithmetic {
                files.insert(COMPUTE.to_owned(), compute(arithmetic));
            }
            let copy = Self::from_files(files).with_context(|| format!("{} is refused", path.display()))?;
            return match (arithmetic, &copy.kind) {
                (Some(_), Kind::Encoder(_)) => Err(only_decoders("an embedding model")),
                _ => Ok(copy),
            };
        }
        if arithmetic.is_some() {
            return Err(only_decoders("an ONNX file"));
        }
        let onnx = disk::read(path, MAX_ONNX)?;
        let folder = Folder::new(disk::folder_of(path));
        let model = Model::load(&onnx, &folder, &Limits::default())
            .with_context(|| format!("{} is refused", path.display()))?;
        Ok(Self::with_files(model, onnx, folder))
    }

    /// A model in the home: its manifest hashes to its id, and its files are the manifest's.
    pub fn from_home(home: &Home, id: &Digest) -> Result<Self> {
        let root = home.model_folder(id);
        let damaged = |why| StoreError::Damaged { path: root.clone(), why };
        let manifest = disk::read(&root.join("manifest.json"), MAX_DOCUMENT)?;
        let manifest = Manifest::parse(&manifest).context(damaged("its manifest is none"))?;
        if manifest.id() != *id {
            return Err(damaged("its manifest has another id").into());
        }
        let files = root.join("files");
        if manifest.decoder.is_some() || manifest.encoder.is_some() {
            let files = language_files(&files)?;
            let kind = if manifest.decoder.is_some() {
                DecoderModel::open(&manifest, &files).map(Kind::Decoder)
            } else {
                EncoderModel::open(&manifest, &files).map(Kind::Encoder)
            };
            let kind = kind.context(damaged("its files are not those of its manifest"))?;
            return Ok(Self { kind, files, shipped: None });
        }
        let onnx = disk::read(&files.join(MODEL_FILE), MAX_ONNX)?;
        let folder = Folder::new(&files);
        let model = Model::open(&manifest, &onnx, &folder, &Limits::default());
        let model = model.context(damaged("its files are not those of its manifest"))?;
        Ok(Self::with_files(model, onnx, folder))
    }

    fn with_files(model: Model, onnx: Vec<u8>, folder: Folder) -> Self {
        let mut files = folder.files.into_inner();
        files.retain(|name, _| model.manifest().files.iter().any(|file| file.name == *name));
        files.insert(MODEL_FILE.to_owned(), onnx);
        Self { kind: Kind::Graph(model), files, shipped: None }
    }

    /// The model's id.
    pub fn id(&self) -> Digest {
        match &self.kind {
            Kind::Graph(model) => model.id(),
            Kind::Decoder(model) => model.id(),
            Kind::Encoder(model) => model.id(),
        }
    }

    /// What the model is.
    pub fn manifest(&self) -> &Manifest {
        match &self.kind {
            Kind::Graph(model) => model.manifest(),
            Kind::Decoder(model) => model.manifest(),
            Kind::Encoder(model) => model.manifest(),
        }
    }

    /// The graph of an ONNX model.
    pub fn graph(&self) -> Result<&Arc<Graph>> {
        match &self.kind {
            Kind::Graph(model) => Ok(model.graph()),
            Kind::Decoder(_) => Err(Note::usage("this is a language model: it takes text, not tensors")
                .hint("talk to it: hallmark chat MODEL")
                .error()),
            Kind::Encoder(_) => Err(Note::usage("this is an embedding model: it takes text, not tensors")
                .hint("serve it: hallmark up --model MODEL, then POST /v1/embeddings")
                .error()),
        }
    }

    /// Its graph without the weights, as a bundle carries it.
    pub fn skeleton(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Graph(model) => model.skeleton().encode(),
            Kind::Decoder(model) => model.skeleton().to_json().into_bytes(),
            Kind::Encoder(model) => model.skeleton().to_json().into_bytes(),
        }
    }

    /// What an ONNX model takes.
    pub fn inputs(&self) -> Result<Vec<InputSpec>> {
        self.graph().map(|graph| InputSpec::of(graph, &graph.inputs))
    }

    /// What an ONNX model gives.
    pub fn outputs(&self) -> Result<Vec<InputSpec>> {
        self.graph().map(|graph| InputSpec::of(graph, &graph.outputs))
    }
}

fn only_decoders(got: &str) -> anyhow::Error {
    Note::usage(format!("this is {got}, and only chat models can be computed in another arithmetic"))
        .hint("add it without --int8")
        .error()
}

fn names(files: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    files.keys().cloned().collect()
}

/// The files in `folder`, and one level below, that belong to a language model (`model.md` §7.1, §7.5); others, among them weights
/// that the model leaves out, are not read.
fn language_files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let read = |source| DiskError::new("read", folder, source);
    let mut paths = BTreeMap::new();
    let mut take = |folder: &Path, prefix: &str| {
        for entry in std::fs::read_dir(folder).map_err(read)?.take(MAX_FOLDER) {
            let name = entry.map_err(read)?.file_name();
            let Some(name) = name.to_str().map(|name| format!("{prefix}{name}")) else { continue };
            if belongs(&name) {
                let path = folder.join(name.strip_prefix(prefix).unwrap_or(&name));
                paths.insert(name, path);
            }
        }
        anyhow::Ok(())
    };
    take(folder, "")?;
    // The one folder that embedding models have.
    let pooling = folder.join(POOLING);
    if pooling.is_dir() {
        take(&pooling, &format!("{POOLING}/"))?;
    }
    let load = |name: &String| {
        let path = paths.get(name).ok_or(ExternalDataError::Missing)?;
        anyhow::Ok((name.clone(), disk::read(path, MAX_FILE)?))
    };
    let names: Vec<String> = paths.keys().cloned().collect();
    let index = names.iter().filter(|name| *name == INDEX).map(load).collect::<Result<BTreeMap<_, _>>>()?;
    let kept = kept(&names, &index).with_context(|| format!("{} is refused", folder.display()))?;
    kept.iter().map(load).collect()
}

/// The shipped models' ids, in their table's order.
pub fn shipped_copies() -> impl Iterator<Item = Result<Copy>> {
    SHIPPED.iter().map(shipped_copy)
}

/// A shipped model.
pub fn shipped_copy(shipped: &'static Shipped) -> Result<Copy> {
    let copy = Copy::from_bytes(shipped.onnx).with_context(|| format!("shipped model {}", shipped.name))?;
    Ok(Copy { shipped: Some(shipped), ..copy })
}

/// A shipped language model.
pub fn shipped_language(shipped: &'static ShippedLanguage) -> Result<Copy> {
    let files = shipped.files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    Copy::from_files(files).with_context(|| format!("shipped model {}", shipped.name))
}

/// The copy with this id, shipped or in the home.
pub fn by_id(home: &Home, id: &Digest) -> Result<Option<Copy>> {
    if home.model_folder(id).is_dir() {
        return Copy::from_home(home, id).map(Some);
    }
    for copy in shipped_copies().chain(LANGUAGES.iter().map(shipped_language)) {
        let copy = copy?;
        if copy.id() == *id {
            return Ok(Some(copy));
        }
    }
    Ok(None)
}

/// What MODEL stands for: a shipped name, a local name, an id or the start of one, or a file.
pub fn resolve(home: &Home, text: &str) -> Result<Copy> {
    let path = Path::new(text);
    let is_path = text.contains(['/', std::path::MAIN_SEPARATOR])
        || [".onnx", ".gguf"].iter().any(|ending| text.ends_with(ending));
    if !is_path {
        if let Some(shipped) = Shipped::named(text) {
            return shipped_copy(shipped);
        }
        if let Some(shipped) = ShippedLanguage::named(text) {
            return shipped_language(shipped);
        }
        if let Some(id) = home.id_of(text)? {
            return with_shipped(Copy::from_home(home, &id)?);
        }
        if let Some(copy) = by_prefix(home, text)? {
            return with_shipped(copy);
        }
    }
    if is_path || path.exists() {
        return with_shipped(Copy::from_path(path, None)?);
    }
    let mut known: Vec<String> = SHIPPED.iter().map(|model| model.name.to_owned()).collect();
    known.extend(LANGUAGES.iter().map(|model| model.name.to_owned()));
    known.extend(home.names()?.into_iter().map(|(name, _)| name));
    Err(Note::usage(format!("there is no model `{text}`"))
        .hint(format!("there are {}, and files; `hallmark model list` shows more", known.join(", ")))
        .error())
}

fn with_shipped(copy: Copy) -> Result<Copy> {
    for shipped in SHIPPED {
        if copy.files.len() == 1 && copy.files.get(MODEL_FILE).is_some_and(|bytes| bytes == shipped.onnx) {
            return Ok(Copy { shipped: Some(shipped), ..copy });
        }
    }
    Ok(copy)
}

fn by_prefix(home: &Home, text: &str) -> Result<Option<Copy>> {
    if text.len() < 4
        || text.len() > 64
        || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return Ok(None);
    }
    let mut ids = home.models()?;
    for copy in shipped_copies().chain(LANGUAGES.iter().map(shipped_language)) {
        ids.push(copy?.id());
    }
    ids.sort();
    ids.dedup();
    ids.retain(|id| id.to_string().starts_with(text));
    match ids.as_slice() {
        [] => Ok(None),
        [id] => by_id(home, id),
        many => Err(Note::usage(format!("{} models start with {text}", many.len()))
            .hint("give more digits")
            .error()),
    }
}

/// External data in the model's folder. Each file is read once and whole, so that what is imported is what is hashed.
struct Folder {
    root: PathBuf,
    files: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Folder {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), files: RefCell::default() }
    }

    fn ensure(&self, path: &str) -> Result<(), ExternalDataError> {
        if !self.files.borrow().contains_key(path) {
            let bytes = self.load(path)?;
            self.files.borrow_mut().insert(path.to_owned(), bytes);
        }
        Ok(())
    }

    fn load(&self, path: &str) -> Result<Vec<u8>, ExternalDataError> {
        let unreadable = |why: &dyn std::fmt::Display| ExternalDataError::Unreadable { why: why.to_string() };
        let missing = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => ExternalDataError::Missing,
            _ => unreadable(&error),
        };
        let root = self.root.canonicalize().map_err(missing)?;
        // Links are followed to their end: what counts is where the bytes are.
        let file = self.root.join(path).canonicalize().map_err(missing)?;
        if !file.starts_with(&root) {
            return Err(ExternalDataError::Escapes);
        }
        disk::read(&file, MAX_FILE).map_err(|error| match error {
            DiskError::Missing { .. } => ExternalDataError::Missing,
            other => unreadable(&other),
        })
    }
}

impl ExternalData for Folder {
    fn read(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, ExternalDataError> {
        self.ensure(path)?;
        ExternalData::read(&*self.files.borrow(), path, offset, length)
    }

    fn size(&self, path: &str) -> Result<u64, ExternalDataError> {
        self.ensure(path)?;
        ExternalData::size(&*self.files.borrow(), path)
    }
}
