//! The table of fused task kinds. Each kind is declared once.
//!
//! An entry generates the variants of [`KindName`] and [`TaskKind`], the name in plans, and a module with the kind's
//! operands and results by name. [`crate::body`] defines what a kind computes, the verifier checks operands against the
//! classes stated here, and back ends take locations by name. Single-op tasks have the operands of the op table instead.

use crate::numbers::{AttendSpec, ExpertsSpec, GateUpSpec, HeadSpec, LinearSpec, QkvSpec};
use aio_ir::{DType, Def, Op, Sym, TensorType};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What an operand must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// f32 elements, one row for each row of the step.
    Rows,
    /// f32 elements, one row for each row or each output row of the step.
    AnyRows,
    /// f32 elements of any shape.
    Values,
    /// A one-dimensional f32 weight.
    Vector,
    /// A two-dimensional weight of any float type whose rows are outputs. May have the back end's own layout.
    Matrix,
    /// A three-dimensional weight of any float type: matrices whose rows are outputs. May have the back end's own
    /// layout.
    Matrices,
    /// u32 elements of any shape.
    Index,
    /// u32 elements, one for each output row of the step.
    OutIndex,
    /// A layer's KV pages.
    Pages,
}

impl Class {
    /// Whether a value declared by a body belongs to the class.
    pub fn admits(self, def: Def, ty: &TensorType) -> bool {
        let (rank, first) = (ty.shape.rank(), ty.shape.dims().first().copied());
        let grows = |syms: &[Sym]| syms.iter().any(|&sym| first == Some(sym.into()));
        match self {
            Class::Rows => ty.dtype == DType::F32 && grows(&[Sym::Rows]),
            Class::AnyRows => ty.dtype == DType::F32 && grows(&[Sym::Rows, Sym::Outs]),
            Class::Values => ty.dtype == DType::F32,
            Class::Vector => def == Def::Weight && ty.dtype == DType::F32 && rank == 1,
            Class::Matrix => def == Def::Weight && ty.dtype.is_float() && rank == 2,
            Class::Matrices => def == Def::Weight && ty.dtype.is_float() && rank == 3,
            Class::Index => ty.dtype == DType::U32,
            Class::OutIndex => ty.dtype == DType::U32 && grows(&[Sym::Outs]),
            Class::Pages => ty.dtype == DType::F16 && rank == 5,
        }
    }

    /// The class in messages, after "expected".
    pub fn expected(self) -> &'static str {
        match self {
            Class::Rows => "f32 elements with a first dimension of rows",
            Class::AnyRows => "f32 elements with a first dimension of rows or outs",
            Class::Values => "f32 elements",
            Class::Vector => "a weight vector of f32",
            Class::Matrix => "a weight matrix",
            Class::Matrices => "a weight of three dimensions",
            Class::Index => "u32 elements",
            Class::OutIndex => "u32 elements with a first dimension of outs",
            Class::Pages => "pages of keys and values",
        }
    }
}

/// One operand of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperandSpec {
    /// Its name in messages.
    pub name: &'static str,
    /// What it must be.
    pub class: Class,
    /// Whether [`Loc::Absent`](crate::Loc::Absent) may take its place.
    pub optional: bool,
}

/// The declaration of a fused kind.
#[derive(Debug)]
pub struct KindSpec {
    /// The name in plans and tables.
    pub name: &'static str,
    /// Operands in order.
    pub operands: &'static [OperandSpec],
    /// Names of the results in order. An updated state comes last.
    pub results: &'static [&'static str],
    /// Description, one sentence.
    pub summary: &'static str,
}

macro_rules! is_optional {
    (req) => {
        false
    };
    (opt) => {
        true
    };
}

