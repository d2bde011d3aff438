//! Agents: create, read, change, delete, grant, and what strangers see.

use std::sync::Arc;

use aiox_core::{
    Caller, Error, Principal, Result, Role, Scope,
    access::Access,
    agent as rules,
    ports::{Clock, Ids},
};
use aiox_model::{
    AgentId, BareJid, GrantId, Ts, UserId,
    agent::{Agent, AgentCard, AgentCreate, AgentProfile, AgentUpdate, Grant, GranteeKind, NewGrant, Visibility},
};
use aiox_store::{
    AsDb, Store, Tx,
    agents::{self, AgentRow, GrantRow, StoredConfig},
    audit::{self as audit_store, AuditRow, Filter},
};
use serde_json::Map;

use crate::{
    AgentRef, Directory, Target, Vault, agent_config::parse_config, audit, narrowed::Narrowed, remote::remote_caller, vault::prompt_place,
};

/// Agents of a hub. Cheap to clone.
#[derive(Clone)]
pub struct Agents {
    store: Store,
    vault: Vault,
    directory: Directory,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    default_provider: String,
    narrowed: Arc<Narrowed>,
}

/// What a listing of `/v1` tells of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Version of its configuration.
    pub version: u64,
    /// Whether it answers: its governance does not block it.
    pub active: bool,
    /// When it was made.
    pub created_at: Ts,
    /// When it was last changed.
    pub updated_at: Ts,
}

