//! The rules themselves.

use std::{collections::BTreeSet, fs};

use toml::Value;

use crate::{
    house::{self, CHECKSUMS, GRAPH, Member, root},
    modules,
};

fn members() -> Vec<Member> {
    house::members().unwrap()
}

fn own(all: BTreeSet<String>) -> BTreeSet<String> {
    all.into_iter().filter_map(|name| name.strip_prefix("aiox-").map(str::to_owned)).collect()
}

#[test]
fn the_crate_graph_is_the_committed_one() {
    let committed = fs::read_to_string(root().join(GRAPH)).unwrap();
    assert_eq!(committed, house::graph().unwrap(), "look whether the change is meant, then: cargo run -p xtask -- graph");
}

/// What each crate may know, without tests. Whoever adds an edge here says why in the same commit.
const EDGES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("proto", &[]),
    ("certs", &[]),
    ("probe", &[]),
    ("config", &[]),
    ("core", &["model"]),
    ("client", &["model"]),
    ("crypto", &["core", "model"]),
    // The chain of the audit log is made where its place is known.
    ("store", &["core", "crypto", "model"]),
    ("bus", &["core", "model"]),
    ("cache", &["core", "model"]),
    ("app", &["core", "model", "crypto", "store"]),
    // Use cases hand out rows of the audit log.
    ("http", &["app", "core", "model", "crypto", "store"]),
    ("grpc", &["app", "core", "model", "crypto", "proto"]),
    ("xmpp", &["app", "core", "model"]),
    // Federation signs, and reads the rows of its outbox.
    ("federation", &["app", "core", "model", "crypto", "store"]),
    ("worker", &["proto"]),
    // Documents alone: what the doors say of themselves, the types, the settings.
    ("specgen", &["config", "federation", "http", "model"]),
    // The suite plays an XMPP client and a worker. It knows nothing else of the hub, so that it shares no mistake with it.
    ("conformance", &["probe", "proto"]),
];
/// The composition root, and what is no part of the product, may know everything but one another.
const ROOTS: &[&str] = &["node", "testkit", "benches", "xtask"];

#[test]
fn every_crate_knows_only_what_it_may() {
    for member in members() {
        let known = own(member.dependencies());
        for root in ROOTS {
            assert!(!known.contains(*root), "{} depends on {root}", member.name);
        }
        if ROOTS.contains(&member.name.as_str()) {
            continue;
        }
        let allowed = EDGES.iter().find(|(name, _)| *name == member.name).map(|(_, allowed)| *allowed);
        assert!(allowed.is_some(), "{} is not listed in EDGES", member.name);
        let allowed = allowed.unwrap_or_default();
        for edge in known {
            assert!(allowed.contains(&edge.as_str()), "{} may not depend on {edge}", member.name);
        }
    }
}

/// Who may name a library, in its own code and in its tests alike.
const HOMES: &[(&str, &[&str])] = &[
    // testkit makes and drops the databases of tests.
    ("sqlx", &["store", "testkit"]),
    ("libsqlite3-sys", &["store"]),
    ("tokio-xmpp", &["xmpp"]),
    ("xmpp-parsers", &["xmpp"]),
    // Programs that are no hub's door read XML for themselves, so that they share no mistake with it.
    ("rxml", &["xmpp", "probe", "benches"]),
    // testkit stands around the routers of tests.
    ("axum", &["http", "federation", "node", "testkit"]),
    ("tonic", &["grpc", "proto", "worker", "conformance", "benches", "xtask"]),
    ("figment", &["config"]),
    ("genai", &["worker"]),
    ("argon2", &["crypto"]),
    ("bcrypt", &["crypto"]),
    ("jsonwebtoken", &["crypto"]),
    ("moka", &["cache"]),
    ("governor", &["cache"]),
];

#[test]
fn each_library_is_named_in_its_home_only() {
    for member in members() {
        let all = &member.dependencies() | &member.dev_dependencies();
        for (library, homes) in HOMES {
            assert!(!all.contains(*library) || homes.contains(&member.name.as_str()), "{} names {library}", member.name);
        }
    }
}

#[test]
fn every_crate_inherits_what_the_workspace_says() {
    for member in members() {
        let inherits = |section: &str, key: &str| {
            member
                .manifest
                .get(section)
                .and_then(|one| one.get(key))
                .is_some_and(|value| value.as_bool() == Some(true) || value.get("workspace").and_then(Value::as_bool) == Some(true))
        };
        assert!(inherits("lints", "workspace"), "{} does not inherit the lints", member.name);
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            assert!(inherits("package", key), "{} has its own {key}", member.name);
        }
    }
}

/// Dependencies that did not come from the workspace when this test came: take lines out, put none in.
const OWN_VERSIONS: &[&str] = &["http: tokio-tungstenite"];

#[test]
fn every_dependency_is_the_workspaces() {
    for member in members() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in member.manifest.get(section).and_then(Value::as_table).into_iter().flatten() {
                let inherited = value.get("workspace").and_then(Value::as_bool) == Some(true);
                let named = format!("{}: {name}", member.name);
                assert!(inherited || OWN_VERSIONS.contains(&named.as_str()), "{named} has a version of its own");
            }
        }
    }
}

