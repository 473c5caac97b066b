//! Labels and categories.

use std::collections::HashMap;
use std::hash::Hash;

use hallmark_receipt::{DType, Data, Tensor};

use super::texts;
use crate::graph::{Attrs, Dim, TypeInfo};
use crate::ops::{Domain, EvalCx, InferCx, OpDef, OpError};

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::OnnxMl,
        name: "LabelEncoder",
        versions: &[1, 2, 4],
        attrs: &[
            "classes_strings",
            "default_float",
            "default_int64",
            "default_string",
            "default_tensor",
            "keys_floats",
            "keys_int64s",
            "keys_strings",
            "keys_tensor",
            "values_floats",
            "values_int64s",
            "values_strings",
            "values_tensor",
        ],
        infer: infer_label_encoder,
        eval: label_encoder,
    },
    OpDef {
        domain: Domain::OnnxMl,
        name: "CategoryMapper",
        versions: &[1],
        attrs: &["cats_int64s", "cats_strings", "default_int64", "default_string"],
        infer: infer_swap,
        eval: category_mapper,
    },
    OpDef {
        domain: Domain::OnnxMl,
        name: "OneHotEncoder",
        versions: &[1],
        attrs: &["cats_int64s", "cats_strings", "zeros"],
        infer: infer_one_hot,
        eval: one_hot,
    },
];

/// A label as a key: numbers compare by value, -0 as +0, every NaN alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Int(i64),
    Float(u64),
    Str(String),
}

fn float_key(x: f64) -> Key {
    Key::Float(if x.is_nan() { u64::MAX } else { (x + 0.0).to_bits() })
}

fn keys(data: &Data, index: usize) -> Result<Vec<Key>, OpError> {
    Ok(match data {
        Data::I64(v) => v.iter().map(|&x| Key::Int(x)).collect(),
        Data::I32(v) => v.iter().map(|&x| Key::Int(x.into())).collect(),
        Data::I16(v) => v.iter().map(|&x| Key::Int(x.into())).collect(),
        Data::Bool(v) => v.iter().map(|&x| Key::Int(x.into())).collect(),
        Data::F32(v) => v.iter().map(|&x| float_key(x.into())).collect(),
        Data::F64(v) => v.iter().map(|&x| float_key(x)).collect(),
        Data::Str(v) => v.iter().map(|x| Key::Str(x.clone())).collect(),
        _ => return Err(OpError::InputType { index, got: data.dtype() }),
    })
}

