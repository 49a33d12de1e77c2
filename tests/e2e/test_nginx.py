# SPDX-License-Identifier: Apache-2.0
"""deploy/nginx/mlctl.conf: TLS in front, and models of any size through it, never kept by nginx."""
import hashlib
import os
import pathlib
import shutil
import socket
import subprocess

import pytest
import requests

from support import process

ROOT = pathlib.Path(__file__).resolve().parents[2]
NGINX = "/usr/sbin/nginx"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@pytest.fixture
def proxy(server, tmp_path):
    """(URL, certificate) of an nginx with our snippet, its names and ports replaced."""
    if not os.access(NGINX, os.X_OK):
        pytest.skip("nginx is not installed")
    crt, key, port = tmp_path / "mlctl.crt", tmp_path / "mlctl.key", free_port()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", crt],
                   check=True, capture_output=True)
    text = (ROOT / "deploy/nginx/mlctl.conf").read_text(encoding="utf-8")
    for old, new in (("127.0.0.1:8080", server.url.removeprefix("http://")),
                     ("listen 443", f"listen 127.0.0.1:{port}"),
                     ("models.example", "localhost"),
                     ("/etc/nginx/mlctl.crt", str(crt)), ("/etc/nginx/mlctl.key", str(key))):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tmp_path / "snippet.conf").write_text(text, encoding="utf-8")
    temp = "\n".join(f"{name}_temp_path {tmp_path}/t-{name};" for name in
                     ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {tmp_path}/pid;\nerror_log stderr warn;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temp}\ninclude {tmp_path}/snippet.conf;\n}}\n",
        encoding="utf-8")
    with open(tmp_path / "nginx.log", "wb") as log, \
            subprocess.Popen([NGINX, "-c", tmp_path / "nginx.conf", "-p", tmp_path],
                             stdout=log, stderr=log) as child:
        try:
            process.wait_until(lambda: up(port) or child.poll() is not None, 20, "nginx listens")
            assert child.poll() is None, (tmp_path / "nginx.log").read_text()
            yield f"https://localhost:{port}", crt
        finally:
            child.terminate()


def up(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def test_models_of_any_size_pass(proxy, user, tmp_path):
    url, crt = proxy
    who = user("contributor@proxied")
    one = requests.Session()
    one.trust_env = False
    one.verify = str(crt)
    one.headers["Authorization"] = f"Bearer {who.http.token}"
    assert one.get(f"{url}/readyz").json() == {"status": "ready"}
    data = os.urandom(5_000_000)  # above nginx's default of 1 MiB
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    started = one.post(f"{url}/v2/proxied/model/blobs/uploads/")
    assert started.status_code == 202
    done = one.put(url + started.headers["Location"], params={"digest": digest}, data=data)
    assert done.status_code == 201, done.text
    assert one.get(f"{url}/v2/proxied/model/blobs/{digest}").content == data
    # nothing of it lay on nginx's disk, and mlctld's own refusals come through
    kept = [p for p in tmp_path.glob("t-*/**/*") if p.is_file()]
    assert not kept
    refused = one.post(f"{url}/api/v1/tokens", json={"roles": ["x"] * 400_000})
    assert refused.status_code == 413
    assert refused.headers["Content-Type"] == "application/problem+json"


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_an_oci_client_pushes_through_it(proxy, user, tmp_path):
    url, crt = proxy
    who = user("contributor@proxied")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.bin").write_bytes(os.urandom(3_000_000))
    who.run("push", "proxied/model", tmp_path / "model")
    (tmp_path / "ca").mkdir()
    shutil.copy(crt, tmp_path / "ca/ca.crt")
    host = url.removeprefix("https://")
    creds = f"any:{who.http.token}"
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--src-cert-dir", tmp_path / "ca",
                    "--dest-cert-dir", tmp_path / "ca", "--src-creds", creds, "--dest-creds", creds,
                    f"docker://{host}/proxied/model:v1", f"docker://{host}/proxied/copy:v1"],
                   check=True, capture_output=True, timeout=120)
    assert who.json("show", "proxied/copy:1")["digest"] == \
        who.json("show", "proxied/model:1")["digest"]
