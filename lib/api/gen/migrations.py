#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns migrations/NNNN_name.sql into a table of struct db_migration.

    migrations.py OUT.c 0001_a.sql 0002_b.sql…
"""
import hashlib
import os
import re
import sys

FILE = re.compile(r"^([0-9]{4})_([a-z][a-z0-9_]{0,58})\.sql$")
# a migration runs inside a transaction that is not its own
CONTROL = re.compile(
    r"^\s*(BEGIN|COMMIT|ROLLBACK|START\s+TRANSACTION|END)\s*;", re.IGNORECASE | re.MULTILINE
)
ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("?", "\\?"), ("\t", "\\t"), ("\r", "\\r"))


class MigrationError(Exception):
    pass


def read(paths):
    """[(version, name, sha256, text)] in ascending order."""
    found = {}
    for path in paths:
        m = FILE.match(os.path.basename(path))
        if not m or int(m.group(1)) == 0:
            raise MigrationError(f"{path}: not named NNNN_name.sql")
        version = int(m.group(1))
        if version in found:
            raise MigrationError(f"{path}: number {m.group(1)} is taken by {found[version][1]}")
        with open(path, "rb") as f:
            data = f.read()
        if b"\0" in data:
            raise MigrationError(f"{path}: has a NUL byte")
        text = data.decode("utf-8")
        body = re.sub(r"\$([A-Za-z_]*)\$.*?\$\1\$", "", text, flags=re.DOTALL)
        if CONTROL.search(body):
            raise MigrationError(f"{path}: begins or ends a transaction")
        found[version] = (version, m.group(2), hashlib.sha256(data).hexdigest(), text)
    return [found[v] for v in sorted(found)]


def c_string(text):
    out = []
    for line in text.split("\n"):
        for plain, escaped in ESCAPES:
            line = line.replace(plain, escaped)
        out.append(f'         "{line}\\n"')
    return "\n".join(out)


def render(migrations):
    out = [
        "/* SPDX-License-Identifier: Apache-2.0 */",
        "/* Made by migrations.py; do not edit. */",
        '#include "db/migrations.h"',
        "",
        "const struct db_migration gen_migrations[] = {",
    ]
    for version, name, digest, text in migrations:
        out += [f'        {{{version}, "{name}", "{digest}",', c_string(text) + "},"]
    out += ["        {0, 0, 0, 0},", "};", "", f"const int gen_n_migrations = {len(migrations)};"]
    return "\n".join(out) + "\n"


def main(argv):
    if not argv:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        text = render(read(argv[1:]))
        os.makedirs(os.path.dirname(argv[0]) or ".", exist_ok=True)
        with open(argv[0], "w", encoding="utf-8") as f:
            f.write(text)
    except (MigrationError, OSError, UnicodeDecodeError) as e:
        print(f"migrations: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