/// The list among `PREFIXstrings`, `PREFIXint64s`, `PREFIXfloats` and `PREFIXtensor` that is there.
fn list(attrs: &Attrs, names: [&'static str; 4]) -> Result<Option<Data>, OpError> {
    let [strs, ints, floats, tensor] = names;
    Ok(if let Some(v) = attrs.strs(strs) {
        Some(Data::Str(texts(v, strs)?))
    } else if let Some(v) = attrs.ints(ints) {
        Some(Data::I64(v.to_vec()))
    } else if let Some(v) = attrs.floats(floats) {
        Some(Data::F32(v.to_vec()))
    } else {
        attrs.tensor(tensor).map(|t| t.data().clone())
    })
}

const KEYS: [&str; 4] = ["keys_strings", "keys_int64s", "keys_floats", "keys_tensor"];
const VALUES: [&str; 4] = ["values_strings", "values_int64s", "values_floats", "values_tensor"];

fn infer_label_encoder(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    if cx.node.version == 1 {
        return infer_swap(cx);
    }
    let dtype = list(cx.attrs(), VALUES)?.map(|v| v.dtype());
    Ok(vec![TypeInfo { dtype, shape: cx.input(0)?.shape.clone() }])
}

/// Text becomes integers, integers become text.
fn infer_swap(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let dtype = x.dtype.map(|dtype| if dtype == DType::Str { DType::I64 } else { DType::Str });
    Ok(vec![TypeInfo { dtype, shape: x.shape.clone() }])
}

fn label_encoder(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let attrs = cx.attrs();
    if cx.node.version == 1 {
        let classes = texts(attrs.strs("classes_strings").unwrap_or(&[]), "classes_strings")?;
        let indices = (0..classes.len() as i64).collect();
        return swap(cx, indices, classes);
    }
    let missing = |name| OpError::Attribute { name, why: "is missing" };
    let from = list(attrs, KEYS)?.ok_or_else(|| missing("keys_*"))?;
    let to = list(attrs, VALUES)?.ok_or_else(|| missing("values_*"))?;
    if from.len() != to.len() {
        return Err(OpError::Attribute { name: "values_*", why: "must be as many as the keys" });
    }
    let x = cx.input(0)?;
    if from.dtype() != x.dtype() {
        return Err(OpError::InputType { index: 0, got: x.dtype() });
    }
    let default = attrs.tensor("default_tensor");
    let text = || match attrs.0.get("default_string") {
        Some(crate::graph::Attr::Str(v)) => {
            texts(std::slice::from_ref(v), "default_string").map(|v| v.concat())
        }
        _ => Ok("_Unused".to_string()),
    };
    let (at, shape) = (positions(x, &from)?, x.shape().to_vec());
    let of = |t: &Tensor| OpError::InputType { index: 0, got: t.dtype() };
    macro_rules! map {
        ($values:expr, $t:ty, $fallback:expr) => {{
            let fallback: $t = match default {
                Some(t) => t.as_slice::<$t>().and_then(|v| v.first().cloned()).ok_or_else(|| of(t))?,
                None => $fallback,
            };
            let pick = |at: &Option<usize>| at.map_or_else(|| fallback.clone(), |i| $values[i].clone());
            Tensor::from_vec(shape, at.iter().map(pick).collect::<Vec<$t>>())?
        }};
    }
    Ok(vec![match &to {
        Data::Str(v) => map!(v, String, text()?),
        Data::I64(v) => map!(v, i64, attrs.int("default_int64", -1)),
        Data::F32(v) => map!(v, f32, attrs.float("default_float", -0.0)),
        Data::I32(v) => map!(v, i32, -1),
        Data::I16(v) => map!(v, i16, -1),
        Data::F64(v) => map!(v, f64, -0.0),
        _ => {
            return Err(OpError::Attribute {
                name: "values_tensor",
                why: "has an element type that is not taken",
            });
        }
    }])
}

/// For each element of `x` its position among `keys_data`; of equal keys the first counts.
fn positions(x: &Tensor, keys_data: &Data) -> Result<Vec<Option<usize>>, OpError> {
    let mut map = HashMap::new();
    for (i, key) in keys(keys_data, 0)?.into_iter().enumerate() {
        map.entry(key).or_insert(i);
    }
    Ok(keys(x.data(), 0)?.iter().map(|key| map.get(key).copied()).collect())
}

/// Maps text to the integer at its position, and integers to text; `default_int64`, `default_string` elsewhere.
fn swap(cx: &EvalCx<'_>, ints: Vec<i64>, strs: Vec<String>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let shape = x.shape().to_vec();
    let attrs = cx.attrs();
    Ok(vec![match x.data() {
        Data::Str(_) => {
            let default = attrs.int("default_int64", -1);
            let at = positions(x, &Data::Str(strs))?;
            Tensor::from_vec(shape, at.iter().map(|at| at.map_or(default, |i| ints[i])).collect())?
        }
        Data::I64(_) => {
            let default = attrs.str("default_string", "_Unused");
            let at = positions(x, &Data::I64(ints))?;
            let text = |at: &Option<usize>| at.map_or(default, |i| strs[i].as_str()).to_string();
            Tensor::from_vec(shape, at.iter().map(text).collect::<Vec<String>>())?
        }
        _ => return Err(OpError::InputType { index: 0, got: x.dtype() }),
    }])
}

fn category_mapper(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let ints = cx.attrs().ints("cats_int64s").unwrap_or(&[]).to_vec();
    let strs = texts(cx.attrs().strs("cats_strings").unwrap_or(&[]), "cats_strings")?;
    if ints.len() != strs.len() {
        return Err(OpError::Attribute { name: "cats_strings", why: "must be as many as cats_int64s" });
    }
    swap(cx, ints, strs)
}

fn infer_one_hot(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let categories =
        cx.attrs().ints("cats_int64s").map(<[_]>::len).or(cx.attrs().strs("cats_strings").map(<[_]>::len));
    let shape = cx.input(0)?.shape.as_ref().map(|dims| {
        let mut shape = dims.clone();
        shape.push(categories.map_or(Dim::Unknown, Dim::Known));
        shape
    });
    Ok(vec![TypeInfo { dtype: Some(DType::F32), shape }])
}

fn one_hot(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let categories = match (cx.attrs().ints("cats_int64s"), cx.attrs().strs("cats_strings")) {
        (Some(v), None) => Data::I64(v.to_vec()),
        (None, Some(v)) => Data::Str(texts(v, "cats_strings")?),
        _ => {
            return Err(OpError::Attribute {
                name: "cats_strings",
                why: "integers or texts are needed, not both",
            });
        }
    };
    // Numbers of other types count as the integer that they truncate to.
    let integers = match x.data() {
        Data::F32(v) => Some(v.iter().map(|&x| x as i64).collect()),
        Data::F64(v) => Some(v.iter().map(|&x| x as i64).collect()),
        Data::I32(v) => Some(v.iter().map(|&x| x.into()).collect::<Vec<i64>>()),
        _ => None,
    };
    let at = match integers {
        Some(v) => positions(&Tensor::vector(v), &categories)?,
        None => positions(x, &categories)?,
    };
    if cx.attrs().int("zeros", 1) == 0
        && let Some(i) = at.iter().position(Option::is_none)
    {
        return Err(OpError::Value { what: "a known category (zeros = 0); element", got: i as i64 });
    }
    let mut shape = x.shape().to_vec();
    shape.push(categories.len());
    let mut y = vec![0.0_f32; cx.charge(&shape, DType::F32)?];
    for (row, at) in at.iter().enumerate() {
        if let Some(at) = at {
            y[row * categories.len() + at] = 1.0;
        }
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}
