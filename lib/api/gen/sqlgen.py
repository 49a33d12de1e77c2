#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the named statements of .sql files into constants of type struct db_stmt.

A block starts with `-- name: NAME` and ends at the next one; it holds exactly one statement, with
the parameters $1..$n without a gap. Comments are left out of the text.

    sqlgen.py header x.sql OUT.h               the constants SQL_NAME of one file
    sqlgen.py table OUT.c OUT.h x.sql y.sql…   all statements, for the test that prepares each
"""
import os
import re
import sys

NAME_LINE = re.compile(r"^--\s*name:\s*(.*?)\s*$")
NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,58}$")
# what may hide a $1, a semicolon or a comment sign; order matters
TOKEN = re.compile(
    r"""(?P<line>--[^\n]*)
      | (?P<estring>\b[eE]'(?:[^'\\]|\\.|'')*')
      | (?P<string>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<dollar>\$(?P<tag>[A-Za-z_][A-Za-z0-9_]*)?\$.*?\$(?P=tag)\$|\$\$.*?\$\$)
      | (?P<param>\$(?P<num>[0-9]+))
      | (?P<word>[A-Za-z_][A-Za-z0-9_$]*)
      | (?P<semi>;)
      | (?P<open>/\*)
    """,
    re.VERBOSE | re.DOTALL,
)


class SqlError(Exception):
    pass


def skip_block_comment(text, pos):
    """The end of the /* comment */ at pos; they nest."""
    depth = 0
    for m in re.finditer(r"/\*|\*/", text[pos:]):
        depth += 1 if m.group() == "/*" else -1
        if depth == 0:
            return pos + m.end()
    raise SqlError("a /* comment is not closed")


def clean(text):
    """Returns the statement without comments and final semicolon, and its number of parameters."""
    out, params, pos, semicolons = [], set(), 0, 0
    while True:
        m = TOKEN.search(text, pos)
        if m is None:
            break
        between = text[pos : m.start()]
        check_rest(between)
        if semicolons and between.strip():
            raise SqlError("more than one statement")
        out.append(between)
        pos = m.end()
        kind = m.lastgroup if m.lastgroup not in ("tag", "num") else None
        if m.group("line") is not None:
            continue
        if kind == "open":
            pos = skip_block_comment(text, m.start())
            out.append(" ")
            continue
        if kind == "semi":
            semicolons += 1
            if semicolons > 1:
                raise SqlError("more than one statement")
            continue
        if semicolons:
            raise SqlError("more than one statement")
        if m.group("param") is not None:
            params.add(int(m.group("num")))
        out.append(m.group())
    check_rest(text[pos:])
    if semicolons and text[pos:].strip():
        raise SqlError("more than one statement")
    out.append(text[pos:])
    lines = [line.rstrip() for line in "".join(out).split("\n")]
    sql = "\n".join(line for line in lines if line)
    if not sql.strip():
        raise SqlError("no statement")
    missing = set(range(1, max(params, default=0) + 1)) - params
    if missing or 0 in params:
        raise SqlError("parameter $%d is not used" % (min(missing) if missing else 0))
    return sql, len(params)


def check_rest(text):
    """Text between tokens holds no quote: one that is left was never closed."""
    for quote in "'\"":
        if quote in text:
            raise SqlError("a %s is not closed" % quote)
    if "$$" in text:
        raise SqlError("a $$ is not closed")


def parse(path):
    """[(name, sql, n_params)] of one file, in its order."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    blocks, current = [], None
    for number, line in enumerate(lines, 1):
        m = NAME_LINE.match(line)
        if m:
            if not NAME.match(m.group(1)):
                raise SqlError(f"{path}:{number}: '{m.group(1)}' is not a name")
            current = (m.group(1), number, [])
            blocks.append(current)
        elif current is not None:
            current[2].append(line)
        elif line.strip() and not line.lstrip().startswith("--"):
            raise SqlError(f"{path}:{number}: text before the first '-- name:'")
    statements, seen = [], {}
    for name, number, body in blocks:
        if name.upper() in seen:
            first = seen[name.upper()]
            raise SqlError(f"{path}:{number}: '{name}' is named twice, first at line {first}")
        seen[name.upper()] = number
        try:
            statements.append((name, *clean("\n".join(body))))
        except SqlError as e:
            raise SqlError(f"{path}:{number}: {name}: {e}") from None
    return statements


def c_string(text, indent="        "):
    escaped = [
        line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?").replace("\t", "\\t")
        for line in text.split("\n")
    ]
    return "\n".join(
        f'{indent}"{line}{chr(92) + "n" if i + 1 < len(escaped) else ""}"'
        for i, line in enumerate(escaped)
    )


def header(path):
    out = [
        "/* SPDX-License-Identifier: Apache-2.0 */",
        f"/* Made by sqlgen.py from {os.path.basename(path)}; do not edit. */",
        "#pragma once",
        "",
        '#include "db/db.h"',
    ]
    for name, sql, n in parse(path):
        out += [
            "",
            f"__attribute__((unused)) static const struct db_stmt SQL_{name.upper()} = {{",
            f'        "{name}",',
            c_string(sql) + ",",
            f"        {n},",
            "};",
        ]
    return "\n".join(out) + "\n"


def table(paths):
    """The C file and the header of the table of all statements."""
    seen, files, names = {}, {}, []
    for path in sorted(paths):
        base = os.path.basename(path)
        if base in files:
            raise SqlError(f"{path}: {files[base]} has the same file name")
        files[base] = path
        for name, _, _ in parse(path):
            if name.upper() in seen:
                raise SqlError(f"{path}: '{name}' is also named in {seen[name.upper()]}")
            seen[name.upper()] = path
            names.append(name)
    top = ["/* SPDX-License-Identifier: Apache-2.0 */", "/* Made by sqlgen.py; do not edit. */"]
    c = top + ['#include "gen/all_statements.h"', ""]
    c += [f'#include "gen/{base}.h"' for base in sorted(files)]
    c += ["", "const struct db_stmt *const gen_all_statements[] = {"]
    c += [f"        &SQL_{name.upper()}," for name in names]
    c += ["        NULL,", "};", "", f"const unsigned gen_n_all_statements = {len(names)};"]
    h = top + [
        "#pragma once",
        "",
        '#include "db/db.h"',
        "",
        "/* Every statement of every .sql file; NULL ends the table. */",
        "extern const struct db_stmt *const gen_all_statements[];",
        "extern const unsigned gen_n_all_statements;",
    ]
    return "\n".join(c) + "\n", "\n".join(h) + "\n"


def write(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def main(argv):
    try:
        if len(argv) == 3 and argv[0] == "header":
            write(argv[2], header(argv[1]))
        elif len(argv) >= 3 and argv[0] == "table":
            c, h = table(argv[3:])
            write(argv[1], c)
            write(argv[2], h)
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except (SqlError, OSError) as e:
        print(f"sqlgen: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
