//! The tensors and sizes for a graph run: reads them from files and checks them against the graph's declarations.

use crate::args::GraphRunArgs;
use crate::graph_memory;
use crate::npy::{self, Npy};
use aio::ir::text::Parsed;
use aio::ir::{DType, Def, Dim, Dims, Graph, Sym, Value};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;

/// A graph's tensors and dimensions, checked.
pub(crate) struct Job {
    /// Sizes of the symbols.
    pub dims: Dims,
    /// Tensors read from files, by name.
    pub given: HashMap<String, Npy>,
}

impl Job {
    pub(crate) fn new(parsed: &Parsed, args: &GraphRunArgs) -> Result<Job> {
        let graph = &parsed.graph;
        let mut given = HashMap::new();
        let mut dims = Symbols::default();
        for (sym, number) in &args.dims {
            dims.bind(*sym, u64::from(*number), "--dim")?;
        }
        for file in &args.inputs {
            let declared: Vec<&str> = declared(graph).map(|v| v.name.as_str()).collect();
            let value = graph.find(&file.name).map(|id| graph.value(id));
            let value = value.with_context(|| {
                format!("the graph has no input, weight or state `{}`; expected one of {}", file.name, list(&declared))
            })?;
            let npy = npy::read(&file.path)?;
            dims.fit(value, &npy)?;
            ensure!(given.insert(file.name.clone(), npy).is_none(), "`{}` is given twice", file.name);
        }
        for value in declared(graph) {
            let needed = matches!(value.def, Def::Weight | Def::Input { optional: false });
            ensure!(
                !needed || given.contains_key(&value.name),
                "`{}` : {} is not given; use --in",
                value.name,
                value.ty
            );
        }
        let dims = dims.finish(graph)?;
        let held = given.values().map(|npy: &Npy| npy.bytes.len() as u64).sum();
        graph_memory::check(parsed, &dims, args.device, held)?;
        Ok(Job { dims, given })
    }
}

/// Inputs, weights and states.
fn declared(graph: &Graph) -> impl Iterator<Item = &Value> {
    graph.values().map(|(_, v)| v).filter(|v| !matches!(v.def, Def::Node { .. }))
}

/// Symbols whose sizes are known so far.
#[derive(Default)]
struct Symbols(HashMap<Sym, u32>);

impl Symbols {
    fn bind(&mut self, sym: Sym, number: u64, by: &str) -> Result<()> {
        let narrow =
            u32::try_from(number).with_context(|| format!("{by}: {number} is too large for {}", sym.name()))?;
        let known = *self.0.entry(sym).or_insert(narrow);
        ensure!(known == narrow, "{by}: {} is {narrow} here and {known} elsewhere", sym.name());
        Ok(())
    }

    /// Checks a tensor against its declaration.
    fn fit(&mut self, value: &Value, npy: &Npy) -> Result<()> {
        let (name, ty) = (&value.name, &value.ty);
        let stored = if npy::has(ty.dtype) { ty.dtype } else { DType::U8 };
        ensure!(npy.dtype == stored, "`{name}` : {ty} is given as {}, expected {stored}", npy.dtype);
        let shape = logical_shape(ty.dtype, &npy.shape);
        let shape = shape.filter(|s| s.len() == ty.shape.rank());
        let shape = shape.with_context(|| format!("`{name}` : {ty} is given with shape {:?}", npy.shape))?;
        for (dim, &number) in ty.shape.dims().iter().zip(&shape) {
            match dim {
                Dim::Sym(sym) => self.bind(*sym, number, &format!("`{name}` : {ty}"))?,
                Dim::Const(n) => ensure!(*n == number, "`{name}` : {ty} is given with shape {:?}", npy.shape),
            }
        }
        Ok(())
    }

    /// Sizes of all symbols; those that the graph uses must be known.
    fn finish(self, graph: &Graph) -> Result<Dims> {
        // A symbol that no binding uses needs no size, and a page table bounds the pool.
        let pooled = |sym: &Sym| *sym == Sym::Pages && self.0.contains_key(&Sym::Stride);
        let needed = graph.values().filter(|(_, v)| v.def != Def::Input { optional: true });
        for (_, value) in needed {
            for dim in value.ty.shape.dims() {
                if let Dim::Sym(sym) = dim
                    && !(self.0.contains_key(sym) || pooled(sym))
                {
                    bail!("no input determines the size of `{0}`; give --dim {0}=N", sym.name());
                }
            }
        }
        let get = |sym| self.0.get(&sym).copied().unwrap_or(0);
        // A step without rows does nothing, so a graph without the symbol `rows` gets one row.
        let rows = self.0.get(&Sym::Rows).copied().unwrap_or(1);
        let (seqs, stride) = (get(Sym::Seqs), get(Sym::Stride));
        let pages = self.0.get(&Sym::Pages).copied().unwrap_or(seqs.saturating_mul(stride));
        let (outs, recent, slots) = (get(Sym::Outs), get(Sym::Recent), get(Sym::Slots));
        Ok(Dims { rows, seqs, pages, stride, outs, recent, slots })
    }
}

/// Shape in elements of a stored tensor; types that .npy lacks are stored as rows of bytes.
fn logical_shape(dtype: DType, shape: &[u64]) -> Option<Vec<u64>> {
    let mut shape = shape.to_vec();
    if !npy::has(dtype) {
        let (last, block) = (shape.last_mut()?, dtype.block_bytes() as u64);
        *last = (*last).is_multiple_of(block).then(|| *last / block * dtype.block_elems() as u64)?;
    }
    Some(shape)
}

/// Quotes and joins names for a message.
pub(crate) fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
