# SPDX-License-Identifier: Apache-2.0
"""Rules that only read text. Each takes a Tree and yields findings "path:line: what"."""
import hashlib
import os
import re

from tree import TOKEN

LINES_MAX = 800
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 5
COLUMNS_MAX = {"c": 100, "h": 100, "py": 100, "sh": 100, "sql": 120}
README_LINES_MAX = 40
SPDX = "SPDX-License-Identifier: Apache-2.0"

# third-party headers and the folders that own them
OWNED = [
    (r"openssl/", ["lib/crypto/"]),
    (r"jansson\.h", ["lib/codec/"]),
    (r"curl/", ["lib/client/"]),
    (r"archive(_entry)?\.h", ["lib/archive/"]),
    (r"zlib\.h", ["lib/format/"]),
    (r"microhttpd\.h", ["server/http/"]),
    (r"(postgresql/)?(libpq-fe|libpq/.*|pg_config|postgres_ext)\.h", ["server/db/"]),
    (r"git2(\.h|/)", ["server/git/"]),
    (r"(libsmartcols/)?libsmartcols\.h", ["cli/"]),
    (r"libfyaml\.h", ["lib/codec/"]),
    (r"systemd/", ["server/"]),
    (r"sys/capability\.h", ["server/"]),
    (r"cmocka\.h", ["tests/"]),
]

# the words stand apart here so that this file passes its own rule
LEFTOVER = re.compile(r"\b(?:" + "TO" "DO|FIX" "ME|X" "XX|HA" "CK" + r")\b")
FOREIGN = re.compile(r"(?<![\w.])/wo" "rk/|/tmp/bash" "_jobs")
# in capitals where plain prose has the same words ("select a key from the list")
SQL = re.compile(r"\bSELECT\b.*\bFROM\b|\bUPDATE\b.*\bSET\b|\b(?i:INSERT\s+INTO|DELETE\s+FROM)\b",
                 re.S)
NAMED = {"Makefile", "CMakeLists.txt"}
NO_SPDX = {"md", "json", "golden", "txt", "pub", "sig", "lock"}


def sizes(tree):
    for f in tree.of("c", "h", "py", "sh"):
        if len(f.lines) > LINES_MAX:
            yield f"{f.path}:{len(f.lines)}: more than {LINES_MAX} lines"


def columns(tree):
    for f in tree.of(*COLUMNS_MAX):
        for number, line in enumerate(f.lines, 1):
            width = len(line.expandtabs(8))
            if width > COLUMNS_MAX[f.kind]:
                yield f"{f.path}:{number}: {width} columns, at most {COLUMNS_MAX[f.kind]}"


def spdx(tree):
    for f in tree.files:
        name = f.parts[-1]
        if f.kind in NO_SPDX or (not f.kind and name not in NAMED) or not f.text:
            continue
        if not any(SPDX in line for line in f.lines[:2]):
            yield f"{f.path}:1: no line \"{SPDX}\""


def leftovers(tree):
    for f in tree.files:
        for number, line in enumerate(f.lines, 1):
            match = LEFTOVER.search(line)
            if match:
                yield f"{f.path}:{number}: leftover {match.group(0)}"


def foreign_words(tree):
    for f in tree.files:
        for number, line in enumerate(f.lines, 1):
            match = FOREIGN.search(line)
            if match:
                yield f"{f.path}:{number}: {match.group(0)!r} does not belong in the tree"


def _without_macros(f):
    """f.code without preprocessor lines and their continuations: they hold half blocks."""
    return re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), f.code,
                  flags=re.M)


def _parameters(text):
    """How many parameters stand between the outer parentheses of text. "...", the source position
    that a macro passes on, and what every function carries along (the context in front, the error
    at the end) do not count; neither do callbacks whose shape libmicrohttpd dictates."""
    if "struct MHD_Connection *" in text:
        return 0
    text = re.sub(r"^\s*struct mlc_ctx \*\w+\s*,", "", text)
    text = re.sub(r",\s*struct mlc_err \*\w+\s*$", "", text)
    text = re.sub(r",\s*\.\.\.\s*$", "", text)
    text = re.sub(r"\bconst char \*file,\s*int line\b(?:\s*,)?", "", text).rstrip(", \n")
    depth, count = 0, 1
    for c in text:
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            count += 1
    return 0 if text.strip() in ("", "void") else count


