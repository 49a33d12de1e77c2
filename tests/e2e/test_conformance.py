# SPDX-License-Identifier: Apache-2.0
"""The conformance tests of the OCI distribution specification, run against /v2/."""
import os
import subprocess
import xml.etree.ElementTree

import pytest

from support import golang

SUITE = ("github.com/opencontainers/distribution-spec/conformance"
         "@v0.0.0-20260831232431-97274622c111")


@pytest.mark.timeout(1100)
def test_oci_distribution_1_1(server, user, tmp_path):
    program = golang.build("conformance", SUITE)
    namespace = "conf-" + os.urandom(4).hex()
    person = user(f"contributor@{namespace}")
    done = subprocess.run(
        [program], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OCI_VERSION": "1.1",
             "OCI_REGISTRY": server.url.removeprefix("http://"), "OCI_TLS": "disabled",
             "OCI_REPO1": f"{namespace}/one", "OCI_REPO2": f"{namespace}/two",
             "OCI_USERNAME": "anyone", "OCI_PASSWORD": person.http.token,
             "OCI_API_BLOBS_UPLOAD_CANCEL": "true", "OCI_API_BLOBS_DIGEST_HEADER": "true",
             "OCI_API_MANIFESTS_DIGEST_HEADER": "true",
             "OCI_DATA_SHA512": "false",  # optional in the specification, and not stored here
             "OCI_RESULTS_DIR": str(tmp_path / "results")})
    report = done.stdout + done.stderr
    assert done.returncode == 0, report[-20000:]
    assert "OCI Conformance Result: Pass" in report
    cases = list(xml.etree.ElementTree.parse(tmp_path / "results" / "junit.xml").iter("testcase"))
    skipped = {c.get("name") for c in cases if c.find("skipped") is not None}
    assert len(cases) - len(skipped) > 200, report[-4000:]
    for name in skipped:  # 405: nothing is deleted
        assert "delete" in name, f"{name} was skipped"
