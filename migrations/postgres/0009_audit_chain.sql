-- Audit records of a tenant form a chain: each has a number, the hash of the one before, and a hash over both and itself. Records from
-- before this step are in no chain.
ALTER TABLE audit ADD COLUMN seq BIGINT;
ALTER TABLE audit ADD COLUMN prev_hash BYTEA;
ALTER TABLE audit ADD COLUMN hash BYTEA;
CREATE UNIQUE INDEX audit_chain ON audit (tenant_id, seq) WHERE seq IS NOT NULL;

-- The last record of each chain. Whoever adds to a chain changes its row first, so writers of one chain follow one another.
CREATE TABLE audit_heads (
  tenant_id UUID PRIMARY KEY,
  seq BIGINT NOT NULL,
  hash BYTEA NOT NULL
);
