//! Every version of every operator that ONNX defines: what the importer checks a node against, whether or not this crate
//! implements it. Written by `scripts/onnx-schema.py`; the operators of `ai.hallmark` stand in a file of their own.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ops::Domain;

/// The oldest `ai.onnx` opset that is read.
pub const OLDEST: u32 = 7;
/// The newest opset of `domain` that the table knows.
pub const fn newest(domain: Domain) -> u32 {
    match domain {
        Domain::Onnx => 28,
        Domain::OnnxMl => 5,
        Domain::Hallmark => 1,
    }
}

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AttrType {
    Float,
    Int,
    Str,
    Tensor,
    Graph,
    Floats,
    Ints,
    Strs,
    /// Sparse tensors, types, and lists of tensors or graphs, which no supported operator takes.
    Refused,
}

/// One version of an operator.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The opset that brought it.
    pub since: u32,
    /// Whether this version only says that the operator is gone.
    pub gone: bool,
    /// Least and greatest number of inputs.
    pub inputs: (usize, usize),
    /// Least and greatest number of outputs.
    pub outputs: (usize, usize),
    /// Attributes: name, type, whether required.
    pub attrs: Vec<(&'static str, AttrType, bool)>,
    /// What each declared input may be; the last one repeats where inputs are variadic.
    pub input_types: Vec<Formal>,
}

/// The types that one input takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formal {
    /// Bit i is `DType::ALL[i]`; bit 14 any other type.
    pub mask: u16,
    /// Inputs of the same group have the same type.
    pub group: Option<&'static str>,
    /// Whether it repeats, each time with a type of its own.
    pub heterogeneous: bool,
}

/// ONNX's own operators, then those of `quantised.md` §2, a line each.
fn lines() -> impl Iterator<Item = &'static str> {
    let files = [include_str!("schema.txt"), include_str!("schema-hallmark.txt")];
    files.into_iter().flat_map(str::lines).filter(|line| !line.starts_with('#'))
}

type Table = HashMap<Domain, HashMap<&'static str, Vec<Schema>>>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::new();
    for line in lines() {
        if let Some(((domain, name), schema)) = parse(line) {
            table.entry(domain).or_default().entry(name).or_default().push(schema);
        }
    }
    table
});

/// All versions of operator `name`, ascending; empty where ONNX has none.
pub fn versions(domain: Domain, name: &str) -> &'static [Schema] {
    TABLE.get(&domain).and_then(|names| names.get(name)).map_or(&[], Vec::as_slice)
}

/// The version of operator `name` that opset `opset` means.
pub fn in_force(domain: Domain, name: &str, opset: u32) -> Option<&'static Schema> {
    versions(domain, name).iter().rev().find(|schema| schema.since <= opset)
}

fn parse(line: &'static str) -> Option<((Domain, &'static str), Schema)> {
    let mut fields = line.split(' ');
    let domain = match fields.next()? {
        "ai.onnx" => Domain::Onnx,
        "ai.onnx.ml" => Domain::OnnxMl,
        "ai.hallmark" => Domain::Hallmark,
        _ => return None,
    };
    let name = fields.next()?;
    let since = fields.next()?.parse().ok()?;
    let gone = fields.next()? == "gone";
    let inputs = range(fields.next()?)?;
    let outputs = range(fields.next()?)?;
    let attrs = list(fields.next()?).map(attribute).collect::<Option<_>>()?;
    let groups: HashMap<_, _> = list(fields.next()?)
        .map(|item| item.split_once('=').and_then(|(name, bits)| Some((name, mask(bits)?))))
        .collect::<Option<_>>()?;
    let input_types = list(fields.next()?).map(|item| formal(item, &groups)).collect::<Option<_>>()?;
    fields.next()?;
    Some(((domain, name), Schema { since, gone, inputs, outputs, attrs, input_types }))
}

fn list(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split(',').filter(|item| *item != "-")
}

fn range(text: &str) -> Option<(usize, usize)> {
    let (low, high) = text.split_once("..")?;
    Some((low.parse().ok()?, if high == "n" { usize::MAX } else { high.parse().ok()? }))
}

fn attribute(text: &'static str) -> Option<(&'static str, AttrType, bool)> {
    let (name, kind) = text.split_once(':')?;
    let (kind, required) = kind.strip_suffix('!').map_or((kind, false), |kind| (kind, true));
    let kind = match kind {
        "f" => AttrType::Float,
        "i" => AttrType::Int,
        "s" => AttrType::Str,
        "t" => AttrType::Tensor,
        "g" => AttrType::Graph,
        "F" => AttrType::Floats,
        "I" => AttrType::Ints,
        "S" => AttrType::Strs,
        _ => AttrType::Refused,
    };
    Some((name, kind, required))
}

fn mask(bits: &str) -> Option<u16> {
    u16::from_str_radix(bits, 16).ok()
}

fn formal(text: &'static str, groups: &HashMap<&'static str, u16>) -> Option<Formal> {
    let heterogeneous = text.ends_with('~');
    let name = text.trim_end_matches(['?', '*', '~']);
    Some(match name.strip_prefix('=') {
        Some(bits) => Formal { mask: mask(bits)?, group: None, heterogeneous },
        None => Formal { mask: *groups.get(name)?, group: Some(name), heterogeneous },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_parses_and_the_newest_versions_are_those_of_the_table() {
        let lines = lines().count();
        assert_eq!(TABLE.values().flat_map(HashMap::values).map(Vec::len).sum::<usize>(), lines);
        for domain in Domain::ALL {
            let found = TABLE[&domain].values().flatten();
            assert_eq!(found.map(|schema| schema.since).max(), Some(newest(domain)));
        }
    }

    #[test]
    fn versions_ascend_and_the_one_in_force_is_the_greatest_not_above_the_opset() {
        assert!(TABLE.values().flat_map(HashMap::values).all(|v| v.is_sorted_by(|a, b| a.since < b.since)));
        let since = |opset| in_force(Domain::Onnx, "Softmax", opset).map(|schema| schema.since);
        assert_eq!((since(7), since(12), since(13), since(28)), (Some(1), Some(11), Some(13), Some(13)));
        assert!(in_force(Domain::Onnx, "Gelu", 19).is_none());
        assert!(in_force(Domain::Onnx, "Upsample", 10).is_some_and(|schema| schema.gone));
    }
}
