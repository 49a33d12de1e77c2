#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""JUnit files as the one language between ctest, pytest, our own checkers and tests/run.

junit.py case XML SUITE NAME RC SECONDS LOG   write a file with one test from a command's exit code
junit.py check XML SUITE NAME RC SECONDS LOG  add a failure when a runner ended badly without saying
                                              which test it was (crash, time out, nothing written)
junit.py sum DIR                              print failures, a table per suite and the last line
"""
import collections
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

TAIL = 60
NO_TESTS = 5  # pytest's exit code when nothing was collected
Case = collections.namedtuple("Case", "name status seconds text")


def tail(text, lines=TAIL):
    return "\n".join(text.rstrip().splitlines()[-lines:])


def clean(text):
    """What XML 1.0 can hold: no control characters, no terminal colours."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def write(path, suite, cases):
    root = ET.Element("testsuite", name=suite, tests=str(len(cases)))
    for case in cases:
        node = ET.SubElement(root, "testcase", classname=suite, name=case.name,
                             time=f"{case.seconds:.3f}")
        if case.status != "passed":
            kind = "failure" if case.status == "failed" else "skipped"
            ET.SubElement(node, kind, message=clean(tail(case.text, 1))).text = clean(case.text)
    ET.ElementTree(root).write(path, encoding="unicode", xml_declaration=True)


def read_log(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def case_of(node):
    text = [child.text or child.get("message") or "" for child in node
            if child.tag in ("failure", "error", "system-out", "system-err")]
    bad = node.find("failure") is not None or node.find("error") is not None
    # ctest says "notrun" when a program is missing, and adds <skipped> too: that is no skip
    skip = node.find("skipped")
    if node.get("status") == "notrun" and not (skip is not None
                                               and "SKIP_" in skip.get("message", "")):
        bad, text = True, ["could not be run", *text]
    status = "failed" if bad else "skipped" if skip is not None else "passed"
    if node.get("status") == "disabled":
        status = "skipped"
    name = node.get("name") or "?"
    where = node.get("classname") or ""
    if where and where != name:
        name = f"{where}::{name}"
    return Case(name, status, float(node.get("time") or 0), "\n".join(text))


def read(path):
    return [case_of(node) for node in ET.parse(path).getroot().iter("testcase")]


def cmd_case(path, suite, name, rc, seconds, log):
    status = "passed" if int(rc) == 0 else "failed"
    text = "" if status == "passed" else f"{read_log(log)}\nexit status {rc}"
    write(path, suite, [Case(name, status, float(seconds), text)])


def cmd_check(path, suite, name, rc, seconds, log):
    """Leaves a good report alone; a runner that died gets a failed test with its log."""
    rc = int(rc)
    try:
        cases = read(path)
    except (OSError, ET.ParseError, AttributeError):
        cases = None
    if rc in (0, NO_TESTS) and (cases is not None or rc == NO_TESTS):
        return
    if cases and any(case.status == "failed" for case in cases) and rc < 124:
        return
    text = f"{read_log(log)}\nended with exit status {rc}" + (
        "" if cases is not None else " without a report")
    write(pathlib.Path(path).with_suffix(".runner.xml"), suite,
          [Case(f"{name} runner", "failed", float(seconds), text)])


def cmd_sum(directory):
    suites = {}
    for path in sorted(pathlib.Path(directory).glob("*.xml")):
        suite = path.name.split("-")[0].split(".")[0]
        try:
            suites.setdefault(suite, []).extend(read(path))
        except ET.ParseError as e:
            suites.setdefault(suite, []).append(Case(path.name, "failed", 0.0, f"unreadable: {e}"))
    for suite, cases in suites.items():
        for case in cases:
            if case.status == "failed":
                print(f"\n---- FAILED {suite}: {case.name}\n{tail(case.text)}")
    print()
    total = collections.Counter()
    for suite, cases in suites.items():
        count = collections.Counter(case.status for case in cases)
        total += count
        print(f"{suite:<12}{count['passed']:>6} passed{count['failed']:>6} failed"
              f"{count['skipped']:>6} skipped{sum(c.seconds for c in cases):>9.1f} s")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 0 if total["passed"] and not total["failed"] else 1


def main(argv):
    commands = {"case": (cmd_case, 6), "check": (cmd_check, 6), "sum": (cmd_sum, 1)}
    if not argv or argv[0] not in commands or len(argv) - 1 != commands[argv[0]][1]:
        print(__doc__, file=sys.stderr)
        return 2
    return commands[argv[0]][0](*argv[1:]) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
