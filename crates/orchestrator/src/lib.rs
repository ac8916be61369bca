//! Decisions based on numbers: what a device can do, and what to run on it.
//!
//! Everything here is pure: no device, no clock, no environment, no randomness. Measurements come in as data, and
//! decisions are returned as data with their reasons, so that each can be tested and explained. Used by the engine and
//! the command line.
//!
//! # Speculation
//!
//! A step that verifies several drafts reads the weights once for all of them. Whether that pays depends on three
//! things, each with its own type:
//!
//! - *What to draft.* A [`Drafter`] guesses the next tokens of a sequence: [`PromptLookup`] from the last occurrence of
//!   a few tokens, [`SuffixDrafter`] from the longest suffix that occurred before, or a model behind the same trait.
//! - *How likely it is right.* [`Acceptance`] counts, by the length of the match and the position of the draft.
//! - *How long a step takes.* [`StepTimes`] starts from a roofline or a table ([`StepModel`]) and then uses measured
//!   steps. It separates the machine's drift from the dependence of step times on rows.
//!
//! The [`Speculator`] combines them. It is asked before each step and told the result after it, divides drafts among
//! the sequences of a batch, occasionally times plain steps, and keeps an account so that speculation never costs more
//! than one percent and a few steps, whatever the drafts. A [`Choice`] prints as one line with the alternatives
//! considered.
//!
//! Where a device runs bursts, in which it drafts by itself, the speculator decides how long a burst is and how many
//! drafts its steps may have, from the same account.
//!
//! ```
//! use aio_orchestrator::*;
//!
//! let cost = StepCost { bytes: 80e6, bytes_per_row: 0.0, macs_per_row: 135e6, seconds: 50e-6 };
//! let ceilings = Ceilings { bandwidth: 28e9, peak: 800e9 };
//! let mut speculator = Speculator::new(SpeculationOptions {
//!     max_drafts: 16,
//!     max_rows: 17,
//!     model: StepModel::Roofline(cost, ceilings),
//! });
//! let mut acceptance = speculator.sequence(DrafterKind::Text);
//! let mut drafter = SuffixDrafter::default();
//! let text = [7, 8, 9, 10].repeat(40); // what the model will say
//! let (mut at, mut steps, mut drafts) = (8, 0, Vec::new());
//! drafter.extend(&text[..at]);
//! while at < text.len() {
//!     drafts.clear();
//!     let matched = drafter.draft(16, &mut drafts)?;
//!     let offered = drafts.len() as u32;
//!     let candidate = Candidate { acceptance: &acceptance, matched, drafts: offered, fixed: 0, seconds_per_draft: 0.0 };
//!     let choice = speculator.choose(&[candidate], 0.0);
//!     // The engine would run the step here; this one accepts drafts as long as they are what the model says.
//!     let drafted = choice.drafts[0];
//!     let right = drafts.iter().zip(&text[at..]).take_while(|(a, b)| a == b).count() as u32;
//!     let produced = (right.min(drafted) + 1).min((text.len() - at) as u32);
//!     let agreed = right.min(produced);
//!     let outcome = Outcome { acceptance: &mut acceptance, matched, offered, drafted, fixed: 0, produced, agreed };
//!     let time = StepTime::Modelled(cost.time(&ceilings, choice.rows, 0.0));
//!     let outcomes = &mut [outcome];
//!     let (choice, kv_bytes) = (&choice, 0.0);
//!     speculator.observe(Observed { choice, kv_bytes, time, draft_seconds: 0.0, fixed_seconds: 0.0, outcomes });
//!     drafter.extend(&text[at..at + produced as usize]);
//!     at += produced as usize;
//!     steps += 1;
//! }
//! assert!(steps < 40, "152 tokens in {steps} steps");
//! # Ok::<(), DraftError>(())
//! ```
#![forbid(unsafe_code)]

mod acceptance;
mod buckets;
mod bursts;
mod chooser;
mod cost_model;
mod drafter;
mod forms;
mod ledger;
mod lookup;
mod place;
mod profile;
mod random;
mod recorded;
mod regimes;
mod regret;
mod roofline;
pub mod routing;
mod select;
mod shape;
pub mod simulate;
mod speculator;
mod step_filter;
mod step_time;
mod suffix;
pub mod trace;

pub use acceptance::Acceptance;
pub use aio_plan::Ceilings;
pub use aio_plan::{Clock, StepTime};
pub use buckets::{BucketCosts, BucketSet, BucketUse, SizeCount, best_buckets, bucket_uses};
pub use bursts::{BurstChoice, BurstLimits, ObservedBurst};
pub use cost_model::{CostErrors, CostModel, PresentSpeed, StepSize};
pub use drafter::{DraftError, Drafter, DrafterKind, Match};
pub use forms::{FormChoice, FormChooser, FormReason};
pub use lookup::{LookupOptions, PromptLookup};
pub use profile::{Costs, DeviceProfile, Figure, Peak, ProfileError, ReadLevel};
pub use recorded::{RecordError, RecordHead, RecordedSteps, Recording, StepRecord};
pub use regimes::{Boundary, Predicted, StepWork};
pub use regret::Trial;
pub use roofline::{Regime, StepCost, StepModel};
pub use select::{Alternative, Candidate, Choice, Reason};
pub use speculator::{Observed, Outcome, SpeculationOptions, Speculator};
pub use step_time::{Curve, StepTimes};
pub use suffix::{SuffixDrafter, SuffixOptions};
