-- Accounts of an AIOX hub.
--
-- The hub is the only source of accounts: it derives the SCRAM-SHA-256 keys when it sees a password
-- and pushes them here, so that no password is stored on this side. A user can sign in with
-- SCRAM-SHA-256 or with PLAIN (inside TLS); with PLAIN an access token of the hub is good instead of
-- the password, which the hub is asked for. Nobody can sign in, register or change a password in any
-- other way. The protocols are described in README.md beside this file and in the directory above.

local array = require "util.array";
local async = require "util.async";
local encodings = require "util.encodings".stringprep;
local hex = require "util.hex";
local http = require "util.http";
local http_client = require "net.http";
local json = require "util.json";
local new_sasl = require "util.sasl".new;
local secure_equals = require "util.hashes".equals;
local usermanager = require "core.usermanager";

local derive_keys = require "util.sasl.scram".hashers["SHA-256"];
local accounts = module:open_store("accounts");
local host = module.host;
local sessions_of_host = prosody.hosts[host].sessions;

local admin_token = module:get_option_string("aiox_admin_token");
if not admin_token or #admin_token < 32 then
	-- An empty or guessable token would let every local process make accounts.
	error("aiox_admin_token must have at least 32 characters");
end
local expected_authorization = "Bearer "..admin_token;

-- Where the hub says whether an access token is good. Without it only passwords are.
local sign_in_url = module:get_option_string("aiox_sign_in_url");

local maximum_body = 4096; -- bytes; an account document has about 300
local minimum_iterations = 4096; -- RFC 7677, section 4
local maximum_iterations = 1000000; -- PLAIN logins compute them on this server's only thread
local key_length = 64; -- hexadecimal digits of a SHA-256 value

local provider = {};

local function is_blocked(account)
	return account.blocked == true;
end

function provider.user_exists(username)
	return accounts:get(username) ~= nil;
end

function provider.users()
	return accounts:users();
end

function provider.test_password(username, password)
	local account = accounts:get(username);
	local prepared = encodings.saslprep(password);
	if not account or not prepared or is_blocked(account) then
		return nil, "not authorized";
	end
	local derived, stored_key = derive_keys(prepared, account.salt, account.iteration_count);
	if derived and secure_equals(hex.encode(stored_key), account.stored_key) then
		return true;
	end
	return nil, "not authorized";
end

-- An access token is a JWT (RFC 7519): three parts in base64url, the first of which begins a JSON object.
local function looks_like_token(secret)
	return secret:find("^eyJ[%w_-]+%.[%w_-]+%.[%w_-]+$") ~= nil;
end

-- Asks the hub, while this session alone waits.
local function is_good_token(username, secret, address)
	if not sign_in_url or not looks_like_token(secret) then
		return false;
	end
	local wait, done = async.waiter();
	local status;
	http_client.request(sign_in_url, {
		method = "POST";
		headers = {
			["Authorization"] = expected_authorization;
			["Content-Type"] = "application/x-www-form-urlencoded";
		};
		body = http.formencode({ user = username, secret = secret, address = address });
	}, function (_, code)
		status = code;
		done();
	end);
	wait();
	if status ~= 204 and status ~= 401 then
		module:log("warn", "the hub did not say whether a token of %s is good: %s", username, tostring(status));
	end
	return status == 204;
end

local function only_the_hub()
	return nil, "accounts are kept by the hub";
end
provider.create_user = only_the_hub;
provider.set_password = only_the_hub;

function provider.delete_user(username)
	return accounts:set(username, nil);
end

function provider.get_sasl_handler(session)
	return new_sasl(host, {
		-- The second value is the account's state: nil unknown, false disabled, true usable.
		plain_test = function (_, username, password)
			local account = accounts:get(username);
			if not account then
				return nil, nil;
			end
			-- Only who knows the password learns that the account is blocked.
			if is_blocked(account) then
				return nil, nil;
			end
			return is_good_token(username, password, session and session.ip) or provider.test_password(username, password), true;
		end;
		scram_sha_256 = function (_, username)
			local account = accounts:get(username);
			if not account or is_blocked(account) then
				return nil;
			end
			return hex.decode(account.stored_key), hex.decode(account.server_key),
				account.iteration_count, account.salt, true;
		end;
	});
