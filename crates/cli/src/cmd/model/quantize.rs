//! `hallmark model quantize`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use hallmark_engine::Program;
use hallmark_model::graph::{Dim, Graph};
use hallmark_model::ops::index::integers;
use hallmark_model::quantise::{
    Calibration, CalibrationError, Difference, QuantiseError, Quantised, quantise,
};
use hallmark_receipt::Tensor;
use serde_json::{Value, json};

use super::{App, size};
use crate::args::Quantize;
use crate::cmd::infer::options;
use crate::console::{Progress, table};
use crate::disk;
use crate::fault::Note;
use crate::model::{self, Copy};
use crate::store::is_name;
use crate::tensor_io::{self, Format, Limits, convert, npy};

/// Rows of samples that run at a time, where the model takes any number.
const ROWS: usize = 16;

/// Runs `model quantize`.
pub fn run(app: &App, args: &Quantize) -> Result<()> {
    let copy = model::resolve(&app.home, &args.model)?;
    let name = args.name.clone().or_else(|| default_name(&args.model));
    super::check_free(name.as_deref())?;
    let mut samples = Samples::read(app, &copy, &args.calibrate)?;
    let labels = args.labels.as_deref().map(|path| labels(path, samples.rows)).transpose()?;
    let progress = Progress::new("quantising");
    let mut quantised = quantise(copy.graph()?, &mut samples);
    // Where the integers need all sizes, rows that come one at a time tell them.
    if matches!(&quantised, Err(QuantiseError::Unsupported { .. } | QuantiseError::Bound(_)))
        && samples.cut(1)?
    {
        quantised = quantise(copy.graph()?, &mut samples);
    }
    let quantised = quantised.map_err(hinted).context("the model was not quantised")?;
    let accuracies = match &labels {
        Some(labels) => Some([copy.graph()?, &quantised.graph].map(|graph| samples.accuracy(graph, labels))),
        None => None,
    };
    let accuracies = match accuracies {
        Some([before, after]) => Some((before?, after?)),
        None => None,
    };
    drop(progress);
    let made = Copy::from_bytes(&quantised.onnx).context("the quantised model is refused")?;
    let files: Vec<(String, Vec<u8>)> =
        made.files.iter().map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
    let manifest = made.manifest().to_json();
    app.home
        .write()?
        .add_model(&made.id(), manifest.as_bytes(), &files, name.as_deref())
        .context("the quantised model was not added")?;
    let report =
        Report { copy: &copy, made: &made, name: name.as_deref(), quantised: &quantised, accuracies };
    app.show(|| report.json(), || report.lines());
    Ok(())
}

/// `NAME-int8`, where MODEL is a name or a file.
fn default_name(model: &str) -> Option<String> {
    let stem = Path::new(model).file_stem()?.to_str()?;
    Some(format!("{stem}-int8")).filter(|name| is_name(name))
}

/// What to do about a model that is refused.
fn hinted(error: QuantiseError) -> anyhow::Error {
    let hint = match &error {
        QuantiseError::Unsupported { .. } | QuantiseError::NoFloats => {
            "spec/quantised.md §3.1 lists the operators that can be quantised"
        }
        QuantiseError::NoSamples => "give some rows that are like the model's real inputs",
        QuantiseError::Run(_) => "`hallmark infer` runs one input alone",
        _ => "this is a defect of the quantiser: please report it with the model",
    };
    anyhow::Error::new(error).context(Note::new("this model cannot be made one of integers").hint(hint))
}

/// The sample inputs, and how to run them.
struct Samples<'a> {
    app: &'a App,
    inputs: Vec<Tensor>,
    /// Rows that the model takes at a time, where that is fixed.
    fixed: Option<usize>,
    batches: Vec<Vec<Tensor>>,
    /// Rows of all batches together.
    rows: usize,
}

impl<'a> Samples<'a> {
    /// Reads the inputs of `copy`, many rows of them.
    fn read(app: &'a App, copy: &Copy, path: &Path) -> Result<Self> {
        let limits = Limits::default();
        let bytes = disk::read(path, limits.file)?;
        let mut specs = copy.inputs()?;
        // A model of so many rows takes that many at a time.
        let fixed = specs.iter().find_map(|spec| match spec.shape.as_deref()?.first()? {
            Dim::Known(n) => Some(*n),
            _ => None,
        });
        for dims in specs.iter_mut().filter_map(|spec| spec.shape.as_mut()) {
            if let Some(first) = dims.first_mut() {
                *first = Dim::Symbol("rows of the samples".to_owned());
            }
        }
        let inputs = tensor_io::read_inputs(&bytes, &specs, &limits)
            .with_context(|| format!("{} does not fit the model", path.display()))?;
        let rows = inputs.iter().find_map(|(_, tensor)| tensor.shape().first().copied()).unwrap_or(1);
        if let Some(step) = fixed.filter(|step| !rows.is_multiple_of((*step).max(1))) {
            let what = format!("{} has {rows} rows, and the model takes {step} at a time", path.display());
            return Err(Note::new(what).hint("give a multiple of that").error());
        }
        let inputs = inputs.into_iter().map(|(_, tensor)| tensor).collect();
        let mut samples = Self { app, inputs, fixed, batches: Vec::new(), rows };
        samples.cut(fixed.unwrap_or(ROWS))?;
        Ok(samples)
    }

