//! A step's request, and the form in which plans bind it.
//!
//! [`Engine::step`](crate::Engine::step) fills [`StepInputs`] from a [`Step`]. The buffers are reused, so a step of a size
//! seen before allocates nothing.

use crate::pools::Pools;
use crate::recurrent::Advance;
use crate::{EngineError, Sampling, Sequence};
use aio_backend::Data;
use aio_ir::Dims;
use aio_orchestrator::StepSize;
use aio_plan::{PoolSizes, StepInput, Tail};
use std::sync::Arc;

/// One token row of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepRow<'a> {
    /// Its token.
    pub token: u32,
    /// Its sequence, by index in [`Step::sequences`].
    pub sequence: usize,
    /// Its position.
    pub position: usize,
    /// The output it asks for, and how it is sampled.
    pub wants: StepWants<'a>,
}

/// The output that a row asks for.
#[derive(Clone, Copy, Debug)]
pub enum StepWants<'a> {
    /// No output; the row only fills the KV cache.
    Nothing,
    /// The model's logits, unchanged.
    Logits,
    /// The last hidden state after its norm, if the engine was loaded with [`EngineOptions::hidden`](crate::EngineOptions::hidden).
    Hidden,
    /// The next token; [`aio_ir::sampling::NO_TOKEN`] if a logit is NaN or infinite.
    Token {
        /// How it is sampled.
        sampling: &'a Sampling,
        /// The row's prefix, or the end of it: the tokens that penalties apply to, newest last.
        recent: &'a [u32],
        /// Added to the logits, one value per token of the vocabulary.
        bias: Option<&'a [f32]>,
    },
}

/// Rows of sequences that run together. Each row's position must have a page.
///
/// If the model has recurrent state, the rows of a sequence follow each other, and the first one follows the committed
/// length, or rows of the last step that are not committed.
#[derive(Debug)]
pub struct Step<'a, 's> {
    /// The sequences. Their lengths are the caller's to commit once the step has run.
    pub sequences: &'a mut [&'s mut Sequence],
    /// The rows. Those of a sequence are in order of position.
    pub rows: &'a [StepRow<'a>],
    /// The drafts of each sequence, for a step that verifies drafts; empty for any other step.
    pub drafts: &'a [DraftSpan],
}

/// The output rows of one sequence in a step that verifies drafts: its last token's, then one for each draft. All ask
/// for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftSpan {
    /// Index of the first among the step's output rows.
    pub first: usize,
    /// Number of drafts after it. Recurrent state has room for [`Engine::most_drafts`](crate::Engine::most_drafts).
    pub drafts: usize,
    /// Positions of the sequence up to and including the first row's.
    pub len: usize,
}

/// Outcome of the drafts, by index in [`Step::sequences`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftOutcome<'a> {
    /// Number of each sequence's drafts that plain decoding would have produced.
    pub accepted: &'a [u32],
    /// The token after the accepted ones, or [`aio_ir::sampling::NO_TOKEN`].
    pub next: &'a [u32],
    /// Number of committed positions.
    pub lens: &'a [u32],
}

/// Inputs of a step in the form that plans bind.
#[derive(Debug, Default)]
pub(crate) struct StepInputs {
    pub dims: Dims,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    row_seq: Vec<u32>,
    page_table: Vec<u32>,
    out_rows: Vec<u32>,
    sampling: Vec<f32>,
    noise: Vec<u32>,
    recent: Vec<i32>,
    /// Empty if no row has a bias.
    logit_bias: Vec<f32>,
    spans: Vec<u32>,
    lens: Vec<u32>,
    slots: Vec<u32>,
    slot_rows: Vec<u32>,
}

