-- Prosody beside an AIOX hub. The hub fills in every name in double braces (each becomes one Lua
-- literal) and starts the server in the foreground as an unprivileged user.
-- Written by `aiox`; changes in the written copy are lost at the next start.

run_as_root = {{run_as_root}}
daemonize = false
data_path = {{data_dir}}
certificates = {{certificates_dir}}
plugin_paths = { {{plugins_dir}} }
admin_socket = {{admin_socket}}
log = { { levels = { min = "info" }, to = "stdout", timestamps = true } }
network_backend = "epoll"
-- Stanzas are small and answers are waited for: with Nagle's algorithm the first ones between two
-- hubs wait 40 ms for a delayed acknowledgement.
network_settings = { nagle = false }
use_ipv6 = {{use_ipv6}}

-- Only these listeners: what is not named here would open on its default port.
interfaces = { {{address}} }
c2s_ports = { {{c2s_port}} }
s2s_ports = { {{s2s_port}} }
component_interfaces = { {{control_address}} }
component_ports = { {{component_port}} }
http_interfaces = { {{control_address}} }
http_ports = { {{http_port}} }
http_default_host = {{domain}}
https_ports = { }
c2s_direct_tls_ports = { }
s2s_direct_tls_ports = { }
legacy_ssl_ports = { }

modules_enabled = {
	"adhoc", "admin_shell", "admin_socket", "aiox_archive_wal", "aiox_s2s_peers", "blocklist", "bookmarks", "carbons", "csi_simple",
	"disco", "http", "mam", "pep", "ping", "private", "roster", "saslauth", "smacks", "time", "tls", "uptime",
	"vcard4", "vcard_legacy", "version",
}

-- Accounts come from the hub and from nowhere else.
authentication = "aiox"
aiox_admin_token = {{admin_token}}
-- Where the hub says whether an access token is good as a password; without it no token is.
{{sign_in}}
password_hash = "SHA-256"
allow_registration = false

-- No clear text, and no peer without a certificate of the mesh: mod_dialback would let a peer with
-- a foreign certificate in, so it is not loaded. `capath` names a directory that stays empty,
-- because otherwise every authority that the operating system trusts could vouch for a peer.
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = true
modules_disabled = { "dialback", "register", "register_ibr" }
-- The domains that this server talks to; without a list, every one with a valid certificate.
{{s2s_peers}}
ssl = {
	key = {{key_file}};
	certificate = {{certificate_file}};
	cafile = {{ca_file}};
	capath = {{empty_dir}};
	protocol = "tlsv1_2+";
}

-- The largest stanza; the same on both sides of the component, so that what one hub's users may
-- send the other hub's agents can get.
c2s_stanza_size_limit = 262144
s2s_stanza_size_limit = 524288
component_stanza_size_limit = 524288

default_storage = "internal"
storage = { archive = "sql" }
sql = { driver = "SQLite3", database = {{archive_file}} }
aiox_archive_file = {{archive_file}}
archive_expires_after = "1w"

{{unbound}}

VirtualHost {{domain}}

Component {{agents_domain}}
	component_secret = {{component_secret}}
	-- A hub that comes back takes its link over from the connection that it lost.
	component_conflict_resolve = "kick_old"
	name = "AIOX agents"
	modules_enabled = { "aiox_s2s_peers" }
