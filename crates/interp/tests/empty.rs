//! Dimensions of 0: numpy's results, and the cases that have no value.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bound;

use aio_interp::EvalError;
use aio_ir::Dims;
use aio_ir::text::parse;

const DIMS: Dims = Dims { rows: 0, seqs: 1, pages: 1, stride: 1, outs: 1, recent: 0, slots: 2 };

/// Shape and values of `%y`, with all declared values set to 1.
fn result(body: &str, dims: &Dims) -> Result<(Vec<usize>, Vec<f32>), EvalError> {
    let graph =
        parse(&format!("aio 1\ngraph \"t\"\n{body}output \"y\" = %y\n")).unwrap_or_else(|e| panic!("{e}")).graph;
    let verified = aio_ir::verify(&graph).unwrap_or_else(|e| panic!("{e}\n{body}"));
    let ones = |ty: &aio_ir::TensorType| {
        let elems = ty.shape.elems(dims).unwrap() as usize;
        bound::tensor(ty, dims, &vec![1.0; elems])
    };
    let got = aio_interp::evaluate(verified, dims, |_, v| Some(ones(&v.ty)))?.remove(0);
    let numbers = match got.dtype.is_float() {
        true => got.floats().into_owned(),
        false => got.ints().iter().map(|&v| v as f32).collect(),
    };
    Ok((got.shape, numbers))
}

#[test]
fn dimensions_of_zero_give_what_numpy_gives() {
    let x = |ty: &str| format!("%x = input \"x\" : {ty}\n");
    let two = |a: &str, b: &str| format!("%x = input \"x\" : {a}\n%z = input \"z\" : {b}\n");
    let cases: &[(String, &[usize], &[f32])] = &[
        ("%y = fill {shape = [2, 0], value = 7, dtype = u8}\n".to_owned(), &[2, 0], &[]),
        ("%y = iota {shape = [0], dtype = i32}\n".to_owned(), &[0], &[]),
        (x("f32[0]") + "%y = exp %x\n", &[0], &[]),
        (two("f32[3, 1]", "f32[0]") + "%y = add %x, %z\n", &[3, 0], &[]),
        (two("u8[0, 4]", "u8[1, 4]") + "%y = compare %x, %z {kind = eq}\n", &[0, 4], &[]),
        (x("f32[2, 0]") + "%y = reduce %x {kind = sum, axis = 1}\n", &[2, 1], &[0.0, 0.0]),
        (x("f32[0, 2]") + "%y = reduce %x {kind = max, axis = 1}\n", &[0, 1], &[]),
        (x("f32[2, 0]") + "%y = cumsum %x\n", &[2, 0], &[]),
        (x("f32[0, 3]") + "%y = softmax %x\n", &[0, 3], &[]),
        (x("f32[0, 3]") + "%y = argmax %x\n", &[0], &[]),
        (x("f32[4, 0, 3]") + "%y = reshape %x {shape = [0, 7]}\n", &[0, 7], &[]),
        (x("f32[rows, 0]") + "%y = reshape %x {shape = [0]}\n", &[0], &[]),
        (x("f32[4, 0, 3]") + "%y = transpose %x {perm = [2, 1, 0]}\n", &[3, 0, 4], &[]),
        (x("f32[3, 1]") + "%y = broadcast %x {shape = [3, 0]}\n", &[3, 0], &[]),
        (x("f32[3]") + "%y = slice %x {axis = 0, start = 3, len = 0}\n", &[0], &[]),
        (two("f32[2, 0]", "f32[2, 1]") + "%y = concat %x, %z {axis = 1}\n", &[2, 1], &[1.0, 1.0]),
        (two("f32[2, 0]", "f32[2, 0]") + "%y = concat %x, %z {axis = 0}\n", &[4, 0], &[]),
        (two("f32[2, 0]", "f16[3, 0]") + "%y = matmul %x, %z\n", &[2, 3], &[0.0; 6]),
        (two("f32[2, 0]", "q4_0[3, 0]") + "%y = matmul %x, %z\n", &[2, 3], &[0.0; 6]),
        (two("f32[2, 8]", "f32[0, 8]") + "%y = matmul %x, %z\n", &[2, 0], &[]),
        (two("f32[0, 8]", "f32[3, 8]") + "%y = matmul %x, %z\n", &[0, 3], &[]),
        (two("f32[0, 8]", "u32[0]") + "%y = gather %x, %z\n", &[0, 8], &[]),
        (two("f32[2, 0]", "u32[3]") + "%y = gather %x, %z\n", &[3, 0], &[]),
        (two("f32[2]", "u32[0]") + "%u = input \"u\" : f32[0]\n%y = scatter %x, %z, %u\n", &[2], &[1.0, 1.0]),
        (x("f32[4, 0]") + "%q = quantize %x {to = q8_0}\n%y = dequantize %q\n", &[4, 0], &[]),
        (x("f32[0, 9]") + "%y, %i = top_k %x {k = 2}\n", &[0, 2], &[]),
    ];
    for (body, shape, numbers) in cases {
        let (got, values) = result(body, &DIMS).unwrap();
        assert_eq!((&got[..], &values[..]), (*shape, *numbers), "{body}");
        assert!(values.iter().all(|v| v.is_sign_positive()), "{body}: {values:?}");
    }
}

const NO_VALUE: [(&str, &str); 8] = [
    ("reduce %x {kind = max, axis = 1}", "`reduce max` along axis 1"),
    ("reduce %x {kind = min, axis = 1}", "`reduce min` along axis 1"),
    ("reduce %x {kind = mean, axis = 1}", "`reduce mean` along axis 1"),
    ("softmax %x", "`softmax` along axis 1"),
    ("rms_norm %x {eps = 1e-5}", "`rms_norm` along axis 1"),
    ("layer_norm %x {eps = 1e-5}", "`layer_norm` along axis 1"),
    ("argmax %x", "`argmax` along axis 1"),
    ("top_k %x {k = 1}", "`top_k` along axis 1"),
];

#[test]
fn what_has_no_value_for_no_elements_is_refused_where_the_size_is_known() {
    for (op, what) in NO_VALUE {
        let results = if op.starts_with("top_k") { "%y, %i" } else { "%y" };
        let text = format!("aio 1\ngraph \"t\"\n%x = input \"x\" : f32[2, 0]\n{results} = {op}\noutput \"y\" = %y\n");
        let refused = parse(&text).err().unwrap().to_string();
        assert!(refused.contains(&format!("{what}, which has no elements")), "{refused}");
    }
    let three = "aio 1\ngraph \"t\"\n%x = input \"x\" : f32[3]\n%z = input \"z\" : f32[0]\n%y = add %x, %z\n";
    assert!(parse(three).err().unwrap().to_string().contains("broadcasts"));
}

#[test]
fn what_has_no_value_for_no_elements_is_refused_in_the_step_where_a_symbol_is_0() {
    let cases = NO_VALUE.iter().filter(|(op, _)| !op.starts_with("top_k"));
    for (op, what) in cases {
        let body = format!("%x = input \"x\" : f32[2, rows]\n%y = {op}\n");
        let refused = result(&body, &DIMS).unwrap_err();
        assert!(matches!(refused, EvalError::EmptyAxis { .. }), "{refused}");
        assert!(refused.to_string().contains(&format!("{what}, which has no elements")), "{refused}");
        assert!(result(&body, &Dims { rows: 1, ..DIMS }).is_ok(), "{op}");
    }
}
