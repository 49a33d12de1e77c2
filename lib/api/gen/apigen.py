#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes C of the contract: request structs, handler prototypes, routes and decode tables.

apigen.py VERSION OUT.h OUT.c FILE.yaml…
"""

import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import contract  # noqa: E402
from contract import ContractError  # noqa: E402

KEYWORDS = set(
    "auto break case char const continue default do double else enum"
    " extern float for goto if inline int long"
    " register restrict return short signed sizeof static struct"
    " switch typedef union unsigned void volatile"
    " while bool true false asm typeof".split()
)
SCALARS = {
    "string": "const char *",
    "integer": "int64_t ",
    "number": "double ",
    "boolean": "bool ",
    "raw": "const json_t *",
}
PERMISSIONS = {
    "open": "API_OPEN",
    "any": "API_TOKEN",
    "at": "API_ROLES_AT",
    "some": "API_ROLES_SOME",
    "all": "API_ROLES_ALL",
    "read": "API_READ_AT",
}


def ident(name):
    name = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if name[0].isdigit():
        name = "_" + name
    return name + "_" if name in KEYWORDS else name


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def quoted(text):
    out = []
    for c in text:
        if c in '"\\?':
            out.append("\\" + c)
        elif " " <= c <= "~":
            out.append(c)
        else:
            out += ["\\%03o" % b for b in c.encode()]
    return '"' + "".join(out) + '"'


class Tables:
    """Collects the structs and the tables that decode into them."""

    def __init__(self, doc):
        self.doc = doc
        self.structs = {}  # name -> list of declaration lines, in the order of need
        self.rows = []  # table definitions
        self.schemas = {}  # text of the initialiser -> name
        self.objects = {}  # struct name -> the schema it was made of
        self.open = []  # structs being made, against cycles
        self.patterns = []
        self.enums = {}

    def pattern(self, text):
        if text not in self.patterns:
            self.patterns.append(text)
        return self.patterns.index(text)

    def enum(self, values):
        key = tuple(values)
        if key not in self.enums:
            self.enums[key] = f"E_{len(self.enums)}"
            items = ", ".join(quoted(v) for v in values)
            self.rows.append(f"static const char *const {self.enums[key]}[] = {{{items}, NULL}};")
        return self.enums[key]

    def schema(self, node, hint, where):
        """Returns (kind, C type of a value, name of the table's row, nullable)."""
        node, name = contract.resolve(self.doc, node, where)
        kind = contract.check_schema(node, where)
        _, nullable = contract.types(node, where)
        fields = [f".type = API_{kind.upper()}"]
        if nullable:
            fields.append(".nullable = true")
        ctype = SCALARS.get(kind)
        if kind == "string":
            fields += [f".min_len = {node.get('minLength', 0)}", f".max_len = {node['maxLength']}"]
            if "format" in node:
                fields.append(".format = API_FORMAT_" + node["format"].upper().replace("-", "_"))
            if "enum" in node:
                fields.append(f".enums = {self.enum(node['enum'])}")
        fields.append(f".pattern = {self.pattern(node['pattern']) if 'pattern' in node else -1}")
        if kind == "integer":
            fields += [
                f".int_min = {self.integer(node.get('minimum'), 'INT64_MIN', where)}",
                f".int_max = {self.integer(node.get('maximum'), 'INT64_MAX', where)}",
            ]
        if kind == "number":
            fields += [
                f".min = {float(node['minimum'])!r}" if "minimum" in node else ".min = -HUGE_VAL",
                f".max = {float(node['maximum'])!r}" if "maximum" in node else ".max = HUGE_VAL",
            ]
        if kind == "object":
            struct = "api_" + (snake(name) if name else hint)
            self.object(struct, node, where)
            ctype = f"struct {struct} "
            count = (
                f"(unsigned)(sizeof(M_{struct}) / sizeof(M_{struct}[0]))"
                if node.get("properties")
                else "0"
            )
            fields += [
                f".members = M_{struct}" if node.get("properties") else ".members = NULL",
                f".n_members = {count}",
                f".size = sizeof(struct {struct})",
            ]
        if kind in ("array", "map"):
            ctype = self.list(kind, node, hint if not name else snake(name), where, fields)
        text = "{" + ", ".join(fields) + "}"
        if text not in self.schemas:
            self.schemas[text] = f"S_{len(self.schemas)}"
            self.rows.append(f"static const struct api_schema {self.schemas[text]} = {text};")
        return kind, ctype, self.schemas[text], nullable

    @staticmethod
    def integer(value, default, where):
        if value is None:
            return default
        if not isinstance(value, int) or not -(2**63) < value < 2**63:
            raise ContractError(f"{where}: bound {value!r} is not an integer")
        return f"INT64_C({value})"

    def list(self, kind, node, hint, where, fields):
        inner = node["items"] if kind == "array" else node["additionalProperties"]
        item_kind, ctype, row, nullable = self.schema(inner, hint + "_item", where + "/*")
        if item_kind in ("array", "map") or nullable:
            raise ContractError(f"{where}: elements that are lists or null cannot be decoded")
        low, high = (
            ("minItems", "maxItems") if kind == "array" else ("minProperties", "maxProperties")
        )
        if kind == "map":
            struct = "api_entry_" + (item_kind if item_kind != "object" else ctype.split()[1])
            if struct not in self.structs:
                self.structs[struct] = ["const char *key;", f"{ctype}value;"]
            fields.append(f".item_off = offsetof(struct {struct}, value)")
            ctype = f"struct {struct} "
        fields += [
            f".min_len = {node.get(low, 0)}",
            f".max_len = {node[high]}",
            f".item = &{row}",
            f".size = sizeof({ctype.strip()})",
        ]
        return ctype

    def object(self, struct, node, where):
        if struct in self.open:
            raise ContractError(f"{where}: {struct} contains itself")
        if struct in self.objects:
            if self.objects[struct] is not node:
                raise ContractError(f"{where}: two schemas would both be struct {struct}")
            return
        self.objects[struct] = node
        self.open.append(struct)
        lines, members = [], []
        for name, child in node.get("properties", {}).items():
            required = name in node.get("required", [])
            declared, row = self.member(struct, "", name, child, required, f"{where}/{name}")
            lines += declared
            members.append(row)
        self.open.pop()
        self.structs[struct] = lines
        if members:
            body = "\n".join(f"        {m}," for m in members)
            self.rows.append(f"static const struct api_member M_{struct}[] = {{\n{body}\n}};")

    def member(self, struct, prefix, name, child, required, where):
        """The declaration of one member and its row; prefix is "path." and such in requests."""
        hint = struct[len("api_") :] + "_" + snake(ident(name))
        kind, ctype, row, nullable = self.schema(child, hint, where)
        c = ident(name)
        has = "API_NO_OFFSET"
        if kind in ("array", "map"):
            const = "" if ctype.startswith("const ") and ctype.endswith("*") else "const "
            lines = [
                f"{ctype}const *{c};" if not const else f"const {ctype}*{c};",
                f"unsigned n_{c};",
            ]
            has = f"offsetof(struct {struct}, {prefix}n_{c})"
        elif kind == "object":
            lines = [f"const {ctype}*{c};"]
        else:
            lines = [f"{ctype}{c};"]
            if kind in ("integer", "number", "boolean") and (not required or nullable):
                lines.append(f"bool has_{c};")
                has = f"offsetof(struct {struct}, {prefix}has_{c})"
        flag = "true" if required else "false"
        return (
            lines,
            f"{{{quoted(name)}, &{row}, {flag}, offsetof(struct {struct}, {prefix}{c}), {has}}}",
        )


def request(tables, op):
    """The request struct of an operation and its parameter table; returns the body's row."""
    struct = f"api_{op['id']}_req"
    lines, rows = [], []
    for place in ("path", "query", "header"):
        inner = []
        for p in op["parameters"]:
            if p["in"] != place:
                continue
            where = f"{op['where']}: {place} parameter '{p['name']}'"
            kind = contract.types(contract.resolve(tables.doc, p["schema"], where)[0], where)[0]
            if kind in ("object", "map", "raw") or (kind == "array" and place == "path"):
                raise ContractError(f"{where}: cannot be decoded")
            declared, row = tables.member(
                struct, place + ".", p["name"], p["schema"], bool(p.get("required")), where
            )
            inner += declared
            rows.append(f"{{API_{place.upper()}, {row}}}")
        if inner:
            lines.append(
                "struct {\n                "
                + "\n                ".join(inner)
                + f"\n        }} {place};"
            )
    body, row = op["body"], "NULL"
    if body["kind"] == "json":
        where = op["where"] + ": body"
        kind, ctype, row, _ = tables.schema(body["schema"], op["id"] + "_body", where)
        if kind != "object":
            raise ContractError(f"{where}: must be an object")
        lines.append(f"{ctype}body;")
        row = "&" + row
        if not body["required"]:
            lines.append("bool has_body;")
    elif body["kind"] == "raw":
        lines.append("struct api_bytes body;")
    tables.structs[struct] = lines or ["char unused;"]
    if rows:
        table = "\n".join(f"        {r}," for r in rows)
        tables.rows.append(f"static const struct api_param P_{op['id']}[] = {{\n{table}\n}};")
    return row


def segment_rows(op):
    order = [
        p["name"]
        for place in ("path", "query", "header")
        for p in op["parameters"]
        if p["in"] == place
    ]
    rest = {p["name"] for p in op["parameters"] if p.get("x-rest")}
    rows = []
    for s in op["segments"]:
        if s.startswith("{"):
            rows.append(
                f"{{NULL, {order.index(s[1:-1])}, {'true' if s[1:-1] in rest else 'false'}}}"
            )
        else:
            rows.append(f"{{{quoted(s)}, -1, false}}")
    return "{" + ", ".join(rows) + "}"


def prototypes(op):
    name, req = op["id"], f"const struct api_{op['id']}_req *req"
    if op["body"]["kind"] != "stream":
        return [f"int api_{name}(struct mlc_ctx *ctx, {req}, struct http_reply *reply) MLC_CHECK;"]
    return [
        f"int api_{name}_open(struct mlc_ctx *ctx, {req}, void **ret_sink) MLC_CHECK;",
        f"int api_{name}_write(struct mlc_ctx *ctx, void *sink, const void *data, size_t len)"
        " MLC_CHECK;",
        f"void api_{name}_abort(struct mlc_ctx *ctx, void *sink);",
        f"int api_{name}(struct mlc_ctx *ctx, {req}, void *sink, struct http_reply *reply)"
        " MLC_CHECK;",
    ]


def wrappers(op):
    name = op["id"]
    if op["body"]["kind"] != "stream":
        return (
            f"static int call_{name}(struct mlc_ctx *ctx, const void *req,"
            " struct http_reply *reply)\n"
            f"{{\n        return api_{name}(ctx, req, reply);\n}}\n"
        )
    return (
        f"static int open_{name}(struct mlc_ctx *ctx, const void *req, void **ret_sink)\n"
        f"{{\n        return api_{name}_open(ctx, req, ret_sink);\n}}\n\n"
        f"static int finish_{name}(struct mlc_ctx *ctx, const void *req, void *sink,"
        " struct http_reply *reply)\n"
        f"{{\n        return api_{name}(ctx, req, sink, reply);\n}}\n"
    )


def operation_row(op, body_row):
    name, struct, body = op["id"], f"struct api_{op['id']}_req", op["body"]
    f = {
        "id": quoted(name),
        "method": quoted(op["method"]),
        "path": quoted(op["path"]),
        "segments": f"R_{name}",
        "n_segments": len(op["segments"]),
        "req_size": f"sizeof({struct})",
        "permission": PERMISSIONS[op["permission"]],
        "body": f"API_BODY_{body['kind'].upper()}",
        "body_max": f"UINT64_C({body['max']})",
        "body_schema": body_row,
        "off_has_body": "API_NO_OFFSET",
    }
    if op["parameters"]:
        f["params"], f["n_params"] = f"P_{name}", len(op["parameters"])
    if op["roles"]:
        f["roles"] = " | ".join("AUTH_" + r.upper() for r in op["roles"])
    if op["permission"] in ("at", "read"):
        f["off_namespace"] = f"offsetof({struct}, path.namespace)"
    if body["kind"] in ("json", "raw"):
        f["off_body"] = f"offsetof({struct}, body)"
    if body["kind"] == "json" and not body["required"]:
        f["off_has_body"] = f"offsetof({struct}, has_body)"
    for key, flag in (
        ("body_required", body["required"]),
        ("public_opens", op["public"]),
        ("audited", op["audited"]),
        ("idempotent", op["idempotent"]),
        ("oci", op["oci"]),
        ("waits", op["waits"]),
    ):
        if flag:
            f[key] = "true"
    if body["kind"] == "stream":
        f.update(
            open=f"open_{name}",
            write=f"api_{name}_write",
            abort=f"api_{name}_abort",
            finish=f"finish_{name}",
        )
    else:
        f["call"] = f"call_{name}"
    return (
        "        {\n"
        + "".join(f"                .{k} = {v},\n" for k, v in f.items())
        + "        },\n"
    )


TOP = (
    "/* SPDX-License-Identifier: Apache-2.0 */\n"
    "/* Made by apigen.py from include/api/; do not edit. */\n"
)


def header(tables, ops):
    out = [
        TOP + "#pragma once\n\n#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n\n"
        '#include "http/operation.h"\n'
    ]
    for name, lines in tables.structs.items():
        out.append(
            f"struct {name} {{\n" + "".join(f"        {line}\n" for line in lines) + "};\n"
            if lines
            else f"struct {name} {{\n        char unused;\n}};\n"
        )
    out += ["\n".join(prototypes(op)) + "\n" for op in ops]
    return "\n".join(out)


def document(doc):
    """As a string; an array of bytes would be slow to compile."""
    text = json.dumps(doc, ensure_ascii=True, separators=(",", ":"))
    return "\n".join("        " + quoted(text[i : i + 2000]) for i in range(0, len(text), 2000))


def source(doc, tables, ops, bodies):
    out = [TOP + '#include <math.h>\n\n#include "gen/api.h"\n', "\n".join(tables.rows) + "\n"]
    for op in ops:
        out.append(
            f"static const struct api_segment R_{op['id']}[] = {segment_rows(op)};\n\n"
            + wrappers(op)
        )
    out.append(
        "const struct api_operation gen_operations[] = {\n"
        + "".join(operation_row(op, bodies[op["id"]]) for op in ops)
        + "};\n\n"
        f"const unsigned gen_n_operations = {len(ops)};\n"
    )
    patterns = "".join(f"        {quoted(p)},\n" for p in tables.patterns)
    out.append(
        f"const char *const gen_patterns[] = {{\n{patterns}        NULL,\n}};\n\n"
        f"const unsigned gen_n_patterns = {len(tables.patterns)};\n"
    )
    out.append(
        f"const char gen_openapi[] =\n{document(doc)};\n\n"
        "const size_t gen_openapi_len = sizeof(gen_openapi) - 1;\n"
    )
    return "\n".join(out)


def generate(version, paths):
    doc = contract.unite(paths, version)
    ops = contract.operations(doc)
    tables = Tables(doc)
    bodies = {op["id"]: request(tables, op) for op in ops}
    return header(tables, ops), source(doc, tables, ops, bodies)


def main(argv):
    if len(argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        h, c = generate(argv[0], argv[3:])
        for path, text in ((argv[1], h), (argv[2], c)):
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    except (ContractError, OSError) as e:
        print(f"apigen: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
