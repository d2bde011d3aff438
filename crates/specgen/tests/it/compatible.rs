//! Planted changes, of which exactly the breaking ones are refused.

use aiox_specgen::{
    lint,
    openapi::compatible,
    schema::{self, Direction},
};
use serde_json::{Value, json};

/// A small document with everything that a change can touch. `Thing` travels both ways.
fn old() -> Value {
    json!({
        "openapi": "3.1.0",
        "paths": {
            "/things": {
                "get": {
                    "operationId": "list_things", "security": [{ "bearer": ["things:read"] }, { "key": [] }],
                    "parameters": [
                        { "name": "page", "in": "query", "required": false, "schema": { "type": "integer", "minimum": 1, "maximum": 100 } },
                        { "name": "order", "in": "query", "required": true, "schema": { "type": "string", "enum": ["up", "down"] } }
                    ],
                    "responses": {
                        "200": { "description": "x", "headers": { "ETag": {} }, "content": {
                            "application/json": { "schema": { "type": "object", "required": ["data"], "properties": {
                                "data": { "type": "array", "items": { "$ref": "#/components/schemas/Thing" } }, "next": { "type": "string" } } } },
                            "text/csv": { "schema": { "type": "string" } } } },
                        "404": { "description": "x" }
                    }
                },
                "post": {
                    "operationId": "create_thing", "security": [{ "bearer": [] }],
                    "requestBody": { "required": true, "content": { "application/json": { "schema": { "$ref": "#/components/schemas/NewThing" } } } },
                    "responses": { "201": { "description": "x", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Made" } } } } }
                },
                "put": {
                    "operationId": "replace_thing",
                    "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Thing" } } } },
                    "responses": { "200": { "description": "x" } }
                }
            }
        },
        "components": { "schemas": {
            "NewThing": { "type": "object", "required": ["name"], "properties": {
                "name": { "type": "string", "maxLength": 64 },
                "kind": { "type": "string", "enum": ["a", "b"] },
                "size": { "type": ["integer", "null"], "minimum": 0 },
                "when": { "type": "string" },
                "list": { "type": "array", "items": { "type": "string" } },
                "either": { "oneOf": [{ "type": "string" }, { "type": "integer" }] } } },
            "Made": { "type": "object", "required": ["id", "state"], "properties": {
                "id": { "type": "string", "format": "uuid" },
                "state": { "oneOf": [{ "type": "string", "const": "open" }, { "type": "string", "const": "shut" }] },
                "count": { "type": "integer" },
                "note": { "type": "string" },
                "part": { "oneOf": [{ "$ref": "#/components/schemas/Thing" }, { "type": "null" }] } } },
            "Thing": { "type": "object", "required": ["id"], "properties": {
                "id": { "type": "string" }, "parent": { "$ref": "#/components/schemas/Thing" } } }
        } }
    })
}

