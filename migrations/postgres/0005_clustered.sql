-- SQLite keeps some tables in the order of their keys from here on. Nothing to do: Postgres has no such tables.
SELECT 1;
