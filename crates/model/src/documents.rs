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

use crate::{account, agent, body, run, v1};

macro_rules! documents {
    ($($type:ty),* $(,)?) => {
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
        /// Adds every published document to a generator.
        pub fn register(generator: &mut SchemaGenerator) {
            $(generator.subschema_for::<$type>();)*
        }
    };
}

documents! {
    account::ApiKey, account::AuditLog, account::Login, account::NewApiKey, account::Quota, account::Refresh, account::Register,
    account::TokenPair, account::User,
    agent::Agent, agent::AgentCard, agent::AgentCreate, agent::AgentUpdate, agent::Grant, agent::NewGrant,
    body::ErrorBody, body::Message,
    run::ChatReply, run::ChatRequest, run::Conversation, run::HistoryMessage, run::Run, run::RunDelta, run::RunEvent,
    v1::error::ErrorBody,
    v1::gateway::ModelInvoke, v1::gateway::ModelInvoked, v1::gateway::ModelList, v1::gateway::PolicyCheck, v1::gateway::PolicyChecked,
    v1::openai::ChatCompletion, v1::openai::ChatRequest, v1::openai::Deleted, v1::openai::EmbeddingList, v1::openai::EmbeddingRequest,
    v1::openai::ErrorBody, v1::openai::ModelList, v1::openai::Response, v1::openai::ResponseRequest,
    v1::tenants::AuditPage, v1::tenants::Deleted, v1::tenants::TenantBody, v1::tenants::TenantCreate, v1::tenants::TenantList,
    v1::tenants::TokenBody, v1::tenants::TokenCreate, v1::tenants::TokenList,
    body::Data<agent::Agent>, body::Page<agent::Agent>, body::Data<Vec<agent::AgentCard>>,
}
