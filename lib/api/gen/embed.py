# SPDX-License-Identifier: Apache-2.0
"""embed.py OUT.c FILE…: makes the table of lib/policy/schema.h from the JSON Schemas."""
import json
import os
import sys


def literal(text):
    """A C string literal; compact JSON, a line of the source every 80 bytes."""
    body = json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=True)
    body = body.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
    lines, line = [], ""
    for char in body:
        line += char
        if len(line) >= 80 and char not in "\\":
            lines.append(line)
            line = ""
    lines.append(line)
    return "\n        ".join(f'"{part}"' for part in lines)


def main():
    out, files = sys.argv[1], sorted(sys.argv[2:])
    parts = ['/* Made by embed.py from include/schema/. */', '#include "policy/schema.h"', '']
    rows = []
    for i, path in enumerate(files):
        with open(path, encoding="utf-8") as f:
            parts.append(f"static const char TEXT_{i}[] =\n        {literal(f.read())};\n")
        rows.append(f'        {{"{os.path.basename(path)}", TEXT_{i}, sizeof(TEXT_{i}) - 1}},')
    parts += ["static const struct mlc_schema SCHEMAS[] = {", *rows, "};", "",
              "const struct mlc_schema *mlc_schemas(size_t *ret_n)", "{",
              "        *ret_n = sizeof(SCHEMAS) / sizeof(SCHEMAS[0]);", "        return SCHEMAS;",
              "}", ""]
    with open(out, "w", encoding="utf-8") as f:
        f.write("\n".join(parts))


if __name__ == "__main__":
    main()
