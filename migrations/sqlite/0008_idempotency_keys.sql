-- Keys of administration. Those of runs are in the runs, those of calls of models in the ledger.
CREATE TABLE idempotency_keys (
  -- A principal is of one tenant.
  principal TEXT NOT NULL,
  -- What was asked of what.
  operation TEXT NOT NULL,
  idem_key TEXT NOT NULL,
  digest BLOB NOT NULL,
  -- The first answer (JSON), without any secret.
  answer TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (principal, operation, idem_key)
) STRICT;
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