macro_rules! kind_table {
    ($($variant:ident $numbers:ident $module:ident $name:literal $summary:literal
        ($($need:ident $operand:ident: $class:ident),* $(,)?) -> ($($result:ident),*);)*) => {
        /// A kind without its numbers: the key in support tables and reports.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum KindName {
            $(#[doc = $summary] $variant,)*
            /// A single op.
            Op(Op),
        }

        /// What a task computes, with the numbers its kernel needs.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        pub enum TaskKind {
            $(#[doc = $summary] #[doc = concat!("Operands and results: [`", stringify!($module), "`].")] $variant($numbers),)*
            /// A single op. Operands and results are the op's.
            Op(#[serde(with = "crate::wire::op")] Op),
        }

        impl KindName {
            /// All fused kinds, in table order.
            pub const FUSED: &'static [KindName] = &[$(KindName::$variant,)*];

            /// The declaration of a fused kind; `None` for a single op.
            pub fn spec(self) -> Option<&'static KindSpec> {
                match self {
                    $(KindName::$variant => Some(&$module::SPEC),)*
                    KindName::Op(_) => None,
                }
            }
        }

        impl TaskKind {
            /// The kind without its numbers.
            pub fn name(&self) -> KindName {
                match self {
                    $(TaskKind::$variant(_) => KindName::$variant,)*
                    TaskKind::Op(op) => KindName::Op(*op),
                }
            }
        }

        $(#[doc = concat!("Operands and results of [`TaskKind::", stringify!($variant), "`].")]
        pub mod $module {
            use super::{Class, KindSpec, OperandSpec};

            #[allow(non_camel_case_types, reason = "variants only count the operands")]
            enum OperandIndex { $($operand,)* }

            #[allow(non_camel_case_types, reason = "variants only count the results")]
            enum ResultIndex { $($result,)* }

            /// One `T` for each operand.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct Operands<T> {
                $(#[doc = concat!("Class [`", stringify!($class), "`](Class::", stringify!($class), ").")]
                pub $operand: T,)*
            }

            /// One `T` for each result.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct Results<T> {
                $(#[doc = concat!("The result `", stringify!($result), "`.")] pub $result: T,)*
            }

            /// Index of each operand in a task.
            pub const AT: Operands<usize> = Operands { $($operand: OperandIndex::$operand as usize,)* };
            /// Index of each result in a task.
            pub const OUT: Results<usize> = Results { $($result: ResultIndex::$result as usize,)* };

            pub(super) static SPEC: KindSpec = KindSpec {
                name: $name,
                operands: &[$(OperandSpec {
                    name: stringify!($operand),
                    class: Class::$class,
                    optional: is_optional!($need),
                },)*],
                results: &[$(stringify!($result),)*],
                summary: $summary,
            };

            impl<T> Operands<T> {
                /// The operands in the kind's order.
                pub fn into_list(self) -> Vec<T> {
                    vec![$(self.$operand,)*]
                }
            }

            impl<T: Copy> Operands<T> {
                /// Takes the operands from a list in the kind's order.
                ///
                /// # Panics
                /// If the list is shorter than the kind's.
                pub fn of(list: &[T]) -> Operands<T> {
                    Operands { $($operand: list[AT.$operand],)* }
                }
            }
        })*
    };
}

kind_table! {
    Qkv QkvSpec qkv "qkv"
        "Norm, query, key and value projections with biases, head norms, rotation, page write."
        (req x: Rows, req norm: Vector, req wq: Matrix, req wk: Matrix, req wv: Matrix,
         opt bq: Vector, opt bk: Vector, opt bv: Vector, opt q_norm: Vector, opt k_norm: Vector,
         req positions: Index, opt freq_factors: Values, req kv: Pages, req page_table: Index, req row_seq: Index)
        -> (q, kv);
    Attend AttendSpec attend "attend_pages"
        "Attention over pages."
        (req q: Rows, req kv: Pages, req page_table: Index, req row_seq: Index, req positions: Index, opt sinks: Values)
        -> (out);
    Linear LinearSpec linear "linear"
        "`norm(x) * w + bias + residual`."
        (req x: AnyRows, opt norm: Vector, req w: Matrix, opt bias: Vector, opt residual: Values)
        -> (out);
    GateUp GateUpSpec gate_up "gate_up"
        "`act(norm(x) * gate) * (norm(x) * up)`."
        (req x: Rows, req norm: Vector, req gate: Matrix, req up: Matrix)
        -> (out);
    Experts ExpertsSpec experts "experts"
        "The feed-forward network of the experts that a router picks for each row, a shared expert, and the residual."
        (req x: Rows, req norm: Vector, req router: Matrix, req gate: Matrices, req up: Matrices, req down: Matrices,
         opt shared_gate: Matrix, opt shared_up: Matrix, opt shared_down: Matrix, opt shared_scale: Matrix,
         req residual: Values)
        -> (out);
    Head HeadSpec head "head"
        "The last norm and the projection onto the vocabulary for the output rows: f32\\[outs, vocabulary\\], or u32\\[outs\\] with `argmax`."
        (req x: Rows, req out_rows: OutIndex, req norm: Vector, req w: Matrix)
        -> (out);
}

impl KindName {
    /// The name in plans and tables.
    pub fn name(self) -> &'static str {
        match self {
            KindName::Op(op) => op.mnemonic(),
            fused => fused.spec().map_or("", |spec| spec.name),
        }
    }

    /// Whether the operand at `place` is a matrix for products or look-ups. Only such weights may have the back end's
    /// own layout; all others keep the file's.
    pub fn is_matrix(self, place: usize) -> bool {
        match self {
            KindName::Op(Op::Matmul) => place == const { Op::Matmul.place("w") },
            KindName::Op(Op::Embed) => place == const { Op::Embed.place("table") },
            _ => self
                .spec()
                .and_then(|s| s.operands.get(place))
                .is_some_and(|o| matches!(o.class, Class::Matrix | Class::Matrices)),
        }
    }
}

impl TaskKind {
    /// Whether each operand may be absent, in the kind's order.
    pub fn optional_operands(&self) -> SmallVec<[bool; 16]> {
        match (self, self.name().spec()) {
            (_, Some(spec)) => spec.operands.iter().map(|o| o.optional).collect(),
            (TaskKind::Op(op), None) => op.spec().operands.iter().map(|o| o.optional).collect(),
            (_, None) => SmallVec::new(),
        }
    }

    /// Number of results of the kind.
    pub fn result_count(&self) -> usize {
        match (self, self.name().spec()) {
            (_, Some(spec)) => spec.results.len(),
            (TaskKind::Op(op), None) => op.spec().results.len(),
            (_, None) => 0,
        }
    }
}
