-- When a peer hub was last in contact, apart from its record: it changes all the time, and an operator's decisions do not.
CREATE TABLE peers_seen (
  domain TEXT PRIMARY KEY,
  at INTEGER NOT NULL
) STRICT;
