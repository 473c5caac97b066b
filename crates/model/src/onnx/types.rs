//! Declared types of graph inputs and outputs.

use super::{ImportError, Limits, proto};
use crate::graph::{Dim, Graph, TypeInfo};
use crate::ops::dispatch::dtype_of;

/// What the file says of an output.
#[derive(Clone, Debug)]
pub(super) enum Declared {
    /// A tensor, as far as it is described.
    Tensor(TypeInfo),
    /// A sequence of maps, which only ZipMap gives.
    Maps,
}

/// The type of a graph input: a tensor of a known element type.
pub(super) fn input(value: &proto::ValueInfo, limits: &Limits) -> Result<TypeInfo, ImportError> {
    match declared(value, limits)? {
        Declared::Tensor(info) if info.dtype.is_some() => Ok(info),
        Declared::Tensor(_) => Err(fault(value, "no element type")),
        Declared::Maps => Err(fault(value, "a sequence")),
    }
}

/// The type of a graph output.
pub(super) fn output(value: &proto::ValueInfo, limits: &Limits) -> Result<Declared, ImportError> {
    declared(value, limits)
}

fn fault(value: &proto::ValueInfo, what: &'static str) -> ImportError {
    ImportError::ValueType { name: value.name.clone(), what }
}

fn declared(value: &proto::ValueInfo, limits: &Limits) -> Result<Declared, ImportError> {
    use proto::TypeKind;
    let tensor = match value.r#type.as_ref().and_then(|t| t.kind.as_ref()) {
        None => return Ok(Declared::Tensor(TypeInfo::default())),
        Some(TypeKind::Tensor(tensor)) => tensor,
        Some(TypeKind::Sequence(element)) => {
            return match element.elem_type.as_ref().and_then(|t| t.kind.as_ref()) {
                Some(TypeKind::Map(_)) => Ok(Declared::Maps),
                _ => Err(fault(value, "a sequence")),
            };
        }
        Some(TypeKind::Map(_)) => return Err(fault(value, "a map")),
        Some(TypeKind::SparseTensor(_)) => return Err(fault(value, "a sparse tensor")),
        Some(TypeKind::Optional(_)) => return Err(fault(value, "an optional")),
    };
    let element = match tensor.elem_type {
        0 => None,
        code => Some(
            dtype_of(code.into())
                .ok_or_else(|| ImportError::TensorType { name: value.name.clone(), got: tensor.elem_type })?,
        ),
    };
    let shape = tensor.shape.as_ref().map(|shape| dims(value, shape, limits)).transpose()?;
    Ok(Declared::Tensor(TypeInfo { dtype: element, shape }))
}

fn dims(value: &proto::ValueInfo, shape: &proto::Shape, limits: &Limits) -> Result<Vec<Dim>, ImportError> {
    if shape.dim.len() > limits.rank {
        return Err(fault(value, "too many dimensions"));
    }
    let dim = |dim: &proto::Dimension| match &dim.value {
        None => Ok(Dim::Unknown),
        Some(proto::DimensionValue::Param(name)) if name.is_empty() => Ok(Dim::Unknown),
        Some(proto::DimensionValue::Param(name)) => Ok(Dim::Symbol(name.clone())),
        Some(proto::DimensionValue::Value(n)) => usize::try_from(*n)
            .map(Dim::Known)
            .map_err(|_| ImportError::Dimension { name: value.name.clone(), got: *n }),
    };
    shape.dim.iter().map(dim).collect()
}

/// Compares what the file declares of its outputs with what inference found. Declared shapes are not compared: converters
/// write wrong ones (skl2onnx for a binary RidgeClassifier), runtimes only warn, and nothing here reads them.
pub(super) fn check_outputs(graph: &Graph, declared: &[(String, Declared)]) -> Result<(), ImportError> {
    for (id, (name, declared)) in graph.outputs.iter().zip(declared) {
        let maps = graph.output_keys.get(id);
        let declared = match (declared, maps) {
            (Declared::Maps, Some(_)) => continue,
            (Declared::Maps, None) => {
                return Err(ImportError::ValueType { name: name.clone(), what: "a sequence" });
            }
            (Declared::Tensor(info), Some(_)) if *info == TypeInfo::default() => continue,
            (Declared::Tensor(_), Some(_)) => {
                return Err(ImportError::ValueType {
                    name: name.clone(),
                    what: "declared as a tensor, but is a sequence of maps",
                });
            }
            (Declared::Tensor(info), None) => info,
        };
        let Some(found) = graph.values.get(id.0).map(|value| &value.info) else { continue };
        if let (Some(expected), Some(got)) = (declared.dtype, found.dtype)
            && expected != got
        {
            return Err(ImportError::OutputType { name: name.clone(), expected, got });
        }
    }
    Ok(())
}
