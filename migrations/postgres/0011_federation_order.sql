-- The order of a peer's envelopes.

-- The highest seq that is here of each conversation of a peer's node, of envelopes that were taken or refused for good.
CREATE TABLE fed_marks (
  origin TEXT NOT NULL,
  conv TEXT NOT NULL,
  seq BIGINT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (origin, conv)
);
CREATE INDEX fed_marks_latest ON fed_marks (origin, at);
INSERT INTO fed_marks (origin, conv, seq, at)
SELECT origin, envelope::json ->> 'conv', MAX((envelope::json ->> 'seq')::BIGINT), MAX(received_at) FROM fed_inbox
WHERE CASE WHEN strpos(envelope, '\u0000') = 0 THEN octet_length(envelope::json ->> 'conv') BETWEEN 1 AND 255 ELSE FALSE END
GROUP BY 1, 2;

-- Cancels that wait for their runs.
CREATE TABLE fed_cancels (
  origin TEXT NOT NULL,
  run_id UUID NOT NULL,
  -- When the run can no longer come.
  until BIGINT NOT NULL,
  PRIMARY KEY (origin, run_id)
);
