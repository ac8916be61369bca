//! Step graphs of the conformance cases, in the text form.

use aio_ir::DType;

/// Width of the residual stream: one super-block of the widest format.
const WIDTH: u32 = 256;
/// Output columns, deliberately not a multiple of a group of 16.
const COLUMNS: u32 = 264;
const VOCABULARY: u32 = 1000;
const HEADS: u32 = 4;

const START: &str = "aio 1\ngraph \"case\"\n%x = input \"x\" : f32[rows, 256]\n";
const NORM: &str = "%an = weight \"norm\" : f32[256]\n%h = rms_norm %x, %an {eps = 1e-5}\n";

/// What a projection has besides its matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinearForm {
    pub norm: bool,
    pub bias: bool,
    pub residual: bool,
}

pub(super) fn linear(weights: DType, form: LinearForm) -> String {
    let (norm, input) = if form.norm { (NORM, "h") } else { ("", "x") };
    let mut text =
        format!("{START}{norm}%w = weight \"w\" : {weights}[{COLUMNS}, {WIDTH}]\n%p = matmul %{input}, %w\n");
    let mut last = "p";
    if form.bias {
        text += &format!("%b = weight \"bias\" : f32[{COLUMNS}]\n%pb = add %p, %b\n");
        last = "pb";
    }
    if form.residual {
        text += &format!("%r = input \"residual\" : f32[rows, {COLUMNS}]\n%s = add %r, %{last}\n");
        last = "s";
    }
    text + &format!("output \"y\" = %{last}\n")
}

pub(super) fn gate_up(weights: DType, activation: &str) -> String {
    let matrix = |name: &str| {
        format!("%w{name} = weight \"w{name}\" : {weights}[{COLUMNS}, {WIDTH}]\n%{name} = matmul %h, %w{name}\n")
    };
    let (gate, up) = (matrix("gate"), matrix("up"));
    format!("{START}{NORM}{gate}{up}%a = {activation} %gate\n%y = mul %a, %up\noutput \"y\" = %y\n")
}

/// What a routed feed-forward network has besides its experts.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpertsForm {
    pub picked: u32,
    /// `softmax`, `normalised` or `picked`: how the router's scores become weights.
    pub routing: &'static str,
    pub shared: bool,
    /// Whether the shared expert is scaled.
    pub scaled: bool,
}

/// Eight experts. The router is of f32, so that every device picks the same ones.
pub(super) fn experts(weights: DType, form: ExpertsForm) -> String {
    let ExpertsForm { picked: k, routing, shared, scaled } = form;
    let mut text = format!(
        "{START}{NORM}%router = weight \"router\" : f32[8, {WIDTH}]\n%scores = matmul %h, %router\n\
         %each = reshape %h {{shape = [rows, 1, {WIDTH}]}}\n%xs = broadcast %each {{shape = [rows, {k}, {WIDTH}]}}\n"
    );
    text += &match routing {
        "picked" => format!("%top, %index = top_k %scores {{k = {k}}}\n%p = softmax %top\n"),
        "softmax" => format!("%all = softmax %scores\n%p, %index = top_k %all {{k = {k}}}\n"),
        _ => format!(
            "%all = softmax %scores\n%top, %index = top_k %all {{k = {k}}}\n\
             %total = reduce %top {{kind = sum, axis = 1}}\n%p = div %top, %total\n"
        ),
    };
    for (name, input) in [("gate", "xs"), ("up", "xs"), ("down", "gu")] {
        text += &format!("%w{name} = weight \"w{name}\" : {weights}[8, {WIDTH}, {WIDTH}]\n");
        text += &format!("%{name} = matmul %{input}, %w{name}, %index\n");
        if name == "up" {
            text += "%active = silu %gate\n%gu = mul %active, %up\n";
        }
    }
    text += &format!(
        "%scale = reshape %p {{shape = [rows, {k}, 1]}}\n%weighted = mul %down, %scale\n\
         %sum = reduce %weighted {{kind = sum, axis = 1}}\n%picked = reshape %sum {{shape = [rows, {WIDTH}]}}\n"
    );
    let mut last = "picked";
    if shared {
        let matrix = |name: &str| format!("%v{name} = weight \"v{name}\" : {weights}[{WIDTH}, {WIDTH}]\n");
        text += &(matrix("gate") + &matrix("up") + &matrix("down"));
        text += "%sg = matmul %h, %vgate\n%su = matmul %h, %vup\n%sa = silu %sg\n%sgu = mul %sa, %su\n\
                 %sd = matmul %sgu, %vdown\n";
        let own = if scaled {
            text += &format!("%vs = weight \"vs\" : f32[1, {WIDTH}]\n%m = matmul %h, %vs\n%mix = sigmoid %m\n");
            text += "%mixed = mul %sd, %mix\n";
            "mixed"
        } else {
            "sd"
        };
        text += &format!("%both = add %picked, %{own}\n");
        last = "both";
    }
    text + &format!("%y = add %x, %{last}\noutput \"y\" = %y\n")
}

pub(super) fn head(weights: DType) -> String {
    format!(
        "{START}%out_rows = input \"out_rows\" : u32[outs]\n%last = gather %x, %out_rows\n%an = weight \"norm\" : f32[256]\n\
         %h = rms_norm %last, %an {{eps = 1e-5}}\n%w = weight \"w\" : {weights}[{VOCABULARY}, {WIDTH}]\n\
         %logits = matmul %h, %w\noutput \"logits\" = %logits\n"
    )
}