end

module:provides("auth", provider);

local function close_sessions(username, text)
	local user = sessions_of_host[username];
	if not user then
		return;
	end
	local open = {};
	for _, session in pairs(user.sessions) do
		-- A copy, because closing removes the session from the table that is being walked.
		open[#open + 1] = session;
	end
	for _, session in ipairs(open) do
		session:close({ condition = "policy-violation"; text = text });
	end
end

local function is_key(value)
	return type(value) == "string" and #value == key_length and not value:find("[^0-9a-f]");
end

-- The account in the form in which it is stored, or nil and what is wrong with it.
local function read_account(body)
	if #body > maximum_body then
		return nil, "body too long";
	end
	local document = json.decode(body);
	if type(document) ~= "table" then
		return nil, "not a JSON object";
	end
	local iterations = document.iteration_count;
	if not is_key(document.stored_key) or not is_key(document.server_key) then
		return nil, "stored_key and server_key must be 64 lower-case hexadecimal digits";
	elseif type(document.salt) ~= "string" or #document.salt < 16 or #document.salt > 128 then
		return nil, "salt must be a string of 16 to 128 bytes";
	elseif type(iterations) ~= "number" or iterations % 1 ~= 0
		or iterations < minimum_iterations or iterations > maximum_iterations then
		return nil, "iteration_count is out of range";
	elseif document.blocked ~= nil and type(document.blocked) ~= "boolean" then
		return nil, "blocked must be a boolean";
	end
	return {
		stored_key = document.stored_key;
		server_key = document.server_key;
		salt = document.salt;
		iteration_count = iterations;
		blocked = document.blocked or nil;
	};
end

-- The hub and this server must mean the same account by a name: only names that nodeprep
-- (RFC 7622 localparts) leaves unchanged are taken.
local function read_username(path) -- percent-decoded by Prosody's HTTP server
	if path ~= "" and encodings.nodeprep(path) == path then
		return path;
	end
	return nil;
end

local function respond(event, status, document)
	event.response.status_code = status;
	event.response.headers.content_type = "application/json";
	return json.encode(document);
end

local function authorized(handler)
	return function (event, path)
		local presented = event.request.headers.authorization or "";
		if not secure_equals(presented, expected_authorization) then
			return respond(event, 401, { error = "unauthorized" });
		end
		return handler(event, path);
	end
end

local function list_accounts(event)
	local names = array();
	for username in accounts:users() do
		names:push(username);
	end
	return respond(event, 200, names:sort());
end

local function put_account(event, path)
	local username = read_username(path);
	if not username then
		return respond(event, 400, { error = "not a canonical localpart" });
	end
	local account, problem = read_account(event.request.body or "");
	if not account then
		return respond(event, 400, { error = problem });
	end
	local former = accounts:get(username);
	local stored, storage_error = accounts:set(username, account);
	if not stored then
		module:log("error", "account %s not stored: %s", username, storage_error);
		return respond(event, 500, { error = "not stored" });
	end
	if is_blocked(account) then
		close_sessions(username, "This account is blocked");
	elseif former and former.stored_key ~= account.stored_key then
		close_sessions(username, "The password was changed");
	end
	return 204;
end

local function delete_account(event, path)
	local username = read_username(path);
	if not username or not accounts:get(username) then
		return respond(event, 404, { error = "no such account" });
	end
	-- Also ends the sessions and removes roster, archive and the other data of the account.
	local deleted, storage_error = usermanager.delete_user(username, host);
	if not deleted then
		module:log("error", "account %s not deleted: %s", username, storage_error);
		return respond(event, 500, { error = "not deleted" });
	end
	return 204;
end

module:depends("http");
module:provides("http", {
	default_path = "/aiox";
	route = {
		["GET /users"] = authorized(list_accounts);
		["PUT /users/*"] = authorized(put_account);
		["DELETE /users/*"] = authorized(delete_account);
	};
});
