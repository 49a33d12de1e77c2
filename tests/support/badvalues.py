# SPDX-License-Identifier: Apache-2.0
"""Values that a schema of the contract does not allow, and some that it does."""

FORMATS = {  # format: (good, bad…)
    "date-time": ("2026-11-24T10:00:00Z", "2026-11-24", "yesterday", "2026-13-01T00:00:00Z",
                  "2026-11-24T25:00:00Z", "2026-11-24T10:00:00", "2026-11-24T10:00:00Z x"),
    "sha256-digest": ("sha256:" + "0" * 64, "sha256:" + "0" * 63 + "G", "sha256:" + "A" * 64,
                      "md5:" + "0" * 67, "sha256-" + "0" * 64),
    "namespace": ("bad", "UPPER", "-a", "a-", "a b", "a/b", "a..b", "ä", "\u202e", "api", "v2"),
    "model-name": ("model", "UPPER", ".a", "a_", "a b", "a//b", "a___b", "é", "e\u0301", "😀"),
    "alias": ("champion", "v1", "1", "latest", "-a", "a/b", "a:b", "ä", "😀", "a b"),
    "user-name": ("someone", "Upper", "a b", ".a", "a.", "ä", "a\u200bb", "😀", "a\tb"),
    "uuid": ("00000000-0000-4000-8000-000000000000", "0", "{00000000-0000-4000-8000-000000000000}"),
}
PATTERNS = {"^t[0-9a-f]{12}$": "t" + "0" * 12, "^k[0-9a-f]{12}$": "k" + "0" * 12,
            "^p[0-9]{1,18}$": "p999999", "^c[0-9]{1,18}$": "c999999",
            "^r[0-9]{1,18}$": "r999999",
            "^[0-9]{1,2}$": "0", "^[0-9a-f]{64}$": "0" * 64,
            "^(x[0-9]{3}/){0,5}[0-9]{3}([.]p/[0-9]{1,3})?$": "000"}
NOT_INTEGERS = ("x", "1.5", "1e3", "+1", "%201", "0x10", "99999999999999999999", "-", "1%20", "")


def good(schema):
    """A value that fits."""
    kind = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "string":
        text = (FORMATS[schema["format"]][0] if "format" in schema
                else PATTERNS[schema["pattern"]] if "pattern" in schema else "x")
        return text.ljust(schema.get("minLength", 0), "x")
    return {"integer": schema.get("minimum", 1), "number": 1.5, "boolean": True, "array": [],
            "object": {}}[kind]


def bad_strings(schema):
    """(what, text) pairs for a string schema."""
    if schema.get("minLength", 0) > 0:
        yield "too short", "x" * (schema["minLength"] - 1)
    yield "too long", "x" * (schema["maxLength"] + 1)
    yield "too long, of four bytes each", "😀" * (schema["maxLength"] + 1)
    if "enum" in schema:
        yield "not in the list", "nope"
        yield "in the list, but for case", schema["enum"][0].upper()
    if "pattern" in schema:
        yield "against the pattern", good(schema)[:-1] + "!"
        yield "the pattern and a line feed", good(schema) + "\n"
    for text in FORMATS.get(schema.get("format"), ("",))[1:]:
        yield f"not a {schema['format']}", text


def _wrong_types(schema):
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    samples = {"null": None, "boolean": True, "integer": 7, "number": 1.5, "string": "text",
               "array": [1], "object": {"a": 1}}
    for name, value in samples.items():
        if name not in kinds and not (name == "integer" and "number" in kinds):
            yield f"{name} for {kinds[0]}", value


def bad_values(schema, at):
    """(what, value, JSON pointer that must be named) for a member at this pointer."""
    for what, value in _wrong_types(schema):
        yield what, value, at
    kind = schema["type"]
    if kind == "string":
        for what, value in bad_strings(schema):
            yield what, value, at
    elif kind in ("integer", "number"):
        if "minimum" in schema:
            yield "too small", schema["minimum"] - 1, at
        if "maximum" in schema:
            yield "too large", schema["maximum"] + 1, at
    elif kind == "array":
        item = good(schema["items"])
        yield "too many items", [item] * (schema["maxItems"] + 1), at
        for what, value, where in bad_values(schema["items"], f"{at}/0"):
            yield f"item: {what}", [value], where
        yield "second item", [item, {}], f"{at}/1"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        item = schema["additionalProperties"]
        yield "too many members", {f"k{i}": good(item)
                                   for i in range(schema["maxProperties"] + 1)}, at
        for what, value, where in bad_values(item, f"{at}/k"):
            yield f"member: {what}", {"k": value}, where


def bad_queries(schema):
    """(what, percent-encoded text) for a query or path parameter."""
    if schema["type"] == "integer":
        for text in NOT_INTEGERS:
            yield f"no integer: {text!r}", text
        yield "too small", str(schema["minimum"] - 1)
        yield "too large", str(schema["maximum"] + 1)
    elif schema["type"] == "boolean":
        for text in ("", "1", "0", "yes", "True", "truefalse", "null", "%20true"):
            yield f"no boolean: {text!r}", text
    else:
        for what, text in bad_strings(schema):
            yield what, "".join(f"%{b:02x}" for b in text.encode())
    good_text = str(good(schema))
    yield "NUL", good_text + "%00"
    yield "not UTF-8", good_text + "%ff"
    yield "overlong UTF-8", good_text + "%c0%ae"
    yield "a surrogate", good_text + "%ed%a0%80"
    yield "a line feed", good_text + "%0a"
    yield "CR LF and a header", good_text + "%0d%0aX-Injected:%201"
    yield "delete", good_text + "%7f"
    yield "half an escape", good_text + "%"
    yield "an escape without digits", good_text + "%zz"