/// A head whose every row produces an output: there is no `gather`, so the arg-max stays a separate task.
pub(super) fn all_rows_head() -> String {
    format!(
        "{START}{NORM}%w = weight \"w\" : f32[{VOCABULARY}, {WIDTH}]\n%logits = matmul %h, %w\noutput \"logits\" = %logits\n"
    )
}

/// Gathers rows of a product.
pub(super) fn gathered() -> String {
    format!(
        "{START}%out_rows = input \"out_rows\" : u32[outs]\n%w = weight \"w\" : f32[{COLUMNS}, {WIDTH}]\n\
         %p = matmul %x, %w\n%y = gather %p, %out_rows\noutput \"y\" = %y\n"
    )
}

/// A head that may produce NaN or infinite logits.
pub(super) fn broken_head(weights: DType) -> String {
    head(weights).replace("input \"x\"", "input \"x rare\"")
}

pub(super) fn embed(weights: DType) -> String {
    format!(
        "aio 1\ngraph \"case\"\n%t = input \"tokens\" : u32[rows]\n%w = weight \"w\" : {weights}[{VOCABULARY}, {WIDTH}]\n\
         %y = embed %w, %t\noutput \"y\" = %y\n"
    )
}

/// How positions are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rope {
    Plain,
    Linear,
    Yarn,
}

/// What the projections of attention have besides their matrices.
#[derive(Clone, Copy, Debug)]
pub(super) struct QkvForm {
    pub bias: bool,
    pub head_norms: bool,
    pub pairs: &'static str,
    pub rope: Rope,
    pub rope_dims: u32,
    pub factors: bool,
    pub kv_heads: u32,
    pub head_size: u32,
}

impl Default for QkvForm {
    fn default() -> QkvForm {
        QkvForm {
            bias: false,
            head_norms: false,
            pairs: "adjacent",
            rope: Rope::Plain,
            rope_dims: 32,
            factors: false,
            kv_heads: 2,
            head_size: 32,
        }
    }
}

/// How attention is limited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AttendForm {
    pub window: u32,
    pub soft_cap: f32,
    pub sinks: bool,
}

pub(super) fn qkv(weights: DType, q: QkvForm, a: AttendForm) -> String {
    let (kv, size) = (q.kv_heads, q.head_size);
    let mut text = format!(
        "{START}%positions = input \"positions\" : u32[rows]\n%row_seq = input \"row_seq\" : u32[rows]\n\
         %table = input \"page_table\" : u32[seqs, stride]\n%kv = state \"kv\" : f16[pages, 2, {kv}, 64, {size}]\n{NORM}"
    );
    if q.factors {
        text += &format!("%factors = weight \"factors\" : f32[{}]\n", q.rope_dims / 2);
    }
    for (name, heads) in [("q", HEADS), ("k", kv), ("v", kv)] {
        text += &heads_of(weights, q, name, heads);
    }
    let sinks = if a.sinks { ", %sinks" } else { "" };
    if a.sinks {
        text += &format!("%sinks = weight \"sinks\" : f32[{HEADS}]\n");
    }
    text + &format!(
        "%kvw = page_write %kv, %kr, %vh, %table, %row_seq, %positions\n\
         %y = attend %qr, %kvw, %table, %row_seq, %positions{sinks} {{scale = 0.1767767, window = {}, soft_cap = {:?}}}\n\
         output \"y\" = %y\nfinal %kv = %kvw\n",
        a.window, a.soft_cap
    )
}

/// A projection and the ops after it, ending in the values `%qr`, `%kr` and `%vh`.
fn heads_of(weights: DType, q: QkvForm, name: &str, heads: u32) -> String {
    let size = q.head_size;
    let columns = heads * size;
    let mut text =
        format!("%w{name} = weight \"w{name}\" : {weights}[{columns}, {WIDTH}]\n%{name}m = matmul %h, %w{name}\n");
    let mut last = "m";
    if q.bias {
        text += &format!("%b{name} = weight \"b{name}\" : f32[{columns}]\n%{name}b = add %{name}m, %b{name}\n");
        last = "b";
    }
    text += &format!("%{name}h = reshape %{name}{last} {{shape = [rows, {heads}, {size}]}}\n");
    if name == "v" {
        return text;
    }
    last = "h";
    if q.head_norms {
        text += &format!(
            "%n{name} = weight \"n{name}\" : f32[{size}]\n%{name}n = rms_norm %{name}h, %n{name} {{eps = 1e-6}}\n"
        );
        last = "n";
    }
    let factors = if q.factors { ", %factors" } else { "" };
    let scaling = match q.rope {
        Rope::Plain => "",
        Rope::Linear => ", scaling = linear, factor = 4.0",
        Rope::Yarn => ", scaling = yarn, factor = 4.0, original_context = 256, attn_factor = 1.1",
    };
    text + &format!(
        "%{name}r = rope %{name}{last}, %positions{factors} {{pairs = {}, dims = {}, base = 10000.0{scaling}}}\n",
        q.pairs, q.rope_dims
    )
}
