#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""coverage.py SUMMARY: gcovr's JSON summary as a Markdown table by folder."""
import json
import pathlib
import sys


def folder(path):
    """lib/base/str.c → lib/base; server/doors/oci/x.c → server/doors/oci; server/app.c → server."""
    return str(pathlib.PurePosixPath(path).parent)


def table(summary):
    sums = {}
    for file in summary["files"]:
        for name in (folder(file["filename"]), "all"):
            one = sums.setdefault(name, [0, 0, 0, 0])
            for i, key in enumerate(("line_covered", "line_total", "branch_covered",
                                     "branch_total")):
                one[i] += file[key]
    rows = ["| folder | lines | covered | branches | covered |", "|---|---:|---:|---:|---:|"]
    for name in sorted(sums, key=lambda n: (n == "all", n)):
        lines, of, branches, of_branches = sums[name]
        rows.append(f"| {name} | {of} | {percent(lines, of)} | {of_branches} | "
                    f"{percent(branches, of_branches)} |")
    return "\n".join(rows)


def percent(part, of):
    return f"{100 * part / of:.1f} %" if of else "–"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        print(table(json.load(f)))
