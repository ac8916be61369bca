//! Metadata values: views of the file's bytes, and owned ones for the writer.
//!
//! A [`Value`] borrows texts and arrays from the map. An [`Array`] decodes its elements during iteration, so that a
//! vocabulary of 150,000 tokens costs nothing until it is read.

use std::fmt;

/// The type of a metadata value, numbered as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueType {
    /// Unsigned 8-bit.
    U8 = 0,
    /// Signed 8-bit.
    I8 = 1,
    /// Unsigned 16-bit.
    U16 = 2,
    /// Signed 16-bit.
    I16 = 3,
    /// Unsigned 32-bit.
    U32 = 4,
    /// Signed 32-bit.
    I32 = 5,
    /// IEEE binary32.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// UTF-8 with a 64-bit length.
    Str = 8,
    /// Elements of one type.
    Array = 9,
    /// Unsigned 64-bit.
    U64 = 10,
    /// Signed 64-bit.
    I64 = 11,
    /// IEEE binary64.
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::Str,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type with this number in the file.
    pub fn from_id(id: u32) -> Option<ValueType> {
        ValueType::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Size of one value in bytes, for fixed-size types.
    pub const fn fixed_bytes(self) -> Option<usize> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::Str | ValueType::Array => None,
        }
    }

    /// The name for display, such as `u32` or `array`.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::Str => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A metadata value, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of ValueType")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(&'a str),
    /// A string that is not UTF-8.
    Bytes(&'a [u8]),
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// The value's type.
    pub fn ty(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F32(_) => ValueType::F32,
            Value::F64(_) => ValueType::F64,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) | Value::Bytes(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
        }
    }

    /// The value of any integer type; `None` for other types.
    pub fn as_int(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// The value of a float type, rounded to f32; `None` for other types.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The text of a string; `None` for other types and for a string that is not UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Value::Str(v) => Some(v),
            _ => None,
        }
    }

    /// The owned form, for [`super::write::GgufWriter`].
    pub fn to_meta(&self) -> MetaValue {
        match *self {
            Value::U8(v) => MetaValue::U8(v),
            Value::I8(v) => MetaValue::I8(v),
            Value::U16(v) => MetaValue::U16(v),
            Value::I16(v) => MetaValue::I16(v),
            Value::U32(v) => MetaValue::U32(v),
            Value::I32(v) => MetaValue::I32(v),
            Value::U64(v) => MetaValue::U64(v),
            Value::I64(v) => MetaValue::I64(v),
            Value::F32(v) => MetaValue::F32(v),
            Value::F64(v) => MetaValue::F64(v),
            Value::Bool(v) => MetaValue::Bool(v),
            Value::Str(v) => MetaValue::Str(v.to_owned()),
            Value::Bytes(v) => MetaValue::Bytes(v.to_vec()),
            Value::Array(a) => MetaValue::Array(a.elem(), a.iter().map(|v| v.to_meta()).collect()),
        }
    }
}

/// An array of metadata values of one type, decoded during iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    pub(super) elem: ValueType,
    pub(super) len: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The type of the elements.
    pub fn elem(&self) -> ValueType {
        self.elem
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the elements in the file, including lengths of texts.
    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The elements, in order.
    pub fn iter(&self) -> ArrayIter<'a> {
        ArrayIter { elem: self.elem, left: self.len, bytes: self.bytes }
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

/// Iterator over an [`Array`]. Ends early if the file's bytes changed and are now invalid.
#[derive(Clone, Debug)]
pub struct ArrayIter<'a> {
    elem: ValueType,
    left: usize,
    bytes: &'a [u8],
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        take_value(&mut self.bytes, self.elem)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(n)?;
    *bytes = tail;
    Some(head)
}

fn take_n<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    take(bytes, N)?.try_into().ok()
}

