//! A case: what judges one requirement.

use futures::future::BoxFuture;

use crate::scene::Scene;

/// Why a case ended without a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The hub breaks the requirement. The text says what was expected and what came.
    Failed(String),
    /// It cannot be judged here: the hub does not offer it, or the suite was not given what it takes. Neither passed nor failed.
    NotRun(String),
    /// The suite could not do its work: the hub could not be reached, or its own preparation failed. Says nothing of the hub.
    Harness(String),
}

/// What a case ends with.
pub type Outcome = Result<(), Stop>;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// The requirement that it judges.
    pub id: &'static str,
    /// Cases of a higher stage run after all of a lower one: first those that load the hub, then one by one those that use up limits
    /// that the whole suite shares, or look at the whole judgement.
    pub(crate) stage: u8,
    /// Whether it mostly waits; those begin first.
    pub(crate) slow: bool,
    /// What it does.
    pub(crate) run: fn(Scene) -> BoxFuture<'static, Outcome>,
}
impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The cases of a chapter: `cases! { "RUN-001" => run_001, … }`. A `slow` case begins first, one that is `late` runs after all those,
/// and with `last` it runs alone after all others.
macro_rules! cases {
    ($($id:literal => $run:ident $(@ $stage:ident)?),* $(,)?) => {
        /// The cases of this chapter.
        pub(super) const CASES: &[crate::case::Case] = &[$(
            crate::case::Case {
                id: $id,
                stage: crate::case::stage!($($stage)?).0,
                slow: crate::case::stage!($($stage)?).1,
                run: |scene| Box::pin($run(scene)),
            }
        ),*];
    };
}
macro_rules! stage {
    () => {
        (0, false)
    };
    (slow) => {
        (0, true)
    };
    (late) => {
        (1, false)
    };
    (last) => {
        (2, false)
    };
}
pub(crate) use {cases, stage};

/// Fails the case unless something holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        match $holds {
            true => {}
            false => return Err(crate::case::Stop::Failed(format!($($text)+))),
        }
    };
}
pub(crate) use ensure;