impl StepInputs {
    /// The data of an input; `None` for a bias if no row has one.
    pub(crate) fn data(&self, input: StepInput) -> Option<Data<'_>> {
        Some(match input {
            StepInput::Tokens => Data::U32(&self.tokens),
            StepInput::Positions => Data::U32(&self.positions),
            StepInput::RowSeq => Data::U32(&self.row_seq),
            StepInput::PageTable => Data::U32(&self.page_table),
            StepInput::OutRows => Data::U32(&self.out_rows),
            StepInput::Sampling => Data::F32(&self.sampling),
            StepInput::Noise => Data::U32(&self.noise),
            StepInput::Recent => Data::I32(&self.recent),
            StepInput::LogitBias if self.logit_bias.is_empty() => return None,
            StepInput::LogitBias => Data::F32(&self.logit_bias),
            StepInput::Spans => Data::U32(&self.spans),
            StepInput::Lens => Data::U32(&self.lens),
            StepInput::Slots => Data::U32(&self.slots),
            StepInput::SlotRows => Data::U32(&self.slot_rows),
        })
    }

    /// Fills the inputs from a step, which advances recurrent state as `advances` says. Returns the tail that serves all
    /// its rows.
    pub(crate) fn fill(&mut self, step: &Step<'_, '_>, advances: &[Advance], pools: PoolSizes) -> Tail {
        self.rows(step.rows);
        let stride = self.pages(step.sequences);
        let tail = self.outputs(step.rows);
        self.bias(step.rows, tail);
        self.spans.clear();
        self.lens.clear();
        for span in step.drafts {
            self.spans.extend([span.first as u32, span.drafts as u32]);
            self.lens.push(span.len as u32);
        }
        self.slots(advances);
        let (rows, seqs, outs) = (step.rows.len() as u32, step.sequences.len() as u32, self.out_rows.len() as u32);
        let PoolSizes { pages, slots } = pools;
        self.dims = Dims { rows, seqs, pages, stride, outs, recent: self.dims.recent, slots };
        tail
    }

    fn slots(&mut self, advances: &[Advance]) {
        self.slots.clear();
        self.slot_rows.clear();
        for Advance { read, accepted, certain, next } in advances {
            self.slots.extend([*read, next.index()]);
            self.slot_rows.extend([*accepted as u32, *certain as u32]);
        }
    }

    fn rows(&mut self, rows: &[StepRow<'_>]) {
        self.tokens.clear();
        self.positions.clear();
        self.row_seq.clear();
        for row in rows {
            self.tokens.push(row.token);
            self.positions.push(row.position as u32);
            self.row_seq.push(row.sequence as u32);
        }
    }

    /// Fills the page table, as wide as the longest sequence needs. Returns its width.
    fn pages(&mut self, sequences: &[&mut Sequence]) -> u32 {
        let stride = sequences.iter().map(|s| s.pages().len()).max().unwrap_or(0);
        self.page_table.clear();
        for (i, sequence) in sequences.iter().enumerate() {
            self.page_table.extend_from_slice(sequence.pages());
            self.page_table.resize((i + 1) * stride, 0);
        }
        stride as u32
    }

    /// Fills the output rows and their sampling parameters.
    fn outputs(&mut self, rows: &[StepRow<'_>]) -> Tail {
        self.out_rows.clear();
        self.sampling.clear();
        self.noise.clear();
        self.recent.clear();
        let recent_len = rows.iter().map(look_back).max().unwrap_or(0);
        let mut tail = Tail::Argmax;
        for (i, row) in rows.iter().enumerate() {
            match row.wants {
                StepWants::Nothing => continue,
                StepWants::Logits | StepWants::Hidden if tail == Tail::Hidden => {}
                StepWants::Hidden => tail = Tail::Hidden,
                StepWants::Logits => tail = Tail::Logits,
                StepWants::Token { sampling, recent, bias } => {
                    if tail == Tail::Argmax {
                        tail = token_tail(sampling, bias.is_some());
                    }
                    self.sampling.extend(sampling.params.to_row());
                    let (low, high) = (sampling.seed as u32, (sampling.seed >> 32) as u32);
                    self.noise.extend([low, high, sampling.choice, row.position as u32]);
                    let newest = &recent[recent.len() - look_back(row)..];
                    self.recent.extend(newest.iter().map(|&t| t as i32));
                    self.recent.extend(std::iter::repeat_n(-1, recent_len - newest.len()));
                }
            }
            self.out_rows.push(i as u32);
        }
        self.dims.recent = recent_len as u32;
        tail
    }

    /// Fills one bias row per output row, zeros for those without a bias. Empty if none has one.
    fn bias(&mut self, rows: &[StepRow<'_>], tail: Tail) {
        self.logit_bias.clear();
        let of = |row: &StepRow<'_>| match row.wants {
            StepWants::Token { bias, .. } => bias.map_or(0, <[f32]>::len),
            _ => 0,
        };
        let width = rows.iter().map(of).max().unwrap_or(0);
        if width == 0 || tail != Tail::Sample {
            return;
        }
        for row in rows {
            match row.wants {
                StepWants::Token { bias: Some(bias), .. } => self.logit_bias.extend_from_slice(bias),
                StepWants::Token { bias: None, .. } => self.logit_bias.resize(self.logit_bias.len() + width, 0.0),
                _ => {}
            }
        }
    }
}

/// Number of prefix tokens that a row's penalties apply to.
fn look_back(row: &StepRow<'_>) -> usize {
    match row.wants {
        StepWants::Token { sampling, recent, .. } => recent.len().min(sampling.repeat_last_n),
        _ => 0,
    }
}

/// The cheapest tail that chooses a token as requested.
pub(crate) fn token_tail(sampling: &Sampling, biased: bool) -> Tail {
    if sampling.params.is_plain_argmax() && !biased { Tail::Argmax } else { Tail::Sample }
}

impl Step<'_, '_> {
    /// Checks what plans rely on: tokens in the vocabulary, positions with pages of these pools that no other sequence
    /// reads, drafts inside the step.
    pub(crate) fn check(&self, vocabulary: u32, pools: &Arc<Pools>) -> Result<(), EngineError> {
        self.sequences.iter().try_for_each(|s| s.check(pools))?;
        if let Some(row) = self.rows.iter().find(|r| r.token >= vocabulary) {
            return Err(EngineError::Token { token: row.token, vocabulary });
        }
        self.check_pages(pools)?;
        let biased = |row: &&StepRow<'_>| matches!(row.wants, StepWants::Token { bias: Some(b), .. } if b.len() != vocabulary as usize);
        if let Some(StepRow { wants: StepWants::Token { bias: Some(bias), .. }, .. }) = self.rows.iter().find(biased) {
            return Err(EngineError::bias(bias.len()));
        }
        if self.drafts.is_empty() { Ok(()) } else { self.check_spans(self.drafts) }
    }

    /// Checks that each row has a place to write to, which is its sequence's alone.
    fn check_pages(&self, pools: &Pools) -> Result<(), EngineError> {
        let page = |position: usize| pools.page.map(|page| position / page);
        let mut last = None;
        for &StepRow { sequence, position, .. } in self.rows {
            let own = self.sequences.get(sequence);
            let reserved = own.map_or(0, |s| s.room(pools));
            if position >= reserved {
                return Err(EngineError::NotReserved { position, reserved });
            }
            // Rows of a sequence follow each other, so most are on the page of the row before.
            let here = Some((sequence, page(position)));
            if here != last && own.is_some_and(|s| s.shares(pools, position)) {
                return Err(EngineError::SharedPage { position });
            }
            last = here;
        }
        Ok(())
    }

    /// Checks that each sequence has a run of drafts and that all fit the step.
    fn check_spans(&self, spans: &[DraftSpan]) -> Result<(), EngineError> {
        let outs = self.outs();
        let inside = |s: &DraftSpan| s.first.checked_add(s.drafts).is_some_and(|last| last < outs);
        let logits = self.rows.iter().any(|r| matches!(r.wants, StepWants::Logits | StepWants::Hidden));
        let fits = spans.len() == self.sequences.len() && spans.iter().all(inside) && !logits;
        if fits { Ok(()) } else { Err(EngineError::Spans { spans: spans.len(), outs }) }
    }

    /// Whether a row asks for its hidden state.
    pub(crate) fn wants_hidden(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.wants, StepWants::Hidden))
    }

    /// Its size, for the cost model.
    pub(crate) fn size(&self) -> StepSize {
        let last = |rows: &[StepRow<'_>]| rows.last().map_or(0, |row| row.position as u64 + 1);
        let positions = self.rows.chunk_by(|a, b| a.sequence == b.sequence).map(last).sum();
        StepSize { sequences: self.sequences.len() as u32, rows: self.rows.len() as u32, positions }
    }

    /// Number of rows that ask for an output.
    pub(crate) fn outs(&self) -> usize {
        self.rows.iter().filter(|r| !matches!(r.wants, StepWants::Nothing)).count()
    }
}