/// Removes one value of type `ty` from the front; `None` if the bytes are invalid.
pub(super) fn take_value<'a>(bytes: &mut &'a [u8], ty: ValueType) -> Option<Value<'a>> {
    Some(match ty {
        ValueType::U8 => Value::U8(u8::from_le_bytes(take_n(bytes)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(take_n(bytes)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(take_n(bytes)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(take_n(bytes)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(take_n(bytes)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(take_n(bytes)?)),
        ValueType::U64 => Value::U64(u64::from_le_bytes(take_n(bytes)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(take_n(bytes)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(take_n(bytes)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(take_n(bytes)?)),
        ValueType::Bool => Value::Bool(take_n::<1>(bytes)?[0] != 0),
        ValueType::Str => {
            take_text(bytes).map(|text| std::str::from_utf8(text).map_or(Value::Bytes(text), Value::Str))?
        }
        ValueType::Array => Value::Array(take_array(bytes)?),
    })
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(u64::from_le_bytes(take_n(bytes)?)).ok()?;
    take(bytes, len)
}

fn take_array<'a>(bytes: &mut &'a [u8]) -> Option<Array<'a>> {
    let elem = ValueType::from_id(u32::from_le_bytes(take_n(bytes)?))?;
    let len = usize::try_from(u64::from_le_bytes(take_n(bytes)?)).ok()?;
    let start = *bytes;
    match (elem, elem.fixed_bytes()) {
        (_, Some(size)) => {
            take(bytes, size.checked_mul(len)?)?;
        }
        (ValueType::Str, None) => {
            for _ in 0..len {
                take_text(bytes)?;
            }
        }
        (_, None) => {
            for _ in 0..len {
                take_value(bytes, elem)?;
            }
        }
    }
    Some(Array { elem, len, bytes: &start[..start.len() - bytes.len()] })
}

/// A metadata value to write.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of ValueType")]
pub enum MetaValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    /// A string that is not UTF-8.
    Bytes(Vec<u8>),
    /// Elements of the given type. The caller must not mix types.
    Array(ValueType, Vec<MetaValue>),
}

impl MetaValue {
    /// The value of any integer type; `None` for other types.
    pub fn as_int(&self) -> Option<i128> {
        Some(match *self {
            MetaValue::U8(v) => v.into(),
            MetaValue::I8(v) => v.into(),
            MetaValue::U16(v) => v.into(),
            MetaValue::I16(v) => v.into(),
            MetaValue::U32(v) => v.into(),
            MetaValue::I32(v) => v.into(),
            MetaValue::U64(v) => v.into(),
            MetaValue::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// The value's type.
    pub fn ty(&self) -> ValueType {
        match self {
            MetaValue::U8(_) => ValueType::U8,
            MetaValue::I8(_) => ValueType::I8,
            MetaValue::U16(_) => ValueType::U16,
            MetaValue::I16(_) => ValueType::I16,
            MetaValue::U32(_) => ValueType::U32,
            MetaValue::I32(_) => ValueType::I32,
            MetaValue::U64(_) => ValueType::U64,
            MetaValue::I64(_) => ValueType::I64,
            MetaValue::F32(_) => ValueType::F32,
            MetaValue::F64(_) => ValueType::F64,
            MetaValue::Bool(_) => ValueType::Bool,
            MetaValue::Str(_) | MetaValue::Bytes(_) => ValueType::Str,
            MetaValue::Array(..) => ValueType::Array,
        }
    }

    /// Appends the value as stored in the file, without its type number.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            MetaValue::U8(v) => out.push(*v),
            MetaValue::I8(v) => out.extend(v.to_le_bytes()),
            MetaValue::U16(v) => out.extend(v.to_le_bytes()),
            MetaValue::I16(v) => out.extend(v.to_le_bytes()),
            MetaValue::U32(v) => out.extend(v.to_le_bytes()),
            MetaValue::I32(v) => out.extend(v.to_le_bytes()),
            MetaValue::U64(v) => out.extend(v.to_le_bytes()),
            MetaValue::I64(v) => out.extend(v.to_le_bytes()),
            MetaValue::F32(v) => out.extend(v.to_le_bytes()),
            MetaValue::F64(v) => out.extend(v.to_le_bytes()),
            MetaValue::Bool(v) => out.push(u8::from(*v)),
            MetaValue::Str(v) => put_str(out, v),
            MetaValue::Bytes(v) => put_bytes(out, v),
            MetaValue::Array(elem, items) => {
                out.extend((*elem as u32).to_le_bytes());
                out.extend((items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.put(out));
            }
        }
    }
}

pub(super) fn put_str(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

macro_rules! meta_from {
    ($($ty:ty => $variant:ident),*) => {
        $(
            impl From<$ty> for MetaValue {
                fn from(v: $ty) -> MetaValue {
                    MetaValue::$variant(v)
                }
            }
            impl From<Vec<$ty>> for MetaValue {
                fn from(v: Vec<$ty>) -> MetaValue {
                    MetaValue::Array(ValueType::$variant, v.into_iter().map(MetaValue::$variant).collect())
                }
            }
        )*
    };
}

meta_from!(u8 => U8, u16 => U16, u32 => U32, i32 => I32, u64 => U64, f32 => F32, bool => Bool, String => Str);

impl From<&str> for MetaValue {
    fn from(v: &str) -> MetaValue {
        MetaValue::Str(v.to_owned())
    }
}
