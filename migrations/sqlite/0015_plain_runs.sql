-- Runs that were forwarded to plain nodes: where each is, under the id that it has there.
CREATE TABLE plain_runs (
  tenant_id BLOB NOT NULL,
  run_id TEXT NOT NULL,
  principal TEXT NOT NULL,
  stack_id TEXT NOT NULL,
  events_url TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, run_id)
) STRICT;
CREATE INDEX plain_runs_age ON plain_runs (created_at);
