//! Administration of tenants. Needs the scope `tenants:admin`.

use aiox_model::v1::tenants::{AuditPage, Deleted, Tenant, TenantBody, TenantCreate, TenantList, Token, TokenBody, TokenCreate, TokenList};
use reqwest::{Method, RequestBuilder};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Client, QUICK, Result, read};

const ROOT: [&str; 3] = ["v1", "admin", "tenants"];

impl Client {
    /// The first thousand tenants, by id.
    ///
    /// # Errors
    /// As every call: see [`crate::Error`].
    pub async fn tenants(&self) -> Result<Vec<Tenant>> {
        self.get::<TenantList>(&ROOT, &[("limit", "1000".to_owned())]).await.map(|body| body.tenants)
    }

    /// One tenant.
    ///
    /// # Errors
    /// As every call.
    pub async fn tenant(&self, id: &str) -> Result<Tenant> {
        self.tenant_call(Method::GET, &[id]).await.map(|body: TenantBody| body.tenant)
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// As every call; code `conflict` for a used id.
    pub async fn create_tenant(&self, tenant: &TenantCreate) -> Result<Tenant> {
        self.tenant_send(self.call(Method::POST, &ROOT)?, tenant).await.map(|body: TenantBody| body.tenant)
    }

    /// Changes the members of a tenant that the patch names (RFC 7396).
    ///
    /// # Errors
    /// As every call.
    pub async fn change_tenant(&self, id: &str, patch: &serde_json::Value) -> Result<Tenant> {
        self.tenant_send(self.call(Method::PATCH, &[&ROOT[..], &[id]].concat())?, patch).await.map(|body: TenantBody| body.tenant)
    }

    /// Switches a tenant on or off.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_tenant_enabled(&self, id: &str, enabled: bool) -> Result<Tenant> {
        let path = format!("{id}:{}", if enabled { "enable" } else { "disable" });
        self.tenant_call(Method::POST, &[&path]).await.map(|body: TenantBody| body.tenant)
    }

    /// Deletes a tenant.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_tenant(&self, id: &str) -> Result<()> {
        let request = self.call(Method::DELETE, &[&ROOT[..], &[id]].concat())?.query(&[("confirm", id)]);
        read::<Deleted>(request.timeout(QUICK).send().await?).await.map(drop)
    }

    /// The living service tokens of a tenant, without their secrets.
    ///
    /// # Errors
    /// As every call.
    pub async fn tokens(&self, tenant: &str) -> Result<Vec<Token>> {
        self.tenant_call(Method::GET, &[tenant, "tokens"]).await.map(|body: TokenList| body.tokens)
    }

    /// Issues a service token. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// As every call.
    pub async fn issue_token(&self, tenant: &str, token: &TokenCreate) -> Result<Token> {
        let request = self.call(Method::POST, &[&ROOT[..], &[tenant, "tokens"]].concat())?;
        self.tenant_send(request, token).await.map(|body: TokenBody| body.token)
    }

    /// Gives a service token a new secret. The old one is dead.
    ///
    /// # Errors
    /// As every call.
    pub async fn rotate_token(&self, tenant: &str, token: &str) -> Result<Token> {
        self.tenant_call(Method::POST, &[tenant, "tokens", &format!("{token}:rotate")]).await.map(|body: TokenBody| body.token)
    }

    /// Ends a service token.
    ///
    /// # Errors
    /// As every call.
    pub async fn revoke_token(&self, tenant: &str, token: &str) -> Result<()> {
        self.tenant_call::<Deleted>(Method::DELETE, &[tenant, "tokens", token]).await.map(drop)
    }

    /// One page of the audit log, newest first, narrowed by `tenant`, `principal`, `action`, `outcome`, `from`, `to`, `cursor`, `limit`.
    ///
    /// # Errors
    /// As every call.
    pub async fn audit(&self, narrow: &[(&str, String)]) -> Result<AuditPage> {
        self.get(&["v1", "admin", "audit"], narrow).await
    }

    async fn tenant_call<T: DeserializeOwned>(&self, method: Method, below: &[&str]) -> Result<T> {
        read(self.call(method, &[&ROOT[..], below].concat())?.timeout(QUICK).send().await?).await
    }

    async fn tenant_send<T: DeserializeOwned>(&self, request: RequestBuilder, body: &impl Serialize) -> Result<T> {
        read(request.json(body).timeout(QUICK).send().await?).await
    }
}
