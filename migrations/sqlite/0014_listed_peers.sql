-- Peers without a trust document that an operator has confirmed: those that a peers file names, and those that an operator lets in
-- without mutual TLS. The document is what the file, or the operator, says of them.
CREATE TABLE listed_peers (
  stack_id TEXT PRIMARY KEY,
  document TEXT NOT NULL,
  insecure INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