def _closing(text, start):
    """Index of the bracket that closes the one at start, or -1."""
    pairs = {"(": ")", "{": "}"}
    opening, closing, depth = text[start], pairs[text[start]], 0
    for i in range(start, len(text)):
        if text[i] == opening:
            depth += 1
        elif text[i] == closing:
            depth -= 1
            if depth == 0:
                return i
    return -1


def functions(f):
    """(name, line, lines, parameters) of each function defined in a C file."""
    code = _without_macros(f)
    at = 0
    head = re.compile(r"^(?=[A-Za-z_])(?:[^;{}()=]|\n)*?\b(\w+)\s*(\()", re.M)
    while True:
        match = head.search(code, at)
        if not match:
            return
        close = _closing(code, match.start(2))
        if close < 0:
            return
        rest = re.match(r"(?:\s|__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)|"
                        r"\b[A-Z_]+\b(?:\([^()]*\))?)*\{",
                        code[close + 1:], re.S)
        if not rest:
            at = close + 1
            continue
        brace = close + rest.end()
        end = _closing(code, brace)
        if end < 0:
            return
        first = code.count("\n", 0, match.start()) + 1
        last = code.count("\n", 0, end) + 1
        yield match.group(1), first, last - first + 1, _parameters(code[match.end(2):close])
        at = end + 1


def function_sizes(tree):
    for f in tree.c():
        for name, line, length, _ in functions(f):
            if length > FUNCTION_LINES_MAX:
                yield f"{f.path}:{line}: {name} has {length} lines, at most {FUNCTION_LINES_MAX}"


# a library calls these, and says with what
FOREIGN_SIGNATURES = {("server/http/conn.c", "on_request")}  # MHD_AccessHandlerCallback


def parameters(tree):
    for f in tree.c():
        for name, line, _, count in functions(f):
            if count > PARAMETERS_MAX and (f.path, name) not in FOREIGN_SIGNATURES:
                yield f"{f.path}:{line}: {name} takes {count} parameters, at most {PARAMETERS_MAX}"
        if f.kind == "h":  # prototypes
            code = _without_macros(f)
            for match in re.finditer(r"^(?!})[^;{}()=]*?\b(\w+)\s*\(", code, re.M):
                close = _closing(code, match.end() - 1)
                if close < 0 or not re.match(r"[^{}=]*?;", code[close + 1:]):
                    continue
                count = _parameters(code[match.end():close])
                if count > PARAMETERS_MAX:
                    line = code.count("\n", 0, match.start(1)) + 1
                    yield (f"{f.path}:{line}: {match.group(1)} takes {count} parameters, "
                           f"at most {PARAMETERS_MAX}")


def _target(tree, f, kind, path):
    """Which file of the tree an #include means, or None for headers from outside."""
    places = ["include", "lib", "server"]
    if kind == '"':
        places.insert(0, os.path.dirname(f.path))
    for place in places:
        candidate = os.path.normpath(os.path.join(place, path))
        if (tree.root / candidate).is_file():
            return candidate
    return None


def capability(path):
    """server/registry/x.c → registry; server/doors/oci/x.c → doors/oci; else None."""
    parts = path.split("/")
    if parts[0] != "server" or len(parts) < 3:
        return None
    if parts[1] == "doors":
        return "/".join(parts[1:3]) if len(parts) > 3 else None
    return parts[1]


def layers(tree):
    for f in tree.c():
        here = f.parts[0]
        for line, kind, path in f.includes:
            target = _target(tree, f, kind, path)
            there = (target or path).split("/")[0]
            if here == "lib" and there in ("server", "cli"):
                yield f"{f.path}:{line}: lib knows neither server nor cli: \"{path}\""
            elif here == "cli" and there == "server":
                yield f"{f.path}:{line}: cli does not know the server: \"{path}\""
            elif here == "server" and there == "cli":
                yield f"{f.path}:{line}: server does not know the command line: \"{path}\""
            elif here == "include" and target and there != "include" and "base/" not in target:
                yield f"{f.path}:{line}: public headers stand alone: \"{path}\""
            elif here == "server" and there == "server" and target:
                yield from _capability_edge(f, line, target)


