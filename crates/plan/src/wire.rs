//! Serialised forms of types of `aio-ir`, by their names in the text form. For the `Serialize` derives of plans.

/// An op by its mnemonic.
pub(crate) mod op {
    use aio_ir::Op;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(op: &Op, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(op.mnemonic())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Op, D::Error> {
        Op::from_mnemonic(<&str>::deserialize(d)?).ok_or_else(|| D::Error::custom("an unknown op"))
    }
}

/// A tensor type: the element type's name and the dimensions, symbols by name.
pub(crate) mod tensor_type {
    use aio_ir::{DType, Dim, Shape, Sym, TensorType};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use smallvec::SmallVec;

    #[derive(Serialize, Deserialize)]
    enum WireDim<'a> {
        Const(u64),
        Sym(&'a str),
    }

    #[derive(Serialize, Deserialize)]
    struct WireType<'a> {
        dtype: &'a str,
        #[serde(borrow)]
        dims: SmallVec<[WireDim<'a>; 4]>,
    }

    pub(crate) fn serialize<S: Serializer>(ty: &TensorType, s: S) -> Result<S::Ok, S::Error> {
        let dim = |d: &Dim| match *d {
            Dim::Const(n) => WireDim::Const(n),
            Dim::Sym(s) => WireDim::Sym(s.name()),
        };
        WireType { dtype: ty.dtype.name(), dims: ty.shape.dims().iter().map(dim).collect() }.serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<TensorType, D::Error> {
        let wire = WireType::deserialize(d)?;
        let dtype = DType::from_name(wire.dtype).ok_or_else(|| D::Error::custom("an unknown element type"))?;
        let dim = |d: &WireDim<'_>| match *d {
            WireDim::Const(n) => Ok(Dim::Const(n)),
            WireDim::Sym(name) => {
                Sym::from_name(name).map(Dim::Sym).ok_or_else(|| D::Error::custom("an unknown symbol"))
            }
        };
        let dims = wire.dims.iter().map(dim).collect::<Result<Vec<_>, _>>()?;
        Ok(TensorType::new(dtype, Shape::new(dims)))
    }
}