enum Change {
    /// Put a value where there was one, or add a member.
    Set(&'static str, Value),
    /// Take a member or item out.
    Cut(&'static str),
}
use Change::{Cut, Set};

fn changed(change: &Change) -> Value {
    let mut document = old();
    let (pointer, value) = match change {
        Set(pointer, value) => (pointer, Some(value)),
        Cut(pointer) => (pointer, None),
    };
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/");
    match (document.pointer_mut(parent).unwrap(), value) {
        (Value::Object(members), Some(value)) => drop(members.insert(name, value.clone())),
        (Value::Object(members), None) => drop(members.remove(&name).unwrap()),
        (Value::Array(items), Some(value)) if name == "-" => items.push(value.clone()),
        (Value::Array(items), Some(value)) => items[name.parse::<usize>().unwrap()] = value.clone(),
        (Value::Array(items), None) => drop(items.remove(name.parse().unwrap())),
        _ => panic!("{pointer}"),
    }
    document
}

const GET: &str = "/paths/~1things/get";

fn breaking() -> Vec<(&'static str, Change)> {
    vec![
        ("an operation goes", Cut("/paths/~1things/put")),
        ("a path goes", Cut("/paths/~1things")),
        ("an operation is renamed", Set("/paths/~1things/get/operationId", json!("get_things"))),
        ("a parameter goes", Cut("/paths/~1things/get/parameters/0")),
        ("a parameter moves", Set("/paths/~1things/get/parameters/0/in", json!("header"))),
        ("a parameter becomes required", Set("/paths/~1things/get/parameters/0/required", json!(true))),
        (
            "a required parameter comes",
            Set(
                "/paths/~1things/get/parameters/-",
                json!({ "name": "x", "in": "query", "required": true, "schema": { "type": "string" } }),
            ),
        ),
        ("a parameter's bound tightens", Set("/paths/~1things/get/parameters/0/schema/maximum", json!(50))),
        ("a parameter's values narrow", Cut("/paths/~1things/get/parameters/1/schema/enum/0")),
        ("a parameter changes its type", Set("/paths/~1things/get/parameters/0/schema/type", json!("boolean"))),
        ("a status goes", Cut("/paths/~1things/get/responses/404")),
        ("a header goes", Cut("/paths/~1things/get/responses/200/headers/ETag")),
        ("a media type goes", Cut("/paths/~1things/get/responses/200/content/text~1csv")),
        ("a response member goes", Cut("/paths/~1things/get/responses/200/content/application~1json/schema/properties/next")),
        ("a response member may be absent", Set("/paths/~1things/get/responses/200/content/application~1json/schema/required", json!([]))),
        ("a scope is asked for", Set("/paths/~1things/post/security", json!([{ "bearer": ["things:write"] }]))),
        ("a way in goes", Cut("/paths/~1things/get/security/1")),
        ("a credential is asked for", Set("/paths/~1things/put/security", json!([{ "bearer": [] }]))),
        ("a request member goes", Cut("/components/schemas/NewThing/properties/when")),
        ("a request member becomes required", Set("/components/schemas/NewThing/required", json!(["name", "kind"]))),
        (
            "a new request member is required",
            Set(
                "/components/schemas/NewThing",
                json!({ "type": "object", "required": ["name", "new"], "properties": {
                    "name": { "type": "string", "maxLength": 64 }, "kind": { "type": "string", "enum": ["a", "b"] },
                    "size": { "type": ["integer", "null"], "minimum": 0 }, "when": { "type": "string" },
                    "list": { "type": "array", "items": { "type": "string" } },
                    "either": { "oneOf": [{ "type": "string" }, { "type": "integer" }] }, "new": { "type": "string" } } }),
            ),
        ),
        ("a request enum narrows", Cut("/components/schemas/NewThing/properties/kind/enum/1")),
        ("a request text becomes a closed set", Set("/components/schemas/NewThing/properties/when/enum", json!(["now"]))),
        ("a request type narrows", Set("/components/schemas/NewThing/properties/size/type", json!("integer"))),
        ("a request bound tightens", Set("/components/schemas/NewThing/properties/name/maxLength", json!(32))),
        ("a request bound comes", Set("/components/schemas/NewThing/properties/list/maxItems", json!(3))),
        ("a request format comes", Set("/components/schemas/NewThing/properties/when/format", json!("date-time"))),
        ("a request pattern comes", Set("/components/schemas/NewThing/properties/when/pattern", json!("^a"))),
        ("request items change", Set("/components/schemas/NewThing/properties/list/items/type", json!("integer"))),
        ("a request alternative goes", Cut("/components/schemas/NewThing/properties/either/oneOf/1")),
        ("a request refuses unknown members", Set("/components/schemas/NewThing/additionalProperties", json!(false))),
        ("a response enum grows", Set("/components/schemas/Made/properties/state/oneOf/-", json!({ "type": "string", "const": "ajar" }))),
        ("a response enum opens", Set("/components/schemas/Made/properties/state", json!({ "type": "string" }))),
        ("a response type widens", Set("/components/schemas/Made/properties/note/type", json!(["string", "null"]))),
        ("a response number gets fractions", Set("/components/schemas/Made/properties/count/type", json!("number"))),
        ("a response format changes", Cut("/components/schemas/Made/properties/id/format")),
        ("a response alternative comes", Set("/components/schemas/Made/properties/part/oneOf/-", json!({ "type": "string" }))),
        ("a member of both directions goes", Cut("/components/schemas/Thing/properties/parent")),
        ("a member of both directions becomes required", Set("/components/schemas/Thing/required", json!(["id", "parent"]))),
        ("a request body becomes required", Set("/paths/~1things/put/requestBody/required", json!(true))),
        ("a request body goes", Cut("/paths/~1things/put/requestBody")),
    ]
}

fn additive() -> Vec<(&'static str, Change)> {
    vec![
        ("a path comes", Set("/paths/~1others", json!({ "get": { "operationId": "list_others", "responses": {} } }))),
        ("an operation comes", Set("/paths/~1things/delete", json!({ "operationId": "delete_things", "responses": {} }))),
        ("words change", Set("/paths/~1things/get/summary", json!("Other words"))),
        (
            "an optional parameter comes",
            Set(
                "/paths/~1things/get/parameters/-",
                json!({ "name": "x", "in": "query", "required": false, "schema": { "type": "string" } }),
            ),
        ),
        ("a parameter becomes optional", Set("/paths/~1things/get/parameters/1/required", json!(false))),
        ("a parameter's bound widens", Set("/paths/~1things/get/parameters/0/schema/maximum", json!(500))),
        ("a parameter's values grow", Set("/paths/~1things/get/parameters/1/schema/enum/-", json!("sideways"))),
        ("a status comes", Set("/paths/~1things/get/responses/503", json!({ "description": "x" }))),
        ("a header comes", Set("/paths/~1things/get/responses/200/headers/Age", json!({}))),
        ("a media type comes", Set("/paths/~1things/get/responses/200/content/text~1html", json!({}))),
        ("a scope is no longer needed", Set("/paths/~1things/get/security/0", json!({ "bearer": [] }))),
        ("a way in comes", Set("/paths/~1things/post/security/-", json!({ "key": [] }))),
        ("an optional request member comes", Set("/components/schemas/NewThing/properties/new", json!({ "type": "string" }))),
        ("a request member becomes optional", Set("/components/schemas/NewThing/required", json!([]))),
        ("a request enum grows", Set("/components/schemas/NewThing/properties/kind/enum/-", json!("c"))),
        ("a request enum opens", Cut("/components/schemas/NewThing/properties/kind/enum")),
        ("a request type widens", Set("/components/schemas/NewThing/properties/when/type", json!(["string", "null"]))),
        ("a request bound widens", Set("/components/schemas/NewThing/properties/name/maxLength", json!(128))),
        ("a request alternative comes", Set("/components/schemas/NewThing/properties/either/oneOf/-", json!({ "type": "null" }))),
        ("a response member comes", Set("/components/schemas/Made/properties/new", json!({ "type": "string" }))),
        ("a response member is always there", Set("/components/schemas/Made/required", json!(["id", "state", "note"]))),
        ("a response enum narrows", Cut("/components/schemas/Made/properties/state/oneOf/1")),
        ("a response text becomes a closed set", Set("/components/schemas/Made/properties/note/enum", json!(["a"]))),
        ("a response format comes", Set("/components/schemas/Made/properties/note/format", json!("uri"))),
        ("a response alternative goes", Cut("/components/schemas/Made/properties/part/oneOf/1")),
        ("an optional member of both directions comes", Set("/components/schemas/Thing/properties/new", json!({ "type": "string" }))),
        (
            "a schema moves in place of its reference",
            Set("/paths/~1things/post/requestBody/content/application~1json/schema", old()["components"]["schemas"]["NewThing"].clone()),
        ),
    ]
}

#[test]
fn exactly_the_breaking_changes_are_refused() {
    assert_eq!(compatible(&old(), &old()), []);
    let (breaking, additive) = (breaking(), additive());
    assert!(breaking.len() + additive.len() >= 60);
    let missed: Vec<&str> =
        breaking.iter().filter(|(_, change)| compatible(&old(), &changed(change)).is_empty()).map(|(name, _)| *name).collect();
    assert!(missed.is_empty(), "not refused: {missed:#?}");
    for (name, change) in &additive {
        assert_eq!(compatible(&old(), &changed(change)), [], "{name}");
    }
}

#[test]
fn a_breach_says_where_and_what() {
    let found = compatible(&old(), &changed(&Cut("/components/schemas/Made/properties/note")));
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["POST /things, response 201: note: the member is gone (member-removed)"]
    );
    let found = compatible(&old(), &changed(&Set("/paths/~1things/get/parameters/0/schema/minimum", json!(2))));
    assert_eq!(found[0].place, format!("{}, query parameter page", GET.replace("/paths/~1things/get", "GET /things")));
}

#[test]
fn a_document_of_both_directions_keeps_both_promises() {
    let (closed, wide) = (json!({ "type": "string", "enum": ["a"] }), json!({ "type": "string", "enum": ["a", "b"] }));
    let breaches = |old: &Value, new: &Value, direction| schema::compatible("x", (old, old), (new, new), direction).len();
    assert_eq!(breaches(&closed, &wide, Direction::Request), 0);
    assert_eq!(breaches(&closed, &wide, Direction::Response), 1);
    assert_eq!(breaches(&closed, &wide, Direction::Both), 1);
    assert_eq!(breaches(&wide, &closed, Direction::Both), 1);
}

#[test]
fn a_renamed_error_code_is_missed() {
    let before = lint::codes("| `not_found` | 404 |\n| `forbidden` | 403 |\n");
    let after = lint::codes("| `not_found` | 404 |\n| `denied` | 403 |\n");
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), ["forbidden"]);
}
