//! Two who disagree about a training window, and a referee who recomputes 64 multiply-adds.
//!
//! Every operator is specified to the bit, so of two who come to different ends from the same beginning one is wrong, and it can be
//! shown where. A [`Program`] lists the tensors of one inner step; each element of each is a chain of segments, small pure functions
//! of a few words of earlier tensors ([`operator`]). The [`Game`] is a search for the first wrong segment. The maker of a window says
//! what it came to, ever finer; the challenger picks the first that is wrong, step, group of tensors, tensor, element, segment; what is left at the
//! end is opened with Merkle proofs and computed again. Whoever was wrong, silent or inconsistent has lost, and a
//! [`Record`] of it convinces everybody else ([`check`]).
//!
//! ```
//! use zoo_dispute::{Flip, Forgery, Knowledge, Player, Reason, Replay, Role, Side, Terms, check, play};
//! use zoo_protocol::NodeKey;
//! use zoo_training::{Dataset, Share, Trainer, WindowTask, preset};
//!
//! let tokens: Vec<u32> = (0..2000).map(|at| at * at % 251).collect();
//! let data = Dataset::encode(256, &tokens, 2000)?;
//! let spec = preset::by_name("qwen3-tiny").expect("a preset").spec;
//! let base = Trainer::new(spec.clone(), &data)?.checkpoint();
//! let share = Share { first_sequence: 0, sequences_per_step: 2, inner_steps: 3 };
//! let window = WindowTask::first(&spec, &data, &base, share);
//!
//! let flip = Flip { step: 1, tensor: 60, element: 5, bit: 20 };
//! let mut liar = Player::new(Forgery::new(Replay::new(window)?, flip));
//! let honest = Replay::new(window)?;
//!
//! let [maker, challenger, arbiter] = [1, 2, 3].map(|seed| NodeKey::from_seed([seed; 32]));
//! let terms = Terms {
//!     task: honest.task().clone(),
//!     outcome: liar.outcome()?,
//!     maker: maker.id(),
//!     challenger: challenger.id(),
//!     begins_ms: 0,
//!     move_ms: 60_000,
//! };
//! let mut honest = Player::new(honest);
//! let maker = Side { key: &maker, player: &mut liar };
//! let challenger = Side { key: &challenger, player: &mut honest };
//! let hearing = play(terms, maker, challenger)?;
//!
//! let file = hearing.file(&arbiter).expect("it is over");
//! let verdict = check(&file)?.record.verdict;
//! assert_eq!((verdict.loser, verdict.place.step), (Role::Maker, Some(1)));
//! assert!(matches!(verdict.reason, Reason::Computation { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Who has the tensors of a step but not the means to compute them checks them operator by operator: [`validate`].
//!
//! A window is all that a commitment says of one ([`zoo_protocol::WindowOutcome`]): it begins with the checkpoint of the round and with what the
//! replica kept, takes the steps of its lead and joins, takes those of its share, scores each, and ends in encoded updates with their norms and
//! in what the replica keeps. Digests of blobs are operators too, so a dispute begins with two outcomes and knows nothing else. Covered are
//! all presets (Qwen3, Llama, GPT-2) in both numeric profiles, with AdamW and with Muon, with and without clipping, with dense and with sparse
//! updates. Not covered are windows that cannot be trained to their end (a number that is not finite, an update beyond its scale): those have no outcome.

mod account;
mod forge;
mod game;
mod moves;
pub mod operator;
mod player;
pub mod program;
mod record;
mod referee;
mod replay;
mod terms;
mod trace;
pub mod tree;
pub mod validate;
mod verdict;
mod wanted;

pub use account::{Account, Claim, Step};
pub use forge::{Flip, Forgery};
pub use game::{Game, Refusal};
pub use moves::{MOVE_BYTES_MAX, Move, Opening, Role, Said};
pub use player::{Answer, Player};
pub use program::{Program, group_digest, state_digest, step_digest};
pub use record::{CheckError, Checked, FILE_BYTES_MAX, Hearing, PlayError, Record, Side, check, play};
pub use replay::{Knowledge, Replay, ReplayError};
pub use terms::{Kept, STEPS_MAX, Task, Terms, TermsError};
pub use trace::{Blobs, State, Trace};
pub use verdict::{Element, Named, Place, Reason, Verdict};
pub use wanted::{Below, Part, Scene, Wanted};
