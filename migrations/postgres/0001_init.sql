-- The first schema. Times are microseconds since the Unix epoch (UTC), JSON is text, ids are UUIDv7.

CREATE TABLE tenants (
  id UUID PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  status TEXT NOT NULL,
  created_at BIGINT NOT NULL
);

-- Data keys of a tenant, each sealed under the hub's master key. Writes use the newest that is not retired.
CREATE TABLE tenant_keys (
  id UUID PRIMARY KEY,
  tenant_id UUID NOT NULL REFERENCES tenants(id),
  sealed BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  retired_at BIGINT
);
CREATE INDEX tenant_keys_tenant ON tenant_keys (tenant_id, created_at);

CREATE TABLE users (
  id UUID PRIMARY KEY,
  tenant_id UUID NOT NULL REFERENCES tenants(id),
  email TEXT NOT NULL UNIQUE,
  username TEXT NOT NULL UNIQUE,
  password_hash TEXT NOT NULL,
  role TEXT NOT NULL,
  status TEXT NOT NULL,
  -- SCRAM-SHA-256 verifier for the XMPP server (JSON), sealed under the tenant's key.
  scram_sealed BYTEA NOT NULL,
  quota TEXT NOT NULL,
  -- Access tokens issued before this time are dead.
  tokens_valid_after BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX users_tenant ON users (tenant_id, created_at);

CREATE TABLE refresh_tokens (
  id UUID PRIMARY KEY,
  session_id UUID NOT NULL,
  user_id UUID NOT NULL REFERENCES users(id),
  expires_at BIGINT NOT NULL,
  used_at BIGINT,
  revoked_at BIGINT
);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE invites (
  id UUID PRIMARY KEY,
  tenant_id UUID NOT NULL REFERENCES tenants(id),
  code_hash BYTEA NOT NULL UNIQUE,
  role TEXT NOT NULL,
  created_by UUID NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at BIGINT
);

CREATE TABLE api_keys (
  id UUID PRIMARY KEY,
  tenant_id UUID NOT NULL REFERENCES tenants(id),
  user_id UUID NOT NULL REFERENCES users(id),
  name TEXT NOT NULL,
  secret_hash BYTEA NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  revoked_at BIGINT
);
CREATE INDEX api_keys_user ON api_keys (user_id, created_at);

CREATE TABLE agents (
  id UUID PRIMARY KEY,
  tenant_id UUID NOT NULL REFERENCES tenants(id),
  owner_id UUID NOT NULL REFERENCES users(id),
  handle TEXT,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  prompt_sealed BYTEA NOT NULL,
  -- {traits, llm, memory, capabilities, governance, tools} as given.
  config TEXT NOT NULL,
  visibility TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  deleted_at BIGINT
);
CREATE INDEX agents_owner ON agents (owner_id, created_at);
CREATE INDEX agents_visibility ON agents (visibility, created_at);

-- Every readable name of an agent, for ever: names are never reused.
CREATE TABLE aliases (
  name TEXT PRIMARY KEY,
  agent_id UUID NOT NULL REFERENCES agents(id),
  created_at BIGINT NOT NULL
);

CREATE TABLE grants (
  id UUID PRIMARY KEY,
  agent_id UUID NOT NULL REFERENCES agents(id),
  kind TEXT NOT NULL,
  grantee TEXT NOT NULL,
  created_by UUID NOT NULL,
  created_at BIGINT NOT NULL,
  UNIQUE (agent_id, kind, grantee)
);
CREATE INDEX grants_grantee ON grants (kind, grantee);

CREATE TABLE conversations (
  id UUID PRIMARY KEY,
  tenant_id UUID NOT NULL,
  agent_jid TEXT NOT NULL,
  -- user:<uuid> or jid:<bare address>.
  principal TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX conversations_principal ON conversations (principal, updated_at);

CREATE TABLE runs (
  id UUID PRIMARY KEY,
  tenant_id UUID NOT NULL,
  -- Absent for an agent of a peer hub.
  agent_id UUID,
  agent_jid TEXT NOT NULL,
  -- Domain of the executing peer hub, absent when it runs here.
  peer TEXT,
  delivery TEXT,
  -- Node id of the peer hub that asked for the run, absent when it was asked for here.
  origin TEXT,
  conversation_id UUID NOT NULL,
  principal TEXT NOT NULL,
  door TEXT NOT NULL,
  status TEXT NOT NULL,
  priority BIGINT NOT NULL,
  input TEXT NOT NULL,
  output TEXT,
  error TEXT,
  model_used TEXT,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  reserved_tokens BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  worker_id TEXT,
  -- Key scoped to principal and agent (NULL = none), with the digest of the canonical request.
  idem_key TEXT,
  idem_digest BYTEA,
  -- Where the answer goes besides the run itself (JSON), for instance an XMPP address.
  reply TEXT,
  timeout_ms BIGINT NOT NULL,
  last_seq BIGINT NOT NULL,
  trace TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  started_at BIGINT,
  completed_at BIGINT,
  UNIQUE (principal, agent_jid, idem_key)
);
CREATE INDEX runs_unfinished ON runs (status, created_at) WHERE status IN ('queued', 'running');
CREATE INDEX runs_agent ON runs (agent_id, created_at);
CREATE INDEX runs_principal ON runs (principal, created_at);

CREATE TABLE run_events (
  run_id UUID NOT NULL,
  seq BIGINT NOT NULL,
  id UUID NOT NULL,
  kind TEXT NOT NULL,
  at BIGINT NOT NULL,
  payload TEXT NOT NULL,
  PRIMARY KEY (run_id, seq)
);

CREATE TABLE messages (
  id UUID PRIMARY KEY,
  conversation_id UUID NOT NULL,
  run_id UUID NOT NULL,
  role TEXT NOT NULL,
  content TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX messages_conversation ON messages (conversation_id, created_at, id);

-- Replies that the XMPP door has still to hand over. A row leaves only when the server has confirmed it.
CREATE TABLE xmpp_outbox (
  id UUID PRIMARY KEY,
  payload TEXT NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE xmpp_contacts (
  agent_id UUID NOT NULL REFERENCES agents(id),
  jid TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (agent_id, jid)
);

CREATE TABLE quota_usage (
  principal TEXT NOT NULL,
  -- d<day number> or m<minute number> since the epoch.
  window_id TEXT NOT NULL,
  tokens BIGINT NOT NULL,
  requests BIGINT NOT NULL,
  PRIMARY KEY (principal, window_id)
);

CREATE TABLE audit (
  id UUID PRIMARY KEY,
  tenant_id UUID NOT NULL,
  owner_id UUID,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  outcome TEXT NOT NULL,
  severity TEXT NOT NULL,
  resource_type TEXT,
  resource_id TEXT,
  detail TEXT,
  address TEXT,
  trace TEXT NOT NULL,
  at BIGINT NOT NULL
);
CREATE INDEX audit_owner ON audit (owner_id, at);
CREATE INDEX audit_resource ON audit (resource_id, at);

-- Other hubs that this hub's operator has met. `record` is the allow-list, `document` the last accepted trust document.
CREATE TABLE peers (
  domain TEXT PRIMARY KEY,
  state TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  url TEXT NOT NULL,
  node_id TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  document TEXT NOT NULL,
  record TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);

CREATE TABLE fed_outbox (
  id UUID PRIMARY KEY,
  peer TEXT NOT NULL,
  conv TEXT NOT NULL,
  seq BIGINT NOT NULL,
  run_id UUID,
  kind TEXT NOT NULL,
  envelope TEXT NOT NULL,
  digest TEXT NOT NULL,
  state TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  reason TEXT,
  next_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  done_at BIGINT,
  UNIQUE (peer, conv, seq)
);
CREATE INDEX fed_outbox_due ON fed_outbox (peer, state, created_at);

CREATE TABLE fed_inbox (
  origin TEXT NOT NULL,
  id UUID NOT NULL,
  digest TEXT NOT NULL,
  envelope TEXT NOT NULL,
  verdict TEXT NOT NULL,
  received_at BIGINT NOT NULL,
  PRIMARY KEY (origin, id)
);

-- Agents of peer hubs, as their directory last told.
CREATE TABLE remote_agents (
  jid TEXT PRIMARY KEY,
  handle TEXT,
  peer TEXT NOT NULL,
  card TEXT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX remote_agents_peer ON remote_agents (peer);
