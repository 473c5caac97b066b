//! Writes ONNX files: what the quantiser makes goes the way of every other model.

use hallmark_receipt::commit::data_bytes;
use hallmark_receipt::{Data, Tensor};
use prost::Message as _;

use super::lower::domain_name;
use super::proto;
use crate::graph::{Attr, Dim, TypeInfo};
use crate::ops::Domain;
use crate::ops::dispatch::number_of;

/// A file in the making. Names are the caller's, who keeps them unique.
#[derive(Debug, Default)]
pub struct Writer {
    graph: proto::Graph,
}

impl Writer {
    /// An input of the graph.
    pub fn input(&mut self, name: &str, info: &TypeInfo) {
        self.graph.input.push(value(name, info));
    }

    /// An output of the graph.
    pub fn output(&mut self, name: &str, info: &TypeInfo) {
        self.graph.output.push(value(name, info));
    }

    /// A constant.
    pub fn constant(&mut self, name: &str, tensor: &Tensor) {
        self.graph.initializer.push(self::tensor(name, tensor));
    }

    /// A node. An attribute that is a graph is left out: no operator that the quantiser writes has one.
    pub fn node(
        &mut self,
        domain: Domain,
        op: &str,
        inputs: Vec<String>,
        outputs: Vec<String>,
        attrs: impl IntoIterator<Item = (String, Attr)>,
    ) {
        let attribute = attrs.into_iter().filter_map(|(name, attr)| attribute(name, attr)).collect();
        let name = outputs.first().cloned().unwrap_or_default();
        let (domain, op_type) = (domain_name(domain).to_owned(), op.to_owned());
        let node = proto::Node {
            input: inputs,
            output: outputs,
            name,
            op_type,
            attribute,
            domain,
            overload: String::new(),
        };
        self.graph.node.push(node);
    }

    /// The file, of opset `onnx` of `ai.onnx` and the newest of the other domains.
    pub fn finish(self, onnx: u32) -> Vec<u8> {
        let opset = |domain: Domain, version: u32| proto::OperatorSetId {
            domain: Some(domain_name(domain).to_owned()),
            version: Some(version.into()),
        };
        let own = super::schema::newest(Domain::Hallmark);
        let mut opsets = vec![opset(Domain::Onnx, onnx), opset(Domain::Hallmark, own)];
        if self.graph.node.iter().any(|node| node.domain == domain_name(Domain::OnnxMl)) {
            opsets.push(opset(Domain::OnnxMl, super::schema::newest(Domain::OnnxMl)));
        }
        let model = proto::Model {
            ir_version: Some(10),
            graph: Some(self.graph),
            opset_import: opsets,
            functions: Vec::new(),
        };
        model.encode_to_vec()
    }
}

fn value(name: &str, info: &TypeInfo) -> proto::ValueInfo {
    let dim = |dim: &Dim| proto::Dimension {
        value: match dim {
            Dim::Known(n) => Some(proto::DimensionValue::Value(i64::try_from(*n).unwrap_or(i64::MAX))),
            Dim::Symbol(name) => Some(proto::DimensionValue::Param(name.clone())),
            Dim::Unknown => None,
        },
    };
    let shape = info.shape.as_ref().map(|shape| proto::Shape { dim: shape.iter().map(dim).collect() });
    let tensor = proto::TensorType { elem_type: info.dtype.map_or(0, number_of), shape };
    let kind = Some(proto::TypeKind::Tensor(tensor));
    proto::ValueInfo { name: name.to_owned(), r#type: Some(proto::Type { kind }) }
}

fn tensor(name: &str, tensor: &Tensor) -> proto::Tensor {
    let dims = tensor.shape().iter().map(|&n| i64::try_from(n).unwrap_or(i64::MAX)).collect();
    let mut out = proto::Tensor {
        dims,
        data_type: number_of(tensor.dtype()),
        name: name.to_owned(),
        ..proto::Tensor::default()
    };
    match tensor.data() {
        Data::Str(texts) => out.string_data = texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
        data => out.raw_data = Some(data_bytes(data)),
    }
    out
}

/// The types are ONNX's `AttributeType`.
fn attribute(name: String, attr: Attr) -> Option<proto::Attribute> {
    let mut out = proto::Attribute { name, ..proto::Attribute::default() };
    match attr {
        Attr::Float(x) => (out.r#type, out.f) = (1, Some(x)),
        Attr::Int(x) => (out.r#type, out.i) = (2, Some(x)),
        Attr::Str(x) => (out.r#type, out.s) = (3, Some(x)),
        Attr::Tensor(x) => (out.r#type, out.t) = (4, Some(tensor("", &x))),
        Attr::Graph(_) => return None,
        Attr::Floats(x) => (out.r#type, out.floats) = (6, x),
        Attr::Ints(x) => (out.r#type, out.ints) = (7, x),
        Attr::Strs(x) => (out.r#type, out.strings) = (8, x),
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Limits, NoExternalData, import};
    use hallmark_receipt::DType;

    #[test]
    fn what_is_written_imports_as_it_was_meant() {
        let mut writer = Writer::default();
        let shape = Some(vec![Dim::Symbol("n".into()), Dim::Known(2)]);
        let info = |dtype| TypeInfo { dtype: Some(dtype), shape: shape.clone() };
        writer.input("x", &info(DType::F32));
        writer.constant("scale", &Tensor::scalar(0.5_f32));
        writer.constant("zero", &Tensor::scalar(0_i8));
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let attrs = [("axis".to_owned(), Attr::Int(0))];
        writer.node(Domain::Onnx, "QuantizeLinear", names(&["x", "scale", "zero"]), names(&["q"]), attrs);
        let table = Attr::Ints((0..256).map(|i| 127 - i).collect());
        let attrs = [("table".to_owned(), table), ("to".to_owned(), Attr::Int(3))];
        writer.node(Domain::Hallmark, "Table", names(&["q"]), names(&["y"]), attrs);
        writer.output("y", &info(DType::I8));
        let graph = import(&writer.finish(21), &NoExternalData, &Limits::default()).unwrap();
        let x = Tensor::from_vec(vec![1, 2], vec![1.0_f32, -64.0]).unwrap();
        let y = crate::reference::run(&graph, &[&x], 1 << 20).unwrap();
        assert_eq!(y, [Tensor::from_vec(vec![1, 2], vec![-3_i8, 127]).unwrap()]);
        assert_eq!(graph.nodes[0].version, 21);
        assert_eq!((graph.nodes[1].op.domain, graph.nodes[1].version), (Domain::Hallmark, 1));
    }
}
