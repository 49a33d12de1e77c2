# SPDX-License-Identifier: Apache-2.0
"""Rules that ask a tool: clang-format, shellcheck, the compiler."""
import concurrent.futures
import difflib
import json
import os
import shlex
import shutil
import subprocess

JOBS = max(2, min(4, os.cpu_count() or 2))


def _each(files, work):
    """The findings of work(file) for all files, in order, a few at a time."""
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for found in pool.map(work, files):
            yield from found


def _need(tool):
    if shutil.which(tool) is None:
        raise RuntimeError(f"{tool} is not installed: deploy/install-deps --dev")
    return tool


def clang_format(tree):
    tool = _need("clang-format-14")

    def work(f):
        done = subprocess.run([tool, "--style=file", f.path], cwd=tree.root, capture_output=True,
                              text=True, check=False)
        if done.returncode:
            return [f"{f.path}:1: clang-format: {done.stderr.strip()}"]
        if done.stdout == f.text:
            return []
        diff = difflib.unified_diff(f.lines, done.stdout.splitlines(), lineterm="", n=0)
        at = next((d for d in diff if d.startswith("@@")), "@@ -1").split()[1]
        where = at.lstrip("-").split(",")[0]
        return [f"{f.path}:{where}: clang-format-14 would change it"]

    return _each(tree.c(), work)


def shellcheck(tree):
    tool = _need("shellcheck")

    def work(f):
        done = subprocess.run([tool, "-x", "-f", "gcc", f.path], cwd=tree.root, capture_output=True,
                              text=True, check=False)
        return done.stdout.splitlines() or ([done.stderr] if done.returncode else [])

    return _each(tree.of("sh"), work)


def _flags(tree):
    """{folder: compiler arguments} of some file there, from compile_commands.json."""
    flags = {}
    if tree.build is None:
        return flags
    path = tree.build / "compile_commands.json"
    if not path.exists():
        raise RuntimeError(f"{path} is missing: cmake --preset asan")
    root = tree.root.resolve()
    for entry in json.loads(path.read_text(encoding="utf-8")):
        words = shlex.split(entry["command"])
        kept, skip = [], False
        for word in words[1:]:
            if skip or word in ("-o", "-c"):
                skip = not skip
                continue
            kept.append(word)
        source = os.path.realpath(entry["file"])
        folder = os.path.relpath(os.path.dirname(source), root)
        flags[folder] = (words[0], kept)
    return flags


def headers(tree):
    """Each header compiles alone, with the flags of its folder's (or a parent's) sources."""
    flags = _flags(tree)

    def nearest(folder):
        while folder:
            if folder in flags:
                return flags[folder]
            folder = os.path.dirname(folder)
        # include/ and folders without sources yet: any file of the same half of the tree
        return None

    def work(f):
        top = f.parts[0]
        some = nearest(os.path.dirname(f.path)) or next(
            (v for k, v in sorted(flags.items()) if k.split("/")[0] == top), None) or next(
            iter(flags.values()), ("gcc", ["-std=gnu17", "-D_GNU_SOURCE", "-Iinclude", "-Ilib",
                                           "-Iserver"]))
        compiler, args = some
        # as a source that includes it twice, so that the guard is proven too
        text = f'#include "{f.path}"\n' * 2
        done = subprocess.run(
            [compiler, *args, "-I", str(tree.root.resolve()), "-fsyntax-only", "-x", "c", "-"],
            cwd=tree.root, input=text, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return []
        first = next((line for line in done.stderr.splitlines() if "error" in line), "?")
        return [f"{f.path}:1: does not compile alone: {first}"]

    return _each([f for f in tree.of("h") if f.parts[0] != "tests"], work)


ALL = [clang_format, shellcheck, headers]