/// Modules that need one another and did so when this test came: take lines out, put none in.
const KNOTS: &[(&str, &[&str])] = &[
    // The journal writes envelopes, and envelopes are the journal's operations.
    ("store", &["federation", "journal"]),
    ("grpc", &["service", "session"]),
    // The one place that decides errors and the one that writes them.
    ("http", &["error", "shape"]),
    // A case works on a scene of the world, and the world prepares itself by calls of a scene.
    ("conformance", &["case", "exchange", "scene", "worker", "world"]),
];

#[test]
fn no_further_modules_of_a_crate_need_each_other() {
    let mut new = Vec::new();
    let mut untied: Vec<_> = KNOTS.iter().map(|(name, _)| *name).collect();
    for member in members() {
        for knot in modules::knots(&modules::modules(&member).unwrap()) {
            let known = KNOTS.iter().any(|(name, known)| *name == member.name && knot.iter().all(|one| known.contains(&one.as_str())));
            if !known {
                new.push(format!("modules of {} need one another: {knot:?}; move what both need into a third", member.name));
            }
            untied.retain(|name| *name != member.name);
        }
    }
    assert!(new.is_empty(), "{new:#?}");
    assert!(untied.is_empty(), "take these out of KNOTS: {untied:?}");
}

#[test]
fn knots_are_found_and_only_those() {
    let of = |edges: &[(&str, &str)]| {
        let mut uses = std::collections::BTreeMap::<String, BTreeSet<String>>::new();
        for (from, to) in edges {
            uses.entry((*from).into()).or_default().insert((*to).into());
        }
        modules::knots(&uses)
    };
    assert!(of(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
    assert_eq!(of(&[("a", "b"), ("b", "c"), ("c", "b")]), [BTreeSet::from(["b".to_owned(), "c".to_owned()])]);
}

#[test]
fn no_migration_was_edited() {
    let recorded = fs::read_to_string(root().join(CHECKSUMS)).unwrap();
    let hint = "a migration is never edited after it was recorded; a new one is recorded by: cargo run -p xtask -- migrations";
    assert_eq!(recorded, house::checksums().unwrap(), "{hint}");
}

#[test]
fn nothing_comes_from_elsewhere_and_nothing_banned_comes_at_all() {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let banned = ["openssl", "openssl-sys", "openssl-src", "native-tls", "tokio-native-tls", "hyper-tls"];
        assert!(!banned.contains(&name), "{name}: TLS is rustls with aws-lc-rs");
        let source = package.get("source").and_then(Value::as_str);
        let from_registry = source.is_some_and(|source| source == "registry+https://github.com/rust-lang/crates.io-index");
        assert!(source.is_none() || from_registry, "{name} comes from {source:?}");
        assert!(source.is_none() || package.get("checksum").is_some(), "{name} has no checksum");
    }
}

#[test]
fn every_served_route_stands_in_a_document() {
    let mut strays = Vec::new();
    for member in members().iter().filter(|member| ["http", "federation"].contains(&member.name.as_str())) {
        for (path, text) in member.sources().unwrap() {
            let lines = modules::without_tests(&text);
            let found =
                lines.lines().filter(|line| [".route(", ".route_service(", ".nest_service("].iter().any(|call| line.contains(call)));
            strays.extend(found.map(|line| format!("{}: {}", path.display(), line.trim())));
        }
    }
    assert!(
        strays.is_empty(),
        "write the operation beside its handler and use .routes(routes!(…)), see docs/adding-an-endpoint.md: {strays:#?}"
    );
}

/// What only its home may call, in code that is not a test. The rest is a rule of `clippy.toml`.
const CALLS: &[(&str, &[&str])] = &[
    // Time comes in through the clock of the core.
    ("SystemTime::now", &["crates/crypto/src/system.rs", "crates/xmpp/src/wire.rs", "certs/", "benches/", "conformance/src/peer/"]),
    ("Timestamp::now", &[]),
    // Ids come in through the core's port.
    ("Uuid::now_v7", &["crates/crypto/src/system.rs", "crates/xmpp/", "benches/", "crates/testkit/", "conformance/"]),
    ("Uuid::new_v4", &["crates/http/src/context.rs", "crates/xmpp/", "worker/src/backoff.rs", "benches/", "conformance/"]),
    // Repeats the place of a row in a constant text.
    ("AssertSqlSafe", &["crates/testkit/", "crates/store/src/many.rs"]),
    // Blocks a thread of the runtime.
    ("thread::sleep", &["benches/"]),
    // Settings come in through the configuration.
    ("env::var", &["node/", "crates/testkit/", "benches/"]),
];

#[test]
fn each_call_is_made_in_its_home_only() {
    let mut strays = Vec::new();
    for member in members().iter().filter(|member| member.name != "xtask") {
        for (path, text) in member.sources().unwrap() {
            let place = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let test = place.ends_with("/tests.rs") || place.contains("/tests/") || place.ends_with("_test.rs");
            for (call, homes) in CALLS {
                let called = modules::without_tests(&text).lines().any(|line| !line.trim_start().starts_with("//") && line.contains(call));
                if called && !test && !homes.iter().any(|home| place.starts_with(home)) {
                    strays.push(format!("{place}: {call}"));
                }
            }
        }
    }
    assert!(strays.is_empty(), "{strays:#?}");
}
