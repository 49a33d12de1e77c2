# SPDX-License-Identifier: Apache-2.0
import pytest

from support import junit


def write(path, *cases):
    junit.write(path, "s", [junit.Case(name, status, 1.0, text) for name, status, text in cases])


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def test_sum_counts_and_shows_the_tail(tmp_path, capsys):
    write(tmp_path / "unit-a.xml", ("a", "passed", ""), ("b", "skipped", "no disk"))
    write(tmp_path / "api-b.xml", ("c", "failed", "\n".join(f"line {i}" for i in range(100))))
    assert junit.main(["sum", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "1 passed, 1 failed, 1 skipped"
    assert "line 99" in out and "line 40\n" in out and "line 39\n" not in out


def test_nothing_passed_is_a_failure(tmp_path, capsys):
    assert junit.main(["sum", str(tmp_path)]) == 1
    assert last_line(capsys) == "0 passed, 0 failed, 0 skipped"
    write(tmp_path / "unit-a.xml", ("a", "passed", ""))
    assert junit.main(["sum", str(tmp_path)]) == 0


def test_unreadable_report_fails(tmp_path, capsys):
    write(tmp_path / "unit-a.xml", ("a", "passed", ""))
    (tmp_path / "unit-b.xml").write_text("<testsuite><testcase")
    assert junit.main(["sum", str(tmp_path)]) == 1
    assert last_line(capsys) == "1 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("rc, report, failed", [
    (0, "passed", 0), (1, "failed", 1), (1, "passed", 2), (139, "passed", 2), (124, "failed", 2),
    (0, None, 1), (5, None, 0),
])
def test_a_runner_that_died_counts(tmp_path, capsys, rc, report, failed):
    xml, log = tmp_path / "unit-x.xml", tmp_path / "log"
    log.write_text("Segmentation\x00 \x1b[31mfault")
    write(tmp_path / "unit-other.xml", ("o", "passed", ""))
    if report:
        write(xml, ("a", report, "text"))
    junit.main(["check", str(xml), "unit", "x", str(rc), "1", str(log)])
    assert junit.main(["sum", str(tmp_path)]) == (1 if failed else 0)
    assert f"{min(failed, 1) + (rc == 124)} failed" in last_line(capsys)


@pytest.mark.parametrize("body, status", [
    ('<testcase name="t" status="run"/>', "passed"),
    ('<testcase name="t" status="fail"><failure message=""/><system-out>x</system-out></testcase>',
     "failed"),
    ('<testcase name="t" status="notrun"><skipped message="Unable to find executable"/></testcase>',
     "failed"),
    ('<testcase name="t" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>',
     "skipped"),
    ('<testcase name="t" status="disabled"/>', "skipped"),
])
def test_what_ctest_writes(tmp_path, body, status):
    path = tmp_path / "t.xml"
    path.write_text(f"<testsuite>{body}</testsuite>")
    assert junit.read(path)[0].status == status
