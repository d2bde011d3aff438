-- The first schema. Times are microseconds since the Unix epoch (UTC), JSON is text, ids are UUIDv7.

CREATE TABLE tenants (
  id BLOB PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  status TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

-- Data keys of a tenant, each sealed under the hub's master key. Writes use the newest that is not retired.
CREATE TABLE tenant_keys (
  id BLOB PRIMARY KEY,
  tenant_id BLOB NOT NULL REFERENCES tenants(id),
  sealed BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  retired_at INTEGER
) STRICT;
CREATE INDEX tenant_keys_tenant ON tenant_keys (tenant_id, created_at);

CREATE TABLE users (
  id BLOB PRIMARY KEY,
  tenant_id BLOB NOT NULL REFERENCES tenants(id),
  email TEXT NOT NULL UNIQUE,
  username TEXT NOT NULL UNIQUE,
  password_hash TEXT NOT NULL,
  role TEXT NOT NULL,
  status TEXT NOT NULL,
  -- SCRAM-SHA-256 verifier for the XMPP server (JSON), sealed under the tenant's key.
  scram_sealed BLOB NOT NULL,
  quota TEXT NOT NULL,
  -- Access tokens issued before this time are dead.
  tokens_valid_after INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX users_tenant ON users (tenant_id, created_at);

CREATE TABLE refresh_tokens (
  id BLOB PRIMARY KEY,
  session_id BLOB NOT NULL,
  user_id BLOB NOT NULL REFERENCES users(id),
  expires_at INTEGER NOT NULL,
  used_at INTEGER,
  revoked_at INTEGER
) STRICT;
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE invites (
  id BLOB PRIMARY KEY,
  tenant_id BLOB NOT NULL REFERENCES tenants(id),
  code_hash BLOB NOT NULL UNIQUE,
  role TEXT NOT NULL,
  created_by BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at INTEGER
) STRICT;

CREATE TABLE api_keys (
  id BLOB PRIMARY KEY,
  tenant_id BLOB NOT NULL REFERENCES tenants(id),
  user_id BLOB NOT NULL REFERENCES users(id),
  name TEXT NOT NULL,
  secret_hash BLOB NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  revoked_at INTEGER
) STRICT;
CREATE INDEX api_keys_user ON api_keys (user_id, created_at);

CREATE TABLE agents (
  id BLOB PRIMARY KEY,
  tenant_id BLOB NOT NULL REFERENCES tenants(id),
  owner_id BLOB NOT NULL REFERENCES users(id),
  handle TEXT,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  prompt_sealed BLOB NOT NULL,
  -- {traits, llm, memory, capabilities, governance, tools} as given.
  config TEXT NOT NULL,
  visibility TEXT NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  deleted_at INTEGER
) STRICT;
CREATE INDEX agents_owner ON agents (owner_id, created_at);
CREATE INDEX agents_visibility ON agents (visibility, created_at);

-- Every readable name of an agent, for ever: names are never reused.
CREATE TABLE aliases (
  name TEXT PRIMARY KEY,
  agent_id BLOB NOT NULL REFERENCES agents(id),
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE grants (
  id BLOB PRIMARY KEY,
  agent_id BLOB NOT NULL REFERENCES agents(id),
  kind TEXT NOT NULL,
  grantee TEXT NOT NULL,
  created_by BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (agent_id, kind, grantee)
) STRICT;
CREATE INDEX grants_grantee ON grants (kind, grantee);

CREATE TABLE conversations (
  id BLOB PRIMARY KEY,
  tenant_id BLOB NOT NULL,
  agent_jid TEXT NOT NULL,
  -- user:<uuid> or jid:<bare address>.
  principal TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX conversations_principal ON conversations (principal, updated_at);

CREATE TABLE runs (
  id BLOB PRIMARY KEY,
  tenant_id BLOB NOT NULL,
  -- Absent for an agent of a peer hub.
  agent_id BLOB,
  agent_jid TEXT NOT NULL,
  -- Domain of the executing peer hub, absent when it runs here.
  peer TEXT,
  delivery TEXT,
  -- Node id of the peer hub that asked for the run, absent when it was asked for here.
  origin TEXT,
  conversation_id BLOB NOT NULL,
  principal TEXT NOT NULL,
  door TEXT NOT NULL,
  status TEXT NOT NULL,
  priority INTEGER NOT NULL,
  input TEXT NOT NULL,
  output TEXT,
  error TEXT,
  model_used TEXT,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  reserved_tokens INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  worker_id TEXT,
  -- Key scoped to principal and agent (NULL = none), with the digest of the canonical request.
  idem_key TEXT,
  idem_digest BLOB,
  -- Where the answer goes besides the run itself (JSON), for instance an XMPP address.
  reply TEXT,
  timeout_ms INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  trace TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  completed_at INTEGER,
  UNIQUE (principal, agent_jid, idem_key)
) STRICT;
CREATE INDEX runs_unfinished ON runs (status, created_at) WHERE status IN ('queued', 'running');
CREATE INDEX runs_agent ON runs (agent_id, created_at);
CREATE INDEX runs_principal ON runs (principal, created_at);

CREATE TABLE run_events (
  run_id BLOB NOT NULL,
  seq INTEGER NOT NULL,
  id BLOB NOT NULL,
  kind TEXT NOT NULL,
  at INTEGER NOT NULL,
  payload TEXT NOT NULL,
  PRIMARY KEY (run_id, seq)
) STRICT;

CREATE TABLE messages (
  id BLOB PRIMARY KEY,
  conversation_id BLOB NOT NULL,
  run_id BLOB NOT NULL,
  role TEXT NOT NULL,
  content TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_conversation ON messages (conversation_id, created_at, id);

-- Replies that the XMPP door has still to hand over. A row leaves only when the server has confirmed it.
CREATE TABLE xmpp_outbox (
  id BLOB PRIMARY KEY,
  payload TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE xmpp_contacts (
  agent_id BLOB NOT NULL REFERENCES agents(id),
  jid TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (agent_id, jid)
) STRICT;

CREATE TABLE quota_usage (
  principal TEXT NOT NULL,
  -- d<day number> or m<minute number> since the epoch.
  window_id TEXT NOT NULL,
  tokens INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  PRIMARY KEY (principal, window_id)
) STRICT;

CREATE TABLE audit (
  id BLOB PRIMARY KEY,
  tenant_id BLOB NOT NULL,
  owner_id BLOB,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  outcome TEXT NOT NULL,
  severity TEXT NOT NULL,
  resource_type TEXT,
  resource_id TEXT,
  detail TEXT,
  address TEXT,
  trace TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_owner ON audit (owner_id, at);
CREATE INDEX audit_resource ON audit (resource_id, at);

-- Other hubs that this hub's operator has met. `record` is the allow-list, `document` the last accepted trust document.
CREATE TABLE peers (
  domain TEXT PRIMARY KEY,
  state TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  url TEXT NOT NULL,
  node_id TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  document TEXT NOT NULL,
  record TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE fed_outbox (
  id BLOB PRIMARY KEY,
  peer TEXT NOT NULL,
  conv TEXT NOT NULL,
  seq INTEGER NOT NULL,
  run_id BLOB,
  kind TEXT NOT NULL,
  envelope TEXT NOT NULL,
  digest TEXT NOT NULL,
  state TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  reason TEXT,
  next_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  done_at INTEGER,
  UNIQUE (peer, conv, seq)
) STRICT;
CREATE INDEX fed_outbox_due ON fed_outbox (peer, state, created_at);

CREATE TABLE fed_inbox (
  origin TEXT NOT NULL,
  id BLOB NOT NULL,
  digest TEXT NOT NULL,
  envelope TEXT NOT NULL,
  verdict TEXT NOT NULL,
  received_at INTEGER NOT NULL,
  PRIMARY KEY (origin, id)
) STRICT;

-- Agents of peer hubs, as their directory last told.
CREATE TABLE remote_agents (
  jid TEXT PRIMARY KEY,
  handle TEXT,
  peer TEXT NOT NULL,
  card TEXT NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX remote_agents_peer ON remote_agents (peer);
