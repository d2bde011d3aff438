-- The order of a peer's envelopes.

-- The highest seq that is here of each conversation of a peer's node, of envelopes that were taken or refused for good.
CREATE TABLE fed_marks (
  origin TEXT NOT NULL,
  conv TEXT NOT NULL,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (origin, conv)
) STRICT, WITHOUT ROWID;
CREATE INDEX fed_marks_latest ON fed_marks (origin, at);
INSERT INTO fed_marks (origin, conv, seq, at)
SELECT origin, json_extract(envelope, '$.conv'), MAX(json_extract(envelope, '$.seq')), MAX(received_at) FROM fed_inbox
WHERE length(CAST(json_extract(envelope, '$.conv') AS BLOB)) BETWEEN 1 AND 255 AND instr(envelope, '\u0000') = 0
GROUP BY 1, 2;

-- Cancels that wait for their runs.
CREATE TABLE fed_cancels (
  origin TEXT NOT NULL,
  run_id BLOB NOT NULL,
  -- When the run can no longer come.
  until INTEGER NOT NULL,
  PRIMARY KEY (origin, run_id)
) STRICT, WITHOUT ROWID;
