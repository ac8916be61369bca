//! The variants in memory: their states, the budget, and the thread that loads them. Used by the fleet.

use crate::error::Size;
use aio_engine::Engine;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A variant before it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantSpec {
    /// Its name.
    pub name: String,
    /// Bytes of weights that a token reads, by which variants are small or large.
    pub weight_bytes: u64,
    /// Bytes that it takes when loaded: weights, KV pages, working memory.
    pub need: u64,
}

/// Loads a variant by its name.
pub type Loader = Arc<dyn Fn(&str) -> Result<Engine, LoadError> + Send + Sync>;

/// Why a loader has no engine.
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// Where a variant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariantState {
    /// It will be loaded in the background.
    Waiting,
    /// It is being loaded.
    Loading,
    /// It serves requests.
    Ready,
    /// The budget has no room for it.
    NoRoom {
        /// Bytes that it needs.
        need: u64,
        /// Bytes that the others leave.
        left: u64,
    },
    /// It was dropped to free its memory.
    Evicted,
    /// It could not be loaded.
    Failed(String),
}

impl VariantState {
    /// Whether it serves no requests and will not, unless it is restored.
    pub fn is_missing(&self) -> bool {
        matches!(self, VariantState::NoRoom { .. } | VariantState::Failed(_) | VariantState::Evicted)
    }

    /// Whether it takes or will take memory.
    fn takes_memory(&self) -> bool {
        matches!(self, VariantState::Waiting | VariantState::Loading | VariantState::Ready)
    }
}

impl fmt::Display for VariantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VariantState::Waiting => f.write_str("waiting to be loaded"),
            VariantState::Loading => f.write_str("being loaded"),
            VariantState::Ready => f.write_str("ready"),
            VariantState::NoRoom { need, left } => {
                write!(f, "needs {}, and the others leave {}", Size(*need), Size(*left))
            }
            VariantState::Evicted => f.write_str("dropped to free its memory"),
            VariantState::Failed(reason) => write!(f, "cannot be loaded: {reason}"),
        }
    }
}

/// A variant.
pub(crate) struct Variant {
    pub spec: VariantSpec,
    pub state: VariantState,
    pub engine: Option<Arc<Engine>>,
    /// Requests that it serves, and their positions.
    pub requests: u32,
    pub positions: u64,
}

/// What the loading thread shares with the fleet.
pub(crate) struct Resident {
    variants: Mutex<Vec<Variant>>,
    changed: Condvar,
    /// Bytes for all variants together.
    budget: u64,
}

impl Resident {
    /// Variants that wait to be loaded, the smallest first, as far as the budget goes.
    pub(crate) fn new(specs: Vec<VariantSpec>, budget: u64) -> Resident {
        let mut order: Vec<usize> = (0..specs.len()).collect();
        order.sort_by_key(|&i| specs[i].weight_bytes);
        let blank = |spec| Variant { spec, state: VariantState::Evicted, engine: None, requests: 0, positions: 0 };
        let mut variants: Vec<Variant> = specs.into_iter().map(blank).collect();
        order.into_iter().for_each(|i| admit(&mut variants, i, budget));
        Resident { variants: Mutex::new(variants), changed: Condvar::new(), budget }
    }

    /// The variants.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Variant>> {
        self.variants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a variant's state has changed.
    pub(crate) fn changed<'a>(&self, variants: MutexGuard<'a, Vec<Variant>>) -> MutexGuard<'a, Vec<Variant>> {
        self.changed.wait(variants).unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a variant that takes no memory a place in the budget, and returns its state: waiting, or no room.
    pub(crate) fn admit(&self, at: usize) -> VariantState {
        let mut variants = self.lock();
        if !variants[at].state.takes_memory() {
            admit(&mut variants, at, self.budget);
        }
        variants[at].state.clone()
    }

    /// Loads a variant, and keeps it or the reason.
    ///
    /// # Errors
    /// The loader's.
    pub(crate) fn load(&self, at: usize, loader: &Loader) -> Result<(), LoadError> {
        let name = {
            let mut variants = self.lock();
            variants[at].state = VariantState::Loading;
            variants[at].spec.name.clone()
        };
        self.changed.notify_all();
        let guard = Unloaded { resident: self, at };
        let loaded = loader(&name);
        std::mem::forget(guard);
        let mut variants = self.lock();
        let failed = match loaded.and_then(|engine| same_tokens(&variants, engine)) {
            Ok(engine) => {
                variants[at].engine = Some(Arc::new(engine));
                variants[at].state = VariantState::Ready;
                None
            }
            Err(e) => {
                variants[at].state = VariantState::Failed(e.to_string());
                Some(e)
            }
        };
        drop(variants);
        self.changed.notify_all();
        failed.map_or(Ok(()), Err)
    }

    /// Loads variants on another thread, or on this one if there can be none.
    pub(crate) fn load_in_background(self: &Arc<Resident>, waiting: Vec<usize>, loader: &Loader) {
        let (own, list, with) = (Arc::clone(self), waiting.clone(), Arc::clone(loader));
        let load_all = move || list.iter().for_each(|&i| own.load_or_note(i, &with));
        if std::thread::Builder::new().name("aio-fleet".to_owned()).spawn(load_all).is_err() {
            waiting.iter().for_each(|&i| self.load_or_note(i, loader));
        }
    }

    /// Loads a variant whose failure, even a panic of its loader, is no more than its state: others follow.
    fn load_or_note(&self, at: usize, loader: &Loader) {
        drop(catch_unwind(AssertUnwindSafe(|| drop(self.load(at, loader)))));
    }
}

/// Passes an engine on if its tokens are those of the variants that are loaded.
fn same_tokens(variants: &[Variant], engine: Engine) -> Result<Engine, LoadError> {
    let own = engine.model().tokenizer.vocab();
    for variant in variants {
        let Some(other) = variant.engine.as_deref().map(|e| e.model().tokenizer.vocab()) else { continue };
        if let Some(id) = own.first_difference(other) {
            let [a, b] = [own, other].map(|v| v.text(id).unwrap_or(""));
            return Err(format!("its token {id} is {a:?}, that of `{}` is {b:?}", variant.spec.name).into());
        }
    }
    Ok(engine)
}

/// Gives a variant a place in the budget if the others leave one.
fn admit(variants: &mut [Variant], at: usize, budget: u64) {
    let taken = variants.iter().filter(|v| v.state.takes_memory()).fold(0u64, |sum, v| sum.saturating_add(v.spec.need));
    let (need, left) = (variants[at].spec.need, budget.saturating_sub(taken));
    variants[at].state = if need <= left { VariantState::Waiting } else { VariantState::NoRoom { need, left } };
}

/// Marks a variant as failed if its loader panics, so that no caller waits for it.
struct Unloaded<'a> {
    resident: &'a Resident,
    at: usize,
}

impl Drop for Unloaded<'_> {
    fn drop(&mut self) {
        self.resident.lock()[self.at].state = VariantState::Failed("its loader panicked".to_owned());
        self.resident.changed.notify_all();
    }
}
