-- Lets this host talk to the domains in `aiox_s2s_peers` and to no other, in both directions. A
-- certificate says who a server is; this list says whether it is wanted. Without the option every
-- server with a valid certificate is.

local st = require "util.stanza";

local peers = module:get_option_inherited_set("aiox_s2s_peers", nil);
if not peers then
	return;
end

-- Outgoing: before a connection is made.
module:hook("route/remote", function (event)
	if peers:contains(event.to_host) then
		return nil;
	end
	local stanza = event.stanza;
	module:log("warn", "refused to send to %s: it is not in aiox_s2s_peers", event.to_host);
	if stanza.attr.type ~= "error" and stanza.attr.type ~= "result" then
		module:send(st.error_reply(stanza, "cancel", "not-allowed", "This server does not talk to "..event.to_host));
	end
	return true;
end, 100);

-- Incoming: at each stream header, so before and after TLS and again after authentication.
module:hook("s2s-stream-features", function (event)
	local session = event.origin;
	if peers:contains(session.from_host) then
		return nil;
	end
	module:log("warn", "refused a stream from %s: it is not in aiox_s2s_peers", tostring(session.from_host));
	session:close({ condition = "policy-violation"; text = "This server is not among the peers of "..module.host });
	return true;
end, 1000);
