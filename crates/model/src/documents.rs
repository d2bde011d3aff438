//! The index of published documents: what is listed here has a name in the OpenAPI documents and a file in `schemas/v1`.
//!
//! A type's schema is what schemars derives, and nothing else. `utoipa` describes paths and operations and refers to a type by its
//! name alone, so there is one truth about shapes. To publish a type: derive `JsonSchema`, list it here, run `make spec`.

use std::borrow::Cow;

use schemars::{JsonSchema, SchemaGenerator};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Ref, RefOr, Schema},
};

use crate::{account, agent, body, conformance, federation, operations, run, v1};

macro_rules! documents {
    ($register:ident, $names:ident: $($type:ty),* $(,)?) => {
        $(
            impl PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    RefOr::Ref(Ref::from_schema_name(<$type as JsonSchema>::schema_name()))
                }
            }
            impl ToSchema for $type {
                fn name() -> Cow<'static, str> {
                    <$type as JsonSchema>::schema_name()
                }
            }
        )*
        /// Adds the documents of this group to a generator.
        pub fn $register(generator: &mut SchemaGenerator) {
            $(generator.subschema_for::<$type>();)*
        }
        /// Names of the documents of this group.
        #[must_use]
        pub fn $names() -> Vec<Cow<'static, str>> {
            vec![$(<$type as JsonSchema>::schema_name()),*]
        }
    };
}

// What the product listener reads and writes.
documents! {
    register, names:
    account::ApiKey, account::AuditLog, account::Invite, account::Login, account::NewApiKey, account::NewInvite, account::NewPassword,
    account::NewUser, account::Quota, account::Refresh, account::Register, account::TokenPair, account::User, account::UserChange,
    agent::Agent, agent::AgentCard, agent::AgentCreate, agent::AgentUpdate, agent::Grant, agent::NewGrant,
    body::ErrorBody, body::Message,
    conformance::ConformanceResult, conformance::ConformanceRule, conformance::NewConformanceResult,
    federation::ConfirmPeer, federation::NewPeer, federation::OwnHub, federation::PeerView, federation::TrustDocument,
    operations::Liveness, operations::Readiness, operations::Worker, operations::Workers,
    run::ChatReply, run::ChatRequest, run::Conversation, run::HistoryMessage, run::Run, run::RunDelta, run::RunEvent,
    v1::agent::AgentBody, v1::agent::AgentList, v1::agent::Health, v1::agent::Readiness,
    v1::error::ErrorBody,
    v1::event::Delta, v1::event::EventEnvelope,
    v1::federation::CapabilitiesBody, v1::federation::ForwardBody, v1::federation::ForwardedBody, v1::federation::IngestBody,
    v1::federation::IngestedBody, v1::federation::PeerBody, v1::federation::PeerList,
    v1::run::RunBody, v1::run::RunCreate,
    v1::gateway::ModelInvoke, v1::gateway::ModelInvoked, v1::gateway::ModelList, v1::gateway::PolicyCheck, v1::gateway::PolicyChecked,
    v1::openai::ChatCompletion, v1::openai::ChatRequest, v1::openai::Deleted, v1::openai::EmbeddingList, v1::openai::EmbeddingRequest,
    v1::openai::ErrorBody, v1::openai::ModelList, v1::openai::Response, v1::openai::ResponseRequest,
    v1::tenants::AuditPage, v1::tenants::Deleted, v1::tenants::TenantBody, v1::tenants::TenantCreate, v1::tenants::TenantList,
    v1::tenants::TokenBody, v1::tenants::TokenCreate, v1::tenants::TokenList,
    body::Data<account::ApiKey>, body::List<account::ApiKey>, body::Page<account::AuditLog>, body::Data<account::Invite>,
    body::Data<account::Quota>, body::Data<account::TokenPair>, body::Data<account::User>, body::Page<account::User>,
    body::Data<agent::Agent>, body::Page<agent::Agent>, body::List<agent::AgentCard>, body::Data<agent::Grant>, body::List<agent::Grant>,
    body::Data<federation::OwnHub>, body::Data<federation::PeerView>, body::List<federation::PeerView>,
    body::Data<conformance::ConformanceResult>, body::Data<operations::Liveness>, body::Data<operations::Readiness>, body::Data<operations::Workers>,
    body::Data<run::ChatReply>, body::Page<run::Conversation>, body::Page<run::HistoryMessage>, body::Data<run::Run>, body::List<run::Run>,
    body::Page<run::Run>,
}

// What two hubs exchange on the peer listener.
documents! {
    register_federation, federation_names:
    federation::Capabilities, federation::Directory, federation::Envelope, federation::EnvelopeBatch, federation::Hello,
    federation::History, federation::Problem, federation::Receipt, federation::RunCancel, federation::RunCreate,
    federation::TokenClaims, federation::VerdictBatch,
}
