//! TfIdfVectorizer: counts n-grams of a pool, with skips, and weighs them.

use std::collections::HashMap;

use hallmark_receipt::{DType, Data, Tensor};

use super::ml::texts;
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Dim, TypeInfo};

/// The family's table.
pub const OPS: &[OpDef] = &[OpDef {
    domain: Domain::Onnx,
    name: "TfIdfVectorizer",
    versions: &[9],
    attrs: &[
        "max_gram_length",
        "max_skip_count",
        "min_gram_length",
        "mode",
        "ngram_counts",
        "ngram_indexes",
        "pool_int64s",
        "pool_strings",
        "weights",
    ],
    infer,
    eval,
}];

fn bad<T>(name: &'static str, why: &'static str) -> Result<T, OpError> {
    Err(OpError::Attribute { name, why })
}

/// Columns of the output: one more than the greatest index.
fn width(indexes: &[i64]) -> Result<usize, OpError> {
    let top = indexes.iter().copied().max().unwrap_or(-1);
    match usize::try_from(top) {
        Ok(top) if top < 1 << 31 && indexes.iter().all(|&i| i >= 0) => Ok(top + 1),
        _ => bad("ngram_indexes", "must not be empty or negative"),
    }
}

fn infer(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let columns = Dim::Known(width(cx.attrs().ints("ngram_indexes").unwrap_or(&[]))?);
    let shape = match cx.input(0)?.shape.as_deref() {
        Some([_]) => Some(vec![columns]),
        Some([n, _]) => Some(vec![n.clone(), columns]),
        _ => None,
    };
    Ok(vec![TypeInfo { dtype: Some(DType::F32), shape }])
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Token {
    Int(i64),
    Str(String),
}

fn tokens(data: &Data, index: usize) -> Result<Vec<Token>, OpError> {
    Ok(match data {
        Data::I64(v) => v.iter().map(|&x| Token::Int(x)).collect(),
        Data::I32(v) => v.iter().map(|&x| Token::Int(x.into())).collect(),
        Data::Str(v) => v.iter().map(|x| Token::Str(x.clone())).collect(),
        _ => return Err(OpError::InputType { index, got: data.dtype() }),
    })
}

/// The n-grams of the pool: the column of each, by its tokens.
fn grams(cx: &EvalCx<'_>, least: usize, most: usize) -> Result<HashMap<Vec<Token>, usize>, OpError> {
    let attrs = cx.attrs();
    let pool = match (attrs.ints("pool_int64s"), attrs.strs("pool_strings")) {
        (Some(v), None) => tokens(&Data::I64(v.to_vec()), 0)?,
        (None, Some(v)) => tokens(&Data::Str(texts(v, "pool_strings")?), 0)?,
        _ => return bad("pool_strings", "integers or texts are needed, not both"),
    };
    let starts = attrs.ints("ngram_counts").unwrap_or(&[]);
    let indexes = attrs.ints("ngram_indexes").unwrap_or(&[]);
    let mut columns = HashMap::new();
    let mut id = 0;
    for (i, &start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).map_or(Ok(pool.len()), |&end| usize::try_from(end));
        let (Ok(start), Ok(end)) = (usize::try_from(start), end) else {
            return bad("ngram_counts", "must not be negative");
        };
        let Some(items) = pool.get(start..end) else {
            return bad("ngram_counts", "must ascend within the pool");
        };
        let size = i + 1;
        for gram in items.chunks_exact(size) {
            let Some(&column) = indexes.get(id) else { return bad("ngram_indexes", "must be one an n-gram") };
            if (least..=most).contains(&size) {
                columns.entry(gram.to_vec()).or_insert(column as usize);
            }
            id += 1;
        }
    }
    Ok(columns)
}

fn eval(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let attrs = cx.attrs();
    let bound = |name: &'static str, least: i64, default: i64| match attrs.int(name, default) {
        v if (least..=1 << 20).contains(&v) => Ok(v as usize),
        _ => bad(name, "is out of range"),
    };
    let (least, most) = (bound("min_gram_length", 1, 1)?, bound("max_gram_length", 1, 1)?);
    let skips = bound("max_skip_count", 0, 0)?;
    let columns = width(attrs.ints("ngram_indexes").unwrap_or(&[]))?;
    let weights = attrs.floats("weights").unwrap_or(&[]);
    if !weights.is_empty() && weights.len() != columns {
        return bad("weights", "must be one a column");
    }
    let (rows, length, shape) = match *x.shape() {
        [length] => (1, length, vec![columns]),
        [rows, length] => (rows, length, vec![rows, columns]),
        [] => (1, 1, vec![columns]),
        _ => return Err(OpError::Shape { what: "TfIdfVectorizer: [C] or [N, C]", got: x.shape().to_vec() }),
    };
    let mut counts = vec![0_u64; cx.charge(&[rows, columns], DType::U64)?];
    let grams = grams(cx, least, most)?;
    let x = tokens(x.data(), 0)?;
    for row in 0..rows {
        let tokens = &x[row * length..(row + 1) * length];
        // Single tokens do not depend on the skip and count once.
        for size in least..=most.min(length) {
            for step in 1..=if size == 1 { 1 } else { skips + 1 } {
                let Some(span) = (size - 1).checked_mul(step).filter(|&span| span < length) else { break };
                for start in 0..length - span {
                    let gram: Vec<Token> = (0..size).map(|i| tokens[start + i * step].clone()).collect();
                    if let Some(column) = grams.get(&gram) {
                        counts[row * columns + column] += 1;
                    }
                }
            }
        }
    }
    let weight = |i: usize| weights.get(i % columns).copied();
    let value: fn(u64, Option<f32>) -> f32 = match attrs.str("mode", "") {
        "TF" => |count, _| count as f32,
        "IDF" => |count, weight| if count > 0 { weight.unwrap_or(1.0) } else { 0.0 },
        "TFIDF" => |count, weight| weight.map_or(count as f32, |weight| weight * count as f32),
        _ => return bad("mode", "unknown value"),
    };
    let y = counts.iter().enumerate().map(|(i, &count)| value(count, weight(i))).collect();
    Ok(vec![Tensor::from_vec(shape, y)?])
}
