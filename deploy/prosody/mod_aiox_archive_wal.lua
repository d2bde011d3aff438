-- Puts the SQLite message archive into write-ahead-log mode, in which a stored message costs about
-- a third. The mode stays with the file; Prosody 0.12 has no setting for it.

module:set_global();

local dbi = require "DBI";

local path = prosody.paths.data.."/"..module:get_option_string("aiox_archive_file");
local connection, problem = dbi.Connect("SQLite3", path);
if not connection then
	error("message archive "..path..": "..tostring(problem));
end
connection:autocommit(true); -- the mode cannot be changed inside a transaction
local statement = assert(connection:prepare("PRAGMA journal_mode=WAL"));
assert(statement:execute());
statement:close();
connection:close();
