-- The conformance result that this hub publishes, signed, as it is served.
CREATE TABLE conformance_results (
  domain TEXT PRIMARY KEY,
  document TEXT NOT NULL,
  published_at INTEGER NOT NULL
) STRICT;
