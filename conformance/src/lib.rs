//! Judges any hub from outside, requirement by requirement.
//!
//! The requirements are the numbered paragraphs of `spec/`; [`Requirement`] reads them. A [`Case`] of the same id judges one of
//! them through nothing but the public API of the hub at a URL. [`judge`] runs the cases of the asked profiles and makes a
//! [`Report`]: a [`Verdict`] for every requirement, with the requests and answers of what failed.
//!
//! The suite prepares what it needs (accounts, agents) over the same API, under names of its own, and takes it away again. It
//! knows no other crate of the hub but the XMPP probe and the published protocol of workers, so that it shares no mistake with
//! what it judges: its peer of `aiox-federation/1` is a second implementation, written from the specification.
//!
//! To add a case: write the requirement into its chapter, and a function of the same id into the chapter's file below `cases/`.
//! A test refuses a MUST without a case unless `spec/uncovered.txt` gives a reason, and a case without a requirement. Then break the
//! requirement in [`mutants`], and see the case fail: `aiox conformance --local --only ID --mutants FILE`.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod case;
mod cases;
mod certificate;
mod contact;
mod document;
mod exchange;
mod expected;
mod judge;
pub mod mutants;
mod peer;
pub mod report;
mod requirement;
mod scene;
mod socket;
mod stream;
mod tamper;
mod worker;
mod world;

pub use case::{Case, Outcome, Stop};
pub use exchange::{Answer, Exchange};
pub use expected::{Expected, ExpectedError};
pub use judge::{Progress, judge};
pub use report::{Judgement, Report, Verdict};
pub use requirement::{Level, Profile, Requirement, requirements, uncovered};
pub use worker::WorkerAccess;
pub use world::{Login, Options, XmppAccess};