impl Summary {
    fn of(row: &AgentRow) -> Self {
        Self {
            id: row.id,
            name: row.name.clone(),
            description: row.description.clone(),
            version: row.version,
            active: parse_config(row).is_ok_and(|config| !config.governance.blocked),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Agents that one listing of others' agents shows at most.
const LISTED: u32 = 500;

impl Agents {
    /// Agents over the given ports. `default_provider` answers for agents that name none.
    #[must_use]
    pub fn new(
        store: Store,
        vault: Vault,
        directory: Directory,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        default_provider: String,
    ) -> Self {
        Self { store, vault, directory, clock, ids, default_provider, narrowed: Arc::default() }
    }

    /// Creates an agent of the caller.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the member, [`Error::Conflict`] for a handle that is or was taken.
    pub async fn create(&self, caller: &Caller, new: AgentCreate) -> Result<Agent> {
        caller.require(Scope::AgentsWrite)?;
        let owner = caller.principal.user().ok_or(Error::NotFound("agent"))?;
        rules::check_create(&new)?;
        self.make(caller, owner, new).await
    }

    /// Makes the agents that a hub for trying out has from the start, unless they are there. What was changed or deleted since stays so.
    ///
    /// # Errors
    /// Database errors.
    pub(crate) async fn make_samples(&self, owner: &Caller) -> Result<()> {
        let user = owner.principal.user().ok_or(Error::NotFound("account"))?;
        for (handle, name) in rules::SAMPLES.into_iter().zip(["Demo Agent", "Sample Echo Agent"]) {
            if agents::by_name(&mut self.store.read().await?, handle).await?.is_some() {
                continue;
            }
            let sample = AgentCreate {
                name: name.into(),
                description: "Repeats what it is told, without any provider outside.".into(),
                system_prompt: "Repeat what you are told.".into(),
                personality_traits: Vec::new(),
                llm_config: Map::from_iter([("provider".to_owned(), "echo".into())]),
                capabilities: Map::new(),
                memory_config: Map::new(),
                governance: Map::new(),
                tools: Map::new(),
                visibility: Some(Visibility::Tenant),
                handle: Some(handle.into()),
            };
            match self.make(owner, user, sample).await {
                // Another process on this database was faster.
                Ok(_) | Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn make(&self, caller: &Caller, owner: UserId, new: AgentCreate) -> Result<Agent> {
        let id = AgentId(self.ids.uuid());
        let now = self.clock.now();
        let prompt_sealed = self.vault.seal(caller.tenant, &prompt_place(id.uuid()), new.system_prompt.as_bytes()).await?;
        let row = AgentRow {
            id,
            tenant: caller.tenant,
            owner,
            handle: new.handle,
            name: new.name.trim().to_owned(),
            description: new.description,
            prompt_sealed,
            config: StoredConfig {
                traits: new.personality_traits,
                llm: new.llm_config,
                memory: new.memory_config,
                capabilities: new.capabilities,
                governance: new.governance,
                tools: new.tools,
            },
            visibility: new.visibility.unwrap_or(Visibility::Private),
            version: 1,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        let mut tx = self.store.begin().await?;
        agents::insert(&mut tx, &row).await?;
        if let Some(handle) = &row.handle {
            claim(&mut tx, handle, id, now).await?;
        }
        audit_store::insert(&mut tx, &self.record(caller, "agent.created", id)).await?;
        tx.commit().await?;
        metrics::counter!("aiox_agents_created_total").increment(1);
        Ok(self.view(row, new.system_prompt))
    }

    /// Own agents, newest first.
    ///
    /// # Errors
    /// Database errors. An agent whose prompt cannot be opened is listed without it, so that one damaged row does not hide the others.
    pub async fn list(&self, caller: &Caller, limit: u32, offset: u64) -> Result<(Vec<Agent>, u64)> {
        caller.require(Scope::AgentsRead)?;
        let owner = caller.principal.user().ok_or(Error::NotFound("agent"))?;
        let mut db = self.store.read().await?;
        let (rows, count) = agents::of_owner(&mut db, owner, limit, offset).await?;
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let prompt = match self.prompt(&mut db, &row).await {
                Ok(prompt) => prompt,
                Err(error) => {
                    tracing::error!(agent = %row.id, error = %error.chain(), "the prompt of an agent cannot be read");
                    String::new()
                }
            };
            all.push(self.view(row, prompt));
        }
        Ok((all, count))
    }

    /// One own agent, with its prompt.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`] for another owner's agent of the same tenant (the published contract of
    /// `/api/v1/agents`); [`Error::Corrupt`] when its prompt cannot be opened.
    pub async fn get(&self, caller: &Caller, id: AgentId) -> Result<Agent> {
        caller.require(Scope::AgentsRead)?;
        let mut db = self.store.read().await?;
        let row = owned(&mut db, caller, id).await?;
        let prompt = self.prompt(&mut db, &row).await?;
        Ok(self.view(row, prompt))
    }

    /// Changes an own agent. Of concurrent changes one wins, the others are conflicts.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`create`](Self::create); [`Error::Conflict`] `version_conflict` when the agent has changed.
    pub async fn update(&self, caller: &Caller, id: AgentId, change: AgentUpdate) -> Result<Agent> {
        caller.require(Scope::AgentsWrite)?;
        rules::check_update(&change)?;
        let sealed = match &change.system_prompt {
            Some(prompt) => Some(self.vault.seal(caller.tenant, &prompt_place(id.uuid()), prompt.as_bytes()).await?),
            None => None,
        };
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let mut row = owned(&mut tx, caller, id).await?;
        let conflict = || Error::conflict("version_conflict", "the agent was changed meanwhile; read it again");
        let expected = row.version;
        if change.version.is_some_and(|based_on| based_on != expected) {
            return Err(conflict());
        }
        if let Some(handle) = &change.handle {
            claim(&mut tx, handle, id, now).await?;
        }
        apply(&mut row, change, sealed);
        row.version = expected + 1;
        row.updated_at = now;
        if !agents::update(&mut tx, &row, expected).await? {
            return Err(conflict());
        }
        audit_store::insert(&mut tx, &self.record(caller, "agent.updated", id)).await?;
        let prompt = self.prompt(&mut tx, &row).await?;
        tx.commit().await?;
        self.narrowed.add(id);
        Ok(self.view(row, prompt))
    }

    /// Deletes an own agent. Its names stay taken; [`restore`](Self::restore) brings it back until it is purged.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delete(&self, caller: &Caller, id: AgentId) -> Result<()> {
        caller.require(Scope::AgentsWrite)?;
        let mut tx = self.store.begin().await?;
        owned(&mut tx, caller, id).await?;
        if !agents::delete(&mut tx, id, self.clock.now()).await? {
            return Err(Error::NotFound("agent"));
        }
        audit_store::insert(&mut tx, &self.record(caller, "agent.deleted", id)).await?;
        tx.commit().await?;
        self.narrowed.add(id);
        Ok(())
    }

    /// Brings a deleted own agent back.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller has no such deleted agent, or when it has been purged.
    pub async fn restore(&self, caller: &Caller, id: AgentId) -> Result<Agent> {
        caller.require(Scope::AgentsWrite)?;
        let mut tx = self.store.begin().await?;
        let row = agents::by_id(&mut tx, id).await?;
        let row = row.filter(|row| row.deleted_at.is_some() && !row.prompt_sealed.is_empty() && caller.principal.user() == Some(row.owner));
        row.ok_or(Error::NotFound("agent"))?;
        agents::restore(&mut tx, id, self.clock.now()).await?;
        audit_store::insert(&mut tx, &self.record(caller, "agent.restored", id)).await?;
        tx.commit().await?;
        self.get(caller, id).await
    }

    /// Empties agents that were deleted before `before`. How many.
    ///
    /// # Errors
    /// Database errors.
    pub async fn purge(&self, before: Ts) -> Result<u64> {
        let mut tx = self.store.begin().await?;
        let purged = agents::purge(&mut tx, before).await?;
        tx.commit().await?;
        Ok(purged)
    }

    /// What anybody who may use an agent sees of it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown, deleted and forbidden agents alike.
    pub async fn card(&self, caller: &Caller, agent: &AgentRef) -> Result<AgentCard> {
        match self.directory.resolve(caller, agent).await? {
            Target::Local(row, _) => Ok(self.card_of(&row)),
            Target::Remote { card, .. } => card.map(|card| *card).ok_or(Error::NotFound("agent")),
        }
    }

    /// The card of a local agent, whoever asks: for the hub's own announcements to those it has already let in.
    ///
    /// # Errors
    /// [`Error::NotFound`], database errors.
    pub async fn card_by_id(&self, id: AgentId) -> Result<AgentCard> {
        Ok(self.card_of(&self.directory.local(&AgentRef::Id(id)).await?))
    }

    /// Cards of all local agents that a caller may use, newest first.
    ///
    /// # Errors
    /// Database errors.
    pub async fn usable(&self, caller: &Caller) -> Result<Vec<AgentCard>> {
        Ok(self.usable_rows(caller).await?.iter().map(|row| self.card_of(row)).collect())
    }

    /// The agents of the caller's tenant that the caller may use, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope; database errors.
    pub async fn summaries(&self, caller: &Caller) -> Result<Vec<Summary>> {
        caller.require(Scope::AgentsRead)?;
        let rows = self.usable_rows(caller).await?;
        Ok(rows.iter().filter(|row| row.tenant == caller.tenant).map(Summary::of).collect())
    }

    /// One agent of the caller's tenant that the caller may use.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown, deleted and forbidden agents and those of other hubs alike; [`Error::Forbidden`] without the
    /// scope; database errors.
    pub async fn summary(&self, caller: &Caller, agent: &AgentRef) -> Result<Summary> {
        caller.require(Scope::AgentsRead)?;
        match self.directory.resolve(caller, agent).await? {
            Target::Local(row, _) if row.tenant == caller.tenant => Ok(Summary::of(&row)),
            _ => Err(Error::NotFound("agent")),
        }
    }

    async fn usable_rows(&self, caller: &Caller) -> Result<Vec<AgentRow>> {
        let mut db = self.store.read().await?;
        let jid = caller.principal.jid();
        let user = caller.principal.user().map(|id| id.uuid().to_string()).unwrap_or_default();
        let by_origin = match caller.principal {
            Principal::User { .. } => (GranteeKind::User, user.as_str()),
            Principal::Remote { .. } => (GranteeKind::Peer, jid.domain()),
        };
        let grantees = [by_origin, (GranteeKind::User, jid.local()), (GranteeKind::Jid, jid.as_str()), (GranteeKind::Domain, jid.domain())];
        let mut found = agents::candidates(&mut db, grantees, LISTED).await?;
        if let Some(owner) = caller.principal.user() {
            let (own, _) = agents::of_owner(&mut db, owner, LISTED, 0).await?;
            found.extend(own.into_iter().filter(|row| row.visibility == Visibility::Private));
        }
        found.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
        found.dedup_by_key(|row| row.id);
        let mut usable = Vec::new();
        for row in found {
            if self.directory.access(&mut db, caller, &row).await? != Access::None {
                usable.push(row);
            }
        }
        Ok(usable)
    }

    /// Cards of the agents that some user of a peer domain may see: those open to the mesh, to the public, or to that domain.
    ///
    /// # Errors
    /// Database errors.
    pub async fn visible_to_peer(&self, domain: &str) -> Result<Vec<AgentCard>> {
        let anybody: BareJid = format!("anybody@{domain}").parse().map_err(Error::internal)?;
        let caller =
            remote_caller(anybody, aiox_core::quota::Limits::default(), aiox_model::TraceId(self.ids.uuid()), aiox_core::Door::Federation);
        self.usable(&caller).await
    }

    /// Grants of an own agent.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn grants(&self, caller: &Caller, id: AgentId) -> Result<Vec<Grant>> {
        caller.require(Scope::AgentsRead)?;
        let mut db = self.store.read().await?;
        owned(&mut db, caller, id).await?;
        Ok(agents::grants(&mut db, id).await?.into_iter().map(grant_view).collect())
    }

    /// Grants the use of an own agent.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::Invalid`] for a grantee that cannot be one, [`Error::Conflict`] when it is granted already.
    pub async fn grant(&self, caller: &Caller, id: AgentId, new: NewGrant) -> Result<Grant> {
        caller.require(Scope::AgentsWrite)?;
        let by = caller.principal.user().ok_or(Error::NotFound("agent"))?;
        let grantee = normal_grantee(new.kind, &new.grantee)?;
        let row = GrantRow { id: GrantId(self.ids.uuid()), agent: id, kind: new.kind, grantee, created_at: self.clock.now() };
        let mut tx = self.store.begin().await?;
        owned(&mut tx, caller, id).await?;
        if !agents::insert_grant(&mut tx, &row, by).await? {
            return Err(Error::conflict("grant_exists", "this grant exists already"));
        }
        audit_store::insert(&mut tx, &self.record(caller, "grant.created", id)).await?;
        tx.commit().await?;
        Ok(grant_view(row))
    }

    /// Takes a grant back; it acts on the next message.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn revoke(&self, caller: &Caller, id: AgentId, grant: GrantId) -> Result<()> {
        caller.require(Scope::AgentsWrite)?;
        let mut tx = self.store.begin().await?;
        owned(&mut tx, caller, id).await?;
        if !agents::delete_grant(&mut tx, id, grant).await? {
            return Err(Error::NotFound("grant"));
        }
        audit_store::insert(&mut tx, &self.record(caller, "grant.revoked", id)).await?;
        tx.commit().await?;
        self.narrowed.add(id);
        Ok(())
    }

    /// Waits for agents that fewer people may use than before, perhaps: changed, deleted, or with a grant taken back. One reader.
    pub async fn narrowed(&self) -> Vec<AgentId> {
        self.narrowed.next().await
    }

    /// Every address of a local agent, whoever asks and even if it is deleted: for taking leave of those who knew it.
    ///
    /// # Errors
    /// [`Error::NotFound`], database errors.
    pub async fn addresses(&self, id: AgentId) -> Result<Vec<BareJid>> {
        let row = agents::by_id(&mut self.store.read().await?, id).await?.ok_or(Error::NotFound("agent"))?;
        let card = self.card_of(&row);
        let handle = card.handle.map(|handle| format!("{handle}@{}", self.directory.names().agents_domain()));
        Ok([Some(card.jid), handle].into_iter().flatten().filter_map(|address| address.parse().ok()).collect())
    }

    /// The living local agent of a name, whoever asks: for recording who was denied it.
    ///
    /// # Errors
    /// [`Error::NotFound`], database errors.
    pub async fn id_of(&self, agent: &AgentRef) -> Result<AgentId> {
        Ok(self.directory.local(agent).await?.id)
    }

    /// Records for its owner that an address, which its own XMPP server vouches for, was denied an agent.
    ///
    /// # Errors
    /// [`Error::NotFound`], database errors.
    pub async fn record_denied(&self, stranger: &BareJid, id: AgentId) -> Result<()> {
        let row = self.directory.local(&AgentRef::Id(id)).await?;
        let record = audit::denied(&*self.clock, &*self.ids, (row.tenant, row.owner), stranger, id);
        let mut tx = self.store.begin().await?;
        audit_store::insert(&mut tx, &record).await?;
        tx.commit().await
    }

    /// Audit records of the caller, or about one own agent.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn audit(
        &self,
        caller: &Caller,
        agent: Option<AgentId>,
        mut filter: Filter,
        limit: u32,
        offset: u64,
    ) -> Result<(Vec<AuditRow>, u64)> {
        let owner: UserId = caller.principal.user().ok_or(Error::NotFound("agent"))?;
        let mut db = self.store.read().await?;
        match agent {
            Some(id) => {
                owned(&mut db, caller, id).await?;
                filter.resource = Some(id.uuid().to_string());
            }
            None => filter.owner = Some(owner.uuid()),
        }
        audit_store::list(&mut db, &filter, limit, offset).await
    }

    async fn prompt(&self, db: &mut impl AsDb, row: &AgentRow) -> Result<String> {
        let clear = self.vault.open(db, row.tenant, &prompt_place(row.id.uuid()), &row.prompt_sealed).await?;
        String::from_utf8(clear.to_vec()).map_err(Error::internal)
    }

    fn record(&self, caller: &Caller, action: &str, id: AgentId) -> AuditRow {
        audit::record(&*self.clock, &*self.ids, caller, action, Some(("agent", id.uuid().to_string())))
    }

    fn view(&self, row: AgentRow, system_prompt: String) -> Agent {
        let names = self.directory.names();
        Agent {
            id: row.id.uuid(),
            owner_user_id: row.owner.uuid(),
            jid: names.agent_jid(row.id),
            handle: row.handle,
            spiffe_id: names.agent_spiffe(row.id),
            profile: AgentProfile {
                name: row.name,
                description: row.description,
                system_prompt,
                personality_traits: row.config.traits,
                encrypted: true,
            },
            llm_config: row.config.llm,
            capabilities: row.config.capabilities,
            memory_config: row.config.memory,
            governance: row.config.governance,
            tools: row.config.tools,
            visibility: row.visibility,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
        }
    }

    fn card_of(&self, row: &AgentRow) -> AgentCard {
        let names = self.directory.names();
        let config = parse_config(row).unwrap_or_default();
        AgentCard {
            id: row.id.uuid(),
            jid: names.agent_jid(row.id),
            handle: row.handle.clone(),
            domain: names.domain().to_owned(),
            name: row.name.clone(),
            description: row.description.clone(),
            domain_tags: config.capabilities.domain_tags,
            provider: config.llm.provider.unwrap_or_else(|| self.default_provider.clone()).to_lowercase(),
            visibility: row.visibility,
            updated_at: row.updated_at,
        }
    }
}

/// The living agent if it is the caller's; managers of its tenant count as owners.
async fn owned(db: &mut impl AsDb, caller: &Caller, id: AgentId) -> Result<AgentRow> {
    let row = agents::by_id(db, id).await?.filter(|row| row.deleted_at.is_none() && row.tenant == caller.tenant);
    let row = row.ok_or(Error::NotFound("agent"))?;
    if caller.principal.user() == Some(row.owner) || caller.role >= Role::Manager {
        Ok(row)
    } else {
        // The one place where "not yours" differs from "not there": the published contract of /api/v1/agents.
        Err(Error::forbidden("forbidden", "access denied: ownership mismatch"))
    }
}

async fn claim(tx: &mut Tx, handle: &str, id: AgentId, at: Ts) -> Result<()> {
    if agents::claim_name(tx, handle, id, at).await? {
        Ok(())
    } else {
        Err(Error::conflict("handle_taken", "this handle is taken; handles are never given twice"))
    }
}

fn apply(row: &mut AgentRow, change: AgentUpdate, sealed: Option<Vec<u8>>) {
    if let Some(name) = change.name {
        row.name = name.trim().to_owned();
    }
    if let Some(description) = change.description {
        row.description = description;
    }
    if let Some(traits) = change.personality_traits {
        row.config.traits = traits;
    }
    for (slot, given) in [
        (&mut row.config.llm, change.llm_config),
        (&mut row.config.capabilities, change.capabilities),
        (&mut row.config.memory, change.memory_config),
        (&mut row.config.governance, change.governance),
        (&mut row.config.tools, change.tools),
    ] {
        if let Some(object) = given {
            *slot = object;
        }
    }
    if let Some(visibility) = change.visibility {
        row.visibility = visibility;
    }
    if change.handle.is_some() {
        row.handle = change.handle;
    }
    if let Some(sealed) = sealed {
        row.prompt_sealed = sealed;
    }
}

fn grant_view(row: GrantRow) -> Grant {
    Grant { id: row.id.uuid(), agent_id: row.agent.uuid(), kind: row.kind, grantee: row.grantee, created_at: row.created_at }
}

fn normal_grantee(kind: GranteeKind, text: &str) -> Result<String> {
    let text = text.trim().to_lowercase();
    let bad = |what: &str| Error::invalid("grantee", what.to_owned());
    match kind {
        GranteeKind::User if !text.is_empty() && text.len() <= 64 => Ok(text),
        GranteeKind::User => Err(bad("must be a user name or id")),
        GranteeKind::Role => Role::parse(&text).map(|role| role.as_str().to_owned()).ok_or_else(|| bad("must be a role")),
        GranteeKind::Jid => text.parse::<BareJid>().map(|jid| jid.to_string()).map_err(|_| bad("must be an address name@domain")),
        GranteeKind::Domain | GranteeKind::Peer => {
            format!("x@{text}").parse::<BareJid>().map(|jid| jid.domain().to_owned()).map_err(|_| bad("must be a domain"))
        }
    }
}
