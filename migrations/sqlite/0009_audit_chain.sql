-- Audit records of a tenant form a chain: each has a number, the hash of the one before, and a hash over both and itself. Records from
-- before this step are in no chain.
ALTER TABLE audit ADD COLUMN seq INTEGER;
ALTER TABLE audit ADD COLUMN prev_hash BLOB;
ALTER TABLE audit ADD COLUMN hash BLOB;
CREATE UNIQUE INDEX audit_chain ON audit (tenant_id, seq) WHERE seq IS NOT NULL;

-- The last record of each chain. Whoever adds to a chain changes its row first, so writers of one chain follow one another.
CREATE TABLE audit_heads (
  tenant_id BLOB PRIMARY KEY,
  seq INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT;
