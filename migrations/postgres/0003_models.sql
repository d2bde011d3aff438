-- Calls of models: the usage ledger.
CREATE TABLE model_calls (
  id UUID PRIMARY KEY,
  tenant_id UUID NOT NULL,
  principal TEXT NOT NULL,
  request_id TEXT NOT NULL,
  operation TEXT NOT NULL,
  model_ref TEXT NOT NULL,
  -- open, done or failed.
  state TEXT NOT NULL,
  decision TEXT NOT NULL,
  model TEXT,
  provider TEXT,
  fallback BIGINT NOT NULL,
  reserved_tokens BIGINT NOT NULL,
  -- Costs are in micro-dollars; NULL = the model has no known price.
  reserved_cost BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  cost BIGINT,
  latency_ms BIGINT,
  error TEXT,
  -- Key scoped to tenant and principal (NULL = none), with the digest of the canonical request and the answer to repeat.
  idem_key TEXT,
  idem_digest BYTEA,
  answer TEXT,
  trace TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  ended_at BIGINT,
  UNIQUE (tenant_id, principal, idem_key)
);
CREATE INDEX model_calls_tenant ON model_calls (tenant_id, created_at);
CREATE INDEX model_calls_open ON model_calls (created_at) WHERE state = 'open';
CREATE INDEX model_calls_keys ON model_calls (created_at) WHERE idem_key IS NOT NULL;

-- Responses that a later one can continue.
CREATE TABLE openai_responses (
  id TEXT PRIMARY KEY,
  tenant_id UUID NOT NULL,
  principal TEXT NOT NULL,
  previous_id TEXT,
  -- The conversation of an agent; NULL = a model answered.
  conversation_id UUID,
  turn TEXT NOT NULL,
  body TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX openai_responses_principal ON openai_responses (tenant_id, principal, created_at);
CREATE INDEX openai_responses_age ON openai_responses (created_at);
