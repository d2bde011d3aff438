-- What a program bounds a run to: steps, tools, a tier of models (JSON); null where it does not.
ALTER TABLE runs ADD COLUMN bounds TEXT;
