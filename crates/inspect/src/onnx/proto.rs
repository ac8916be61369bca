//! The few messages of ONNX that an export needs, encoded by hand: fields are appended as numbers and bytes.
//!
//! Field numbers are those of `onnx.proto`, which is an open standard; every message is a list of fields in any order.

use aio_ir::{DType, Dim, TensorType};

/// An encoded message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// The bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    /// An integer field.
    pub(super) fn int(mut self, field: u32, value: i64) -> Message {
        self.key(field, 0);
        self.varint(value as u64);
        self
    }

    /// A float field.
    pub(super) fn float(mut self, field: u32, value: f32) -> Message {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A field of bytes.
    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Message {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A field of text.
    pub(super) fn text(self, field: u32, value: &str) -> Message {
        self.bytes(field, value.as_bytes())
    }

    /// A field that is a message.
    pub(super) fn message(self, field: u32, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }
}

/// An attribute of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
}

/// A node: op, domain (empty for the standard one), operands, results, attributes.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub op: &'static str,
    pub domain: &'static str,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: Vec<(&'static str, Value)>,
}

impl Node {
    pub(super) fn message(&self, name: &str, doc: &str) -> Message {
        let mut node = Message::default();
        node = self.inputs.iter().fold(node, |m, input| m.text(1, input));
        node = self.outputs.iter().fold(node, |m, output| m.text(2, output));
        node = node.text(3, name).text(4, self.op);
        node = self.attributes.iter().fold(node, |m, (name, value)| m.message(5, &attribute(name, value)));
        node.text(6, doc).text(7, self.domain)
    }
}

fn attribute(name: &str, value: &Value) -> Message {
    let message = Message::default().text(1, name);
    match value {
        Value::Float(x) => message.float(2, *x).int(20, 1),
        Value::Int(x) => message.int(3, *x).int(20, 2),
        Value::Text(x) => message.text(4, x).int(20, 3),
        Value::Ints(all) => all.iter().fold(message, |m, x| m.int(8, *x)).int(20, 7),
    }
}

/// Number of an element type; block formats count as f32, which is what their weights decode to.
pub(super) fn element(dtype: DType) -> i64 {
    match dtype {
        DType::U8 => 2,
        DType::I8 => 3,
        DType::I32 => 6,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::U32 => 12,
        DType::BF16 => 16,
        _ => FLOAT,
    }
}

/// The domain of ops that the standard lacks.
pub(super) const OWN: &str = "aio";

/// Number of the element type f32, and of 64-bit integers.
pub(super) const FLOAT: i64 = 1;
pub(super) const INT64: i64 = 7;

/// An input or output of the graph.
pub(super) fn value(name: &str, ty: &TensorType, doc: &str) -> Message {
    let dim = |d: &Dim| match d.known() {
        Some(n) => Message::default().int(1, n as i64),
        None => Message::default().text(2, &d.to_string()),
    };
    let shape = ty.shape.dims().iter().fold(Message::default(), |m, d| m.message(1, &dim(d)));
    let tensor = Message::default().int(1, element(ty.dtype)).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor)).text(3, doc)
}

/// A constant of integers.
pub(super) fn integers(name: &str, values: &[i64]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Message::default().int(1, values.len() as i64).int(2, INT64).text(8, name).bytes(9, &bytes)
}

/// An integer without dimensions.
pub(super) fn integer(name: &str, value: i64) -> Message {
    Message::default().int(2, INT64).text(8, name).bytes(9, &value.to_le_bytes())
}

/// A constant without dimensions.
pub(super) fn scalar(name: &str, value: f32) -> Message {
    Message::default().int(2, FLOAT).text(8, name).bytes(9, &value.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_the_format_says() {
        let message = Message::default().int(1, 300).text(2, "ab").float(3, 1.0);
        assert_eq!(message.0, [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::default().int(1, -1).0.len(), 11, "negative numbers take ten bytes");
    }
}
