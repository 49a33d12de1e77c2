# SPDX-License-Identifier: Apache-2.0
"""The OCI distribution API as the tests speak it."""
import hashlib
import json

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
MODEL = "application/vnd.cncf.model.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(data, media_type="application/octet-stream", **more):
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def manifest(config=b"{}", layers=(), **more):
    """Bytes of an artifact manifest; layers are bytes or descriptors."""
    weight = "application/vnd.cncf.model.weight.v1.raw"
    layers = [x if isinstance(x, dict) else descriptor(x, weight) for x in layers]
    doc = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": MODEL,
           "config": descriptor(config, EMPTY), "layers": layers, **more}
    return json.dumps(doc).encode()


class Repository:
    """Repository(client, "ns/model"): the endpoints below /v2/ns/model."""

    def __init__(self, http, name):
        self.http = http
        self.name = name
        self.base = f"/v2/{name}"

    def start(self, status=202, **query):
        reply = self.http.post(f"{self.base}/blobs/uploads/", params=query)
        assert reply.status_code == status, reply.text
        return reply.headers["Location"]

    def patch(self, location, data, first=None, status=202):
        headers = {"Content-Type": "application/octet-stream"}
        if first is not None:
            headers["Content-Range"] = f"{first}-{first + len(data) - 1}"
        reply = self.http.patch(location, data=data, headers=headers)
        assert reply.status_code == status, reply.text
        return reply

    def finish(self, location, name, data=b"", status=201, headers=None):
        reply = self.http.put(location, params={"digest": name}, data=data, headers=headers)
        assert reply.status_code == status, reply.text
        return reply

    def offset(self, location):
        reply = self.http.get(location)
        assert reply.status_code == 204, reply.text
        return int(reply.headers["Upload-Offset"])

    def push(self, data):
        """POST and PUT; the digest."""
        self.finish(self.start(), digest(data), data)
        return digest(data)

    def get(self, name, status=200, **headers):
        reply = self.http.get(f"{self.base}/blobs/{name}", headers=headers)
        assert reply.status_code == status, reply.text
        return reply

    def has(self, name):
        return self.http.head(f"{self.base}/blobs/{name}").status_code == 200

    def put_manifest(self, reference, data, status=201, media_type=MANIFEST):
        headers = {"Content-Type": media_type} if media_type else {}
        reply = self.http.put(f"{self.base}/manifests/{reference}", data=data, headers=headers)
        assert reply.status_code == status, reply.text
        return reply

    def push_model(self, reference, *layers, **more):
        """A model of these layers under a tag; the manifest's bytes."""
        for data in (b"{}", *layers):
            self.push(data)
        data = manifest(layers=layers, **more)
        self.put_manifest(reference, data)
        return data

    def get_manifest(self, reference, status=200):
        reply = self.http.get(f"{self.base}/manifests/{reference}")
        assert reply.status_code == status, reply.text
        return reply


def code(reply):
    """The code of an errors document."""
    assert reply.headers["Content-Type"] == "application/json", reply.headers
    (error,) = reply.json()["errors"]
    return error["code"]
