//! A node's attributes, checked against the operator's schema.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use hallmark_receipt::Tensor;

use super::schema::{AttrType, Schema};
use super::tensor::Tensors;
use super::{ImportError, proto};
use crate::graph::Attr;

/// The attributes of a function call, by name, for the nodes inside the function.
pub(super) type Frame = HashMap<String, proto::Attribute>;

/// Who asks, for messages.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub node: &'a str,
    pub op: &'a str,
    pub version: u32,
}

/// Plain attributes, and subgraphs by attribute name.
#[derive(Default)]
pub(super) struct Split {
    pub plain: BTreeMap<String, Attr>,
    pub graphs: BTreeMap<String, proto::Graph>,
}

/// Replaces references to the attributes of the enclosing function call; one that the call leaves out disappears.
pub(super) fn resolve(
    attributes: Vec<proto::Attribute>,
    frame: Option<&Frame>,
    node: &str,
) -> Result<Vec<proto::Attribute>, ImportError> {
    let mut seen = HashSet::new();
    let mut resolved = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        if !seen.insert(attribute.name.clone()) {
            return Err(ImportError::DuplicateAttribute { node: node.to_owned(), attribute: attribute.name });
        }
        if attribute.ref_attr_name.is_empty() {
            resolved.push(attribute);
            continue;
        }
        let frame = frame.ok_or_else(|| ImportError::AttributeReference {
            node: node.to_owned(),
            attribute: attribute.ref_attr_name.clone(),
        })?;
        if let Some(given) = frame.get(&attribute.ref_attr_name) {
            if attribute.r#type != 0 && given.r#type != 0 && attribute.r#type != given.r#type {
                return Err(ImportError::AttributeType {
                    node: node.to_owned(),
                    attribute: attribute.name,
                    got: given.r#type,
                });
            }
            resolved.push(proto::Attribute { name: attribute.name, ..given.clone() });
        }
    }
    Ok(resolved)
}

/// Checks resolved attributes against `schema` and converts them.
pub(super) fn split(
    attributes: Vec<proto::Attribute>,
    schema: &Schema,
    owner: Owner<'_>,
    tensors: &mut Tensors<'_>,
) -> Result<Split, ImportError> {
    let mut split = Split::default();
    for attribute in attributes {
        let Some((_, kind, _)) = schema.attrs.iter().find(|(name, ..)| *name == attribute.name) else {
            return Err(ImportError::UnknownAttribute {
                node: owner.node.to_owned(),
                op: owner.op.to_owned(),
                version: owner.version,
                attribute: attribute.name,
            });
        };
        convert(attribute, *kind, owner, tensors, &mut split)?;
    }
    for (name, _, required) in &schema.attrs {
        if *required && !split.plain.contains_key(*name) && !split.graphs.contains_key(*name) {
            return Err(ImportError::MissingAttribute {
                node: owner.node.to_owned(),
                op: owner.op.to_owned(),
                version: owner.version,
                attribute: (*name).to_owned(),
            });
        }
    }
    Ok(split)
}

/// `AttributeProto.AttributeType` of each kind.
fn code(kind: AttrType) -> Option<i32> {
    Some(match kind {
        AttrType::Float => 1,
        AttrType::Int => 2,
        AttrType::Str => 3,
        AttrType::Tensor => 4,
        AttrType::Graph => 5,
        AttrType::Floats => 6,
        AttrType::Ints => 7,
        AttrType::Strs => 8,
        AttrType::Refused => return None,
    })
}

fn convert(
    attribute: proto::Attribute,
    kind: AttrType,
    owner: Owner<'_>,
    tensors: &mut Tensors<'_>,
    split: &mut Split,
) -> Result<(), ImportError> {
    let name = attribute.name.clone();
    let Some(expected) = code(kind) else {
        return Err(ImportError::UnsupportedAttribute {
            node: owner.node.to_owned(),
            op: owner.op.to_owned(),
            version: owner.version,
            attribute: name,
        });
    };
    let got = attribute.r#type;
    let fault = || ImportError::AttributeType { node: owner.node.to_owned(), attribute: name.clone(), got };
    // Type 0 is what files of the first IR version have: the schema says what they mean.
    if (got != 0 && got != expected) || foreign(&attribute, kind) {
        return Err(fault());
    }
    let attr = match kind {
        AttrType::Float => Attr::Float(canonical(attribute.f.unwrap_or(0.0))),
        AttrType::Int => Attr::Int(attribute.i.unwrap_or(0)),
        AttrType::Str => Attr::Str(attribute.s.unwrap_or_default()),
        AttrType::Tensor => {
            let proto = attribute.t.ok_or_else(fault)?;
            Attr::Tensor(Arc::new(tensors.read(proto, &format!("{}.{name}", owner.node))?))
        }
        AttrType::Graph => {
            split.graphs.insert(name.clone(), attribute.g.ok_or_else(fault)?);
            return Ok(());
        }
        AttrType::Floats => Attr::Floats(attribute.floats.into_iter().map(canonical).collect()),
        AttrType::Ints => Attr::Ints(attribute.ints),
        AttrType::Strs => Attr::Strs(attribute.strings),
        AttrType::Refused => return Err(fault()),
    };
    split.plain.insert(name, attr);
    Ok(())
}

/// Whether a field of another kind holds something.
fn foreign(attribute: &proto::Attribute, kind: AttrType) -> bool {
    let filled = [
        (AttrType::Float, attribute.f.is_some_and(|f| f.to_bits() != 0)),
        (AttrType::Int, attribute.i.is_some_and(|i| i != 0)),
        (AttrType::Str, attribute.s.as_ref().is_some_and(|s| !s.is_empty())),
        (AttrType::Tensor, attribute.t.is_some()),
        (AttrType::Graph, attribute.g.is_some()),
        (AttrType::Floats, !attribute.floats.is_empty()),
        (AttrType::Ints, !attribute.ints.is_empty()),
        (AttrType::Strs, !attribute.strings.is_empty()),
    ];
    filled.into_iter().any(|(other, filled)| filled && other != kind)
}

fn canonical(x: f32) -> f32 {
    crate::numeric::canonical_f32(x)
}

/// The tensor that a `Constant` node stands for.
pub(super) fn constant(
    mut plain: BTreeMap<String, Attr>,
    owner: Owner<'_>,
) -> Result<Arc<Tensor>, ImportError> {
    let count = plain.len();
    let missing = || ImportError::MissingAttribute {
        node: owner.node.to_owned(),
        op: owner.op.to_owned(),
        version: owner.version,
        attribute: "value".to_owned(),
    };
    let (name, attr) = plain.pop_first().ok_or_else(missing)?;
    if count > 1 {
        return Err(ImportError::DuplicateAttribute { node: owner.node.to_owned(), attribute: name });
    }
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|_| ImportError::Tensor {
            name: owner.node.to_owned(),
            what: "has an element outside its data type",
        })
    };
    Ok(match attr {
        Attr::Tensor(tensor) => tensor,
        Attr::Float(x) => Arc::new(Tensor::scalar(x)),
        Attr::Int(x) => Arc::new(Tensor::scalar(x)),
        Attr::Floats(x) => Arc::new(Tensor::vector(x)),
        Attr::Ints(x) => Arc::new(Tensor::vector(x)),
        Attr::Str(x) => Arc::new(Tensor::scalar(text(x)?)),
        Attr::Strs(x) => {
            Arc::new(Tensor::vector(x.into_iter().map(text).collect::<Result<Vec<String>, _>>()?))
        }
        Attr::Graph(_) => return Err(missing()),
    })
}