def _capability_edge(f, line, target):
    mine, other = capability(f.path), capability(target)
    if mine is None or other is None or mine == other:
        return  # main.c and app.c wire everything
    if target != f"server/{other}/{other.rsplit('/', maxsplit=1)[-1]}.h":
        yield f"{f.path}:{line}: only the public header of {other} is for others, not {target}"


def third_party(tree):
    for f in tree.c():
        for line, kind, path in f.includes:
            for pattern, owners in OWNED:
                if re.match(pattern + r"\Z" if pattern.endswith(r"\.h") else pattern, path) and \
                        _target(tree, f, kind, path) is None and \
                        not any(f.path.startswith(owner) for owner in [*owners, "tests/"]):
                    yield f"{f.path}:{line}: <{path}> belongs to {' and '.join(owners)}"


def sql_in_c(tree):
    for f in tree.of("c"):
        if f.parts[0] == "tests":
            continue
        # adjacent literals are one string
        for match in re.finditer(r'(?:"(?:\\.|[^"\\\n])*"\s*)+', _no_comments(f)):
            literal = "".join(re.findall(r'"((?:\\.|[^"\\\n])*)"', match.group(0)))
            if SQL.search(literal):
                line = _no_comments(f).count("\n", 0, match.start()) + 1
                yield f"{f.path}:{line}: SQL belongs in a .sql file: \"{literal[:50]}\""


def _no_comments(f):
    return TOKEN.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)) if m.lastgroup == "comment"
                     else m.group(0), f.text)


def readmes(tree):
    paths = {f.path: f for f in tree.files}
    for f in tree.of("h"):
        folder = capability(f.path)
        if folder is None or f.path != f"server/{folder}/{folder.rsplit('/', maxsplit=1)[-1]}.h":
            continue
        readme = f"server/{folder}/README.md"
        if readme not in paths:
            yield f"{readme}:1: missing: which tables it owns, invariants, limits, whom it trusts"
        elif len(paths[readme].lines) > README_LINES_MAX:
            yield f"{readme}:1: {len(paths[readme].lines)} lines, at most {README_LINES_MAX}"


def anchor(heading):
    """As GitHub makes them."""
    text = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def links(tree):
    for f in tree.of("md"):
        fenced = False
        for number, line in enumerate(f.lines, 1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
            if fenced:
                continue
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
                yield from _link(tree, f, number, target)


def _link(tree, f, number, target):
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return
    path, _, fragment = target.partition("#")
    full = os.path.normpath(os.path.join(os.path.dirname(f.path), path)) if path else f.path
    if full.startswith("..") or not (tree.root / full).exists():
        yield f"{f.path}:{number}: broken link {target}"
    elif fragment and full.endswith(".md"):
        text = (tree.root / full).read_text(encoding="utf-8")
        if fragment not in map(anchor, re.findall(r"^#+ +(.*)$", text, re.M)):
            yield f"{f.path}:{number}: no heading for {target}"


CLEANED = re.compile(r"^[ \t]*_cleanup_\(\w+\)\s+[\w ]*?\**(\w+)(?:\[\w*\])?;", re.M)


def cleanups(tree):
    """A variable that is cleaned up without a value must get one before the first return."""
    for f in tree.c():
        for match in CLEANED.finditer(f.code):
            body = f.code[match.end():].split("\n}", maxsplit=1)[0]
            use = re.search(rf"\b{match.group(1)}\b", body)
            leave = re.search(r"\breturn\b", body)
            if not use or (leave and leave.start() < use.start()):
                line = f.code.count("\n", 0, match.start(1)) + 1
                yield f"{f.path}:{line}: {match.group(1)} is cleaned up before it has a value"


def migrations(tree):
    """What was published is applied somewhere already: it never changes (migrations/SHA256SUMS)."""
    sums = tree.root / "migrations/SHA256SUMS"
    if not sums.exists():
        return
    for number, line in enumerate(sums.read_text(encoding="utf-8").splitlines(), 1):
        digest, name = line.split()
        path = tree.root / "migrations" / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            yield f"migrations/SHA256SUMS:{number}: {name} was published: add a migration instead"


ALL = [migrations, sizes, columns, function_sizes, parameters, cleanups, spdx, layers,
       third_party, sql_in_c, leftovers, foreign_words, readmes, links]
