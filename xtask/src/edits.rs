//! Edits of the hub's own sources that an integrator would notice, and what the tests have to say of each.

/// One text of one file that becomes another. The file has it once.
pub struct Change {
    /// The file, from the root.
    pub file: &'static str,
    /// What is there.
    pub from: &'static str,
    /// What comes in its place.
    pub to: &'static str,
}

/// What the tests have to do.
pub enum Verdict {
    /// They pass.
    Taken,
    /// They fail, and say all of this: the rule and the file.
    Refused(&'static [&'static str]),
}

/// One edit.
pub struct Edit {
    /// What somebody does.
    pub name: &'static str,
    /// How.
    pub changes: &'static [Change],
    /// What comes of it.
    pub verdict: Verdict,
    /// Whether the tests of the REST door judge it, beside those of the documents.
    pub door: bool,
}

const fn change(file: &'static str, from: &'static str, to: &'static str) -> Change {
    Change { file, from, to }
}

const KEY: &str = "crates/model/src/account.rs";
const NEW_KEY: &str = "pub struct NewApiKey {\n    /// What the key is for.\n    pub name: String,\n";
const HEALTH: &str = "crates/model/src/v1/agent.rs";
const VERSION: &str = "    /// Version of the hub.\n    pub version: String,\n";
const REGISTER: &str = "Ok(created(app.accounts.register(body, facts.origin()).await?))";
const OK: &str = "let mut answer = created(app.accounts.register(body, facts.origin()).await?);\n    *answer.status_mut() = axum::http::StatusCode::OK;\n    Ok(answer)";

/// Every edit.
pub const EDITS: &[Edit] = &[
    Edit {
        name: "an optional member of a request and one of a response come",
        changes: &[
            change(
                KEY,
                NEW_KEY,
                "pub struct NewApiKey {\n    /// What the key is for.\n    pub name: String,\n    /// Where it will be used.\n    #[serde(default, skip_serializing_if = \"Option::is_none\")]\n    pub place: Option<String>,\n",
            ),
            change(
                HEALTH,
                VERSION,
                "    /// Version of the hub.\n    pub version: String,\n    /// Its mood.\n    #[serde(default, skip_serializing_if = \"Option::is_none\")]\n    pub mood: Option<String>,\n",
            ),
            change(
                "crates/http/src/v1/health.rs",
                "service: service.into(), version: app.options.version.clone() }",
                "service: service.into(), version: app.options.version.clone(), mood: None }",
            ),
            change(
                "crates/http/src/v1/health.rs",
                "service: \"hub\".into(), version: app.options.version.clone() }",
                "service: \"hub\".into(), version: app.options.version.clone(), mood: None }",
            ),
        ],
        verdict: Verdict::Taken,
        door: false,
    },
    Edit {
        name: "a member of a response goes",
        changes: &[
            change(HEALTH, VERSION, ""),
            change(
                "crates/http/src/v1/health.rs",
                "service: service.into(), version: app.options.version.clone() }",
                "service: service.into() }",
            ),
            change(
                "crates/http/src/v1/health.rs",
                "alive(State(app): State<App>) -> Json<Health> {\n    Json(Health { status: \"ok\".into(), service: \"hub\".into(), version: app.options.version.clone() })",
                "alive() -> Json<Health> {\n    Json(Health { status: \"ok\".into(), service: \"hub\".into() })",
            ),
        ],
        verdict: Verdict::Refused(&[
            "rule: openapi/node.json only grows within a major version.",
            "GET /v1/health, response 200: version: the member is gone (member-removed)",
            "rule: schemas/v1/V1Health.schema.json only grows",
        ]),
        door: false,
    },
    Edit {
        name: "a request has to have one member more",
        changes: &[change(
            KEY,
            NEW_KEY,
            "pub struct NewApiKey {\n    /// What the key is for.\n    pub name: String,\n    /// Where it will be used.\n    pub place: String,\n",
        )],
        verdict: Verdict::Refused(&[
            "rule: openapi/node.json only grows within a major version.",
            "POST /api/v1/keys, request: place: clients must send it now (required)",
            "rule: schemas/v1/NewApiKey.schema.json only grows",
        ]),
        door: false,
    },
    Edit {
        name: "an operation answers with another status",
        changes: &[
            change("crates/http/src/routes/auth.rs", REGISTER, OK),
            change(
                "crates/http/src/routes/auth.rs",
                "(status = 201, description = \"Signed in.\", body = TokenPairData)",
                "(status = 200, description = \"Signed in.\", body = TokenPairData)",
            ),
        ],
        verdict: Verdict::Refused(&[
            "rule: openapi/node.json only grows within a major version.",
            "POST /api/v1/auth/register, response 201: the status is gone (status-removed)",
        ]),
        door: false,
    },
    Edit {
        name: "an operation answers with a status that its document does not have",
        changes: &[change("crates/http/src/routes/auth.rs", REGISTER, OK)],
        verdict: Verdict::Refused(&[
            "rule: a hub answers as openapi/node.json says.",
            "POST /api/v1/auth/register 200: register_account does not document this status",
        ]),
        door: true,
    },
    Edit {
        name: "an error code is renamed in the code",
        changes: &[change("crates/app/src/agents.rs", "Error::conflict(\"handle_taken\"", "Error::conflict(\"handle_in_use\"")],
        verdict: Verdict::Refused(&[
            "rule: every error code stands in spec/errors.md, and no other.",
            "handle_in_use, of crates/app/src/agents.rs",
            "handle_taken, which no source sends",
        ]),
        door: false,
    },
    Edit {
        name: "an error code is renamed in the code, in the documents and in the specification",
        changes: &[
            change("crates/app/src/agents.rs", "Error::conflict(\"handle_taken\"", "Error::conflict(\"handle_in_use\""),
            change(
                "crates/http/src/routes/agents.rs",
                "\"The handle belongs, or once belonged, to another agent (`handle_taken`)",
                "\"The handle belongs, or once belonged, to another agent (`handle_in_use`)",
            ),
            change(
                "crates/http/src/routes/agents.rs",
                "or the handle belongs, or once belonged, to another agent (`handle_taken`)",
                "or the handle belongs, or once belonged, to another agent (`handle_in_use`)",
            ),
            change("spec/errors.md", "| `handle_taken` |", "| `handle_in_use` |"),
            change("spec/agents.md", "`handle_taken`", "`handle_in_use`"),
            change("crates/core/tests/errors.rs", "\"handle_taken\"", "\"handle_in_use\""),
        ],
        verdict: Verdict::Refused(&["rule: error codes are never renamed (spec/errors.md). Gone: handle_taken."]),
        door: false,
    },
];
