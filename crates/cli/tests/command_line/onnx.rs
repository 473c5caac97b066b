//! Just enough protobuf to write small ONNX models, good and bad.

/// A model of opset 17 with these nodes; input `x` and output `y` are float32 of the given sizes, 0 standing for an open one.
pub struct Model {
    pub nodes: Vec<Vec<u8>>,
    pub initializers: Vec<Vec<u8>>,
    pub input: Vec<i64>,
    pub output: Vec<i64>,
}

impl Model {
    pub fn new(nodes: Vec<Vec<u8>>) -> Self {
        Self { nodes, initializers: Vec::new(), input: vec![2], output: vec![2] }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut graph = Vec::new();
        self.nodes.iter().for_each(|node| graph.extend(bytes(1, node)));
        graph.extend(text(2, "g"));
        self.initializers.iter().for_each(|tensor| graph.extend(bytes(5, tensor)));
        graph.extend(bytes(11, &value("x", &self.input)));
        graph.extend(bytes(12, &value("y", &self.output)));
        [int(1, 8), bytes(7, &graph), bytes(8, &[text(1, ""), int(2, 17)].concat())].concat()
    }
}

/// A node named after its operator.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    let mut node = Vec::new();
    inputs.iter().for_each(|name| node.extend(text(1, name)));
    outputs.iter().for_each(|name| node.extend(text(2, name)));
    [node, text(3, &format!("the_{}", op.to_lowercase())), text(4, op)].concat()
}

/// An int64 vector.
pub fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [int(1, values.len() as u64), int(2, 7), text(8, name), bytes(9, &raw)].concat()
}

/// A float32 vector whose bytes are in another file.
pub fn external(name: &str, len: u64, location: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| bytes(13, &[text(1, key), text(2, value)].concat());
    [int(1, len), int(2, 1), text(8, name), entry("location", location), int(14, 1)].concat()
}

fn value(name: &str, sizes: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = sizes
        .iter()
        .flat_map(|size| bytes(1, &if *size == 0 { text(2, "n") } else { int(1, *size as u64) }))
        .collect();
    let tensor = [int(1, 1), bytes(2, &dims)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}

fn int(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}
