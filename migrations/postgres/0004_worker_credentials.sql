-- Keys of single workers, and client certificates that are no longer good.
CREATE TABLE worker_credentials (
  id UUID PRIMARY KEY,
  worker_id TEXT NOT NULL,
  -- 'key' or 'certificate'; a certificate is here only when it was revoked.
  kind TEXT NOT NULL,
  -- SHA-256 of the key, or of the certificate (DER).
  digest BYTEA NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  revoked_at BIGINT
);
