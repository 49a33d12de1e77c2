# SPDX-License-Identifier: Apache-2.0
"""The table of tests/coverage."""
from support.coverage import table


def file(name, *numbers):
    keys = ("line_covered", "line_total", "branch_covered", "branch_total")
    return {"filename": name, **dict(zip(keys, numbers))}


def test_table():
    shown = table({"files": [
        file("server/doors/oci/a.c", 1, 2, 0, 0), file("lib/base/a.c", 3, 4, 1, 8),
        file("lib/base/b.c", 4, 4, 1, 0), file("server/app.c", 0, 10, 0, 2)]})
    assert shown.split("\n")[2:] == [
        "| lib/base | 8 | 87.5 % | 8 | 25.0 % |",
        "| server | 10 | 0.0 % | 2 | 0.0 % |",
        "| server/doors/oci | 2 | 50.0 % | 0 | – |",
        "| all | 20 | 40.0 % | 10 | 20.0 % |"]