    /// Runs so many rows at a time; says whether they are cut otherwise than before, which they are not where the model fixes the number.
    fn cut(&mut self, step: usize) -> Result<bool> {
        let step = self.fixed.unwrap_or(step).max(1);
        let batch = |from: usize| {
            let part = |tensor: &Tensor| match tensor.shape() {
                [] => Ok(tensor.clone()),
                _ => convert::rows(tensor, from, self.rows.min(from + step)),
            };
            self.inputs.iter().map(part).collect::<Result<Vec<_>, _>>()
        };
        let batches = (0..self.rows).step_by(step).map(batch).collect::<Result<Vec<_>, _>>()?;
        let other = batches.len() != self.batches.len();
        self.batches = batches;
        Ok(other)
    }

    /// The share of rows whose first output is the label, or greatest at it.
    fn accuracy(&mut self, graph: &Graph, labels: &[i64]) -> Result<f64> {
        let mut answers: Vec<i64> = Vec::new();
        let see = &mut |outputs: &[Tensor]| {
            answers.extend(outputs.first().map(chosen).unwrap_or_default());
            Ok(())
        };
        self.each(graph, see).map_err(anyhow::Error::from_boxed)?;
        if answers.len() != labels.len() {
            let what =
                format!("the first output has {} rows, and there are {} labels", answers.len(), labels.len());
            return Err(Note::new(what).hint("labels need a model with one answer a row").error());
        }
        let right = answers.iter().zip(labels).filter(|(answer, label)| answer == label).count();
        Ok(right as f64 / labels.len().max(1) as f64)
    }
}

impl Calibration for Samples<'_> {
    fn each(
        &mut self,
        graph: &Graph,
        see: &mut dyn FnMut(&[Tensor]) -> Result<(), QuantiseError>,
    ) -> Result<(), CalibrationError> {
        let program = Program::compile(Arc::new(graph.clone()), options(self.app))?;
        for batch in &self.batches {
            see(&program.run(batch)?)?;
        }
        Ok(())
    }
}

/// The answer of each row: the integer itself, or the index of the greatest number.
fn chosen(output: &Tensor) -> Vec<i64> {
    if let Some(answers) = integers(output) {
        return answers;
    }
    let rows = output.shape().first().copied().unwrap_or(1).max(1);
    let Some(values) = output.as_slice::<f32>() else { return Vec::new() };
    let best = |row: &[f32]| {
        let best = row.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.and_then(|(index, _)| i64::try_from(index).ok()).unwrap_or(-1)
    };
    values.chunks((values.len() / rows).max(1)).map(best).collect()
}

/// One integer for each row.
fn labels(path: &Path, rows: usize) -> Result<Vec<i64>> {
    let limits = Limits::default();
    let bytes = disk::read(path, limits.file)?;
    let refuse =
        |what: String| Note::new(what).hint("give one integer a row: numpy.save(\"y.npy\", y)").error();
    if Format::of(&bytes) != Format::Npy {
        return Err(refuse(format!("{} is no .npy file", path.display())));
    }
    let tensor = npy::read(&bytes).with_context(|| format!("{} is not readable", path.display()))?;
    let Some(labels) = integers(&tensor) else {
        return Err(refuse(format!("{} holds {}, not integers", path.display(), tensor.dtype().name())));
    };
    if labels.len() != rows {
        return Err(refuse(format!("{} has {} labels for {rows} rows", path.display(), labels.len())));
    }
    Ok(labels)
}

/// What was made, beside what it was made of.
struct Report<'a> {
    copy: &'a Copy,
    made: &'a Copy,
    name: Option<&'a str>,
    quantised: &'a Quantised,
    accuracies: Option<(f64, f64)>,
}

impl Report<'_> {
    fn bytes(copy: &Copy) -> u64 {
        copy.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    fn outputs(&self) -> impl Iterator<Item = (String, &Difference)> {
        let graph = &self.quantised.graph;
        let names = graph.outputs.iter().map(|id| graph.name(*id).to_owned());
        names.zip(&self.quantised.differences)
    }

    fn json(&self) -> Value {
        let outputs = self.outputs().map(|(name, difference)| {
            json!({
                "name": name, "max": difference.max, "mean": difference.mean(),
                "rms_relative": difference.rms_relative(), "cosine": difference.cosine(),
            })
        });
        let mut value = json!({
            "id": self.made.id().to_string(), "name": self.name, "parent": self.copy.id().to_string(),
            "bytes": { "before": Self::bytes(self.copy), "after": Self::bytes(self.made) },
            "clip": self.quantised.clip.name(), "outputs": outputs.collect::<Vec<Value>>(),
        });
        if let Some((before, after)) = self.accuracies {
            value["accuracy"] = json!({ "before": before, "after": after });
        }
        value
    }

    fn lines(&self) -> Vec<String> {
        let named = self.name.map(|name| format!(" as {name}")).unwrap_or_default();
        let mut lines = vec![format!("added {}{named}", self.made.id())];
        let (before, after) = (Self::bytes(self.copy), Self::bytes(self.made));
        let mut rows = vec![
            vec!["size".to_owned(), format!("{} -> {}", size(before), size(after))],
            vec!["ranges".to_owned(), self.quantised.clip.name().to_owned()],
        ];
        for (name, difference) in self.outputs() {
            let figures = format!(
                "differs by {:.3e} at most, {:.3e} on average; rms {:.2} %, cosine {:.6}",
                difference.max,
                difference.mean(),
                difference.rms_relative() * 100.0,
                difference.cosine()
            );
            rows.push(vec![name, figures]);
        }
        if let Some((before, after)) = self.accuracies {
            let figures = format!("{:.2} % -> {:.2} %", before * 100.0, after * 100.0);
            rows.push(vec!["accuracy".to_owned(), figures]);
        }
        lines.extend(table(&rows));
        lines
    }
}
