-- Tables that are written for every message and found by their key alone are kept in the order of the key: one tree to write
-- instead of two.

CREATE TABLE clustered (
  run_id BLOB NOT NULL,
  seq INTEGER NOT NULL,
  id BLOB NOT NULL,
  kind TEXT NOT NULL,
  at INTEGER NOT NULL,
  payload TEXT NOT NULL,
  PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO clustered (run_id, seq, id, kind, at, payload) SELECT run_id, seq, id, kind, at, payload FROM run_events;
DROP TABLE run_events;
ALTER TABLE clustered RENAME TO run_events;

CREATE TABLE clustered (
  id BLOB PRIMARY KEY,
  payload TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO clustered (id, payload, created_at) SELECT id, payload, created_at FROM xmpp_outbox;
DROP TABLE xmpp_outbox;
ALTER TABLE clustered RENAME TO xmpp_outbox;

CREATE TABLE clustered (
  principal TEXT NOT NULL,
  -- d<day number> or m<minute number> since the epoch.
  window_id TEXT NOT NULL,
  tokens INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  PRIMARY KEY (principal, window_id)
) STRICT, WITHOUT ROWID;
INSERT INTO clustered (principal, window_id, tokens, requests) SELECT principal, window_id, tokens, requests FROM quota_usage;
DROP TABLE quota_usage;
ALTER TABLE clustered RENAME TO quota_usage;
