-- Calls of models: the usage ledger.
CREATE TABLE model_calls (
  id BLOB PRIMARY KEY,
  tenant_id BLOB NOT NULL,
  principal TEXT NOT NULL,
  request_id TEXT NOT NULL,
  operation TEXT NOT NULL,
  model_ref TEXT NOT NULL,
  -- open, done or failed.
  state TEXT NOT NULL,
  decision TEXT NOT NULL,
  model TEXT,
  provider TEXT,
  fallback INTEGER NOT NULL,
  reserved_tokens INTEGER NOT NULL,
  -- Costs are in micro-dollars; NULL = the model has no known price.
  reserved_cost INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cost INTEGER,
  latency_ms INTEGER,
  error TEXT,
  -- Key scoped to tenant and principal (NULL = none), with the digest of the canonical request and the answer to repeat.
  idem_key TEXT,
  idem_digest BLOB,
  answer TEXT,
  trace TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  ended_at INTEGER,
  UNIQUE (tenant_id, principal, idem_key)
) STRICT;
CREATE INDEX model_calls_tenant ON model_calls (tenant_id, created_at);
CREATE INDEX model_calls_open ON model_calls (created_at) WHERE state = 'open';
CREATE INDEX model_calls_keys ON model_calls (created_at) WHERE idem_key IS NOT NULL;

-- Responses that a later one can continue.
CREATE TABLE openai_responses (
  id TEXT PRIMARY KEY,
  tenant_id BLOB NOT NULL,
  principal TEXT NOT NULL,
  previous_id TEXT,
  -- The conversation of an agent; NULL = a model answered.
  conversation_id BLOB,
  turn TEXT NOT NULL,
  body TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX openai_responses_principal ON openai_responses (tenant_id, principal, created_at);
CREATE INDEX openai_responses_age ON openai_responses (created_at);
