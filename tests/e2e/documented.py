"""Judges REST responses by openapi/node.json: the status, the media type and the body. Members that the document does not name are wrong.

What is exercised is noted below the target directory, for `cargo run -p xtask -- spec exercised`.
"""

import copy
import functools
import json
import os
import re
from pathlib import Path

from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
COMPOSED = ("allOf", "anyOf", "oneOf", "if")
MAPS = ("properties", "patternProperties", "$defs")


class Undocumented(AssertionError):
    """A response that is not as documented."""


def close(schema, whole=True) -> None:
    """Refuses members that a schema does not name, unless it says that further ones may come. The parts of a composition see only their own
    members, so the whole is closed and its parts are not."""
    if isinstance(schema, list):
        for part in schema:
            close(part, whole)
    if not isinstance(schema, dict):
        return
    named = "properties" in schema
    parts_are_whole = whole and not (named and any(name in schema for name in COMPOSED))
    for name, value in schema.items():
        if name in (*COMPOSED, "then", "else"):
            close(value, parts_are_whole)
        elif name in MAPS:
            for inner in value.values():
                close(inner)
        elif name in ("items", "additionalProperties", "prefixItems"):
            close(value)
    if whole and named and not {"additionalProperties", "unevaluatedProperties", "patternProperties"} & schema.keys():
        schema["unevaluatedProperties"] = False


@functools.cache
def document() -> dict:
    """The document, with its schemas closed."""
    read = json.loads((ROOT / "openapi/node.json").read_text())
    for schema in read["components"]["schemas"].values():
        close(schema)
    return read


@functools.cache
def operations() -> list:
    """(method, pattern of the path, operation), fixed words before parameters."""
    found = []
    for path, item in document()["paths"].items():
        pattern = re.compile("".join("[^/]+?" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", path)) + "/?")
        found += [(path.count("{"), method.upper(), pattern, operation) for method, operation in item.items() if "operationId" in operation]
    return [entry[1:] for entry in sorted(found, key=lambda entry: entry[0])]


@functools.cache
def validator(operation_id: str, status: str, media: str) -> Draft202012Validator:
    """The validator of one answer."""
    operation = next(operation for _, _, operation in operations() if operation["operationId"] == operation_id)
    schema = copy.deepcopy(operation["responses"][status]["content"][media].get("schema", True))
    close(schema)
    return Draft202012Validator({"allOf": [schema], "components": document()["components"]})


@functools.cache
def notes():
    """The file of this process for its notes."""
    directory = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "spec/exercised"
    directory.mkdir(parents=True, exist_ok=True)
    return (directory / f"e2e-{os.getpid()}.jsonl").open("a", buffering=1)


def judge(method: str, path: str, status: int, media: str, body=None) -> None:
    """Raises `Undocumented` if the response is not as documented. `body` is the JSON value of the answer."""
    path = path.split("?")[0]
    operation = next((operation for known, pattern, operation in operations() if known == method and pattern.fullmatch(path)), None)
    if operation is None:
        if status not in (401, 404, 405):
            raise Undocumented(f"{method} {path} {status}: the operation is not in the document")
        return
    print(json.dumps({"operation": operation["operationId"], "status": status}), file=notes())
    response = operation["responses"].get(str(status))
    if response is None:
        raise Undocumented(f"{method} {path}: {operation['operationId']} does not document {status}: {body}")
    content = response.get("content")
    if content is None:
        if body is not None:
            raise Undocumented(f"{method} {path} {status}: no body is documented: {body}")
        return
    if media not in content:
        raise Undocumented(f"{method} {path} {status}: {media} is not documented")
    if media.endswith("json"):
        problems = [f"{error.json_path}: {error.message}" for error in validator(operation["operationId"], str(status), media).iter_errors(body)]
        if problems:
            raise Undocumented(f"{method} {path} {status}: " + "; ".join(problems))
        error = body.get("error") if isinstance(body, dict) else None
        code = error.get("code") if isinstance(error, dict) else body.get("code") if isinstance(body, dict) else None
        # A description that gives instances names an open set.
        if status >= 400 and code and f"`{code}`" not in response["description"] and "for instance" not in response["description"]:
            raise Undocumented(f"{method} {path} {status}: the code {code} is not named")
