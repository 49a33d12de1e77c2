# SPDX-License-Identifier: Apache-2.0
"""A second verifier of the log: RFC 6962 hashing, C2SP tlog-tiles, checkpoint and signed note.

Written from the specifications and shares nothing with lib/tlog. It reads a log directory, so it
sees what is on disk rather than what a server says.
"""
import base64
import hashlib
import json
import pathlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256
ED25519 = 1


class Wrong(Exception):
    """The log does not hold what it claims."""


class Missing(Wrong):
    """A file that the checkpoint needs is not there."""


def leaf_hash(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root(hashes):
    """MTH over leaf hashes."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    level = list(hashes)
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [node_hash(*level[i:i + 2]) for i in range(0, len(level) - 1, 2)] + odd
    return level[0]


def tile_path(level, index, width):
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    partial = f".p/{width}" if width < WIDTH else ""
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def tiles(size):
    """(level, index, width) of every tile of a tree of this size."""
    level = 0
    while size >> (8 * level):
        count = size >> (8 * level)
        for index in range((count + WIDTH - 1) // WIDTH):
            yield level, index, min(WIDTH, count - index * WIDTH)
        level += 1


class Key:
    """A verifier key: NAME+HEX8+BASE64(type ‖ public key)."""

    def __init__(self, text):
        self.name, key_id, data = text.strip().split("+", 2)
        data = base64.b64decode(data, validate=True)
        self.id = bytes.fromhex(key_id)
        wanted = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        if data[0] != ED25519 or len(data) != 33 or self.id != wanted:
            raise Wrong("not a verifier key")
        self.public = Ed25519PublicKey.from_public_bytes(data[1:])


def open_note(note, key):
    """The text of a signed note that this key signed."""
    text, signatures = note.rsplit(b"\n\n", 1)
    text += b"\n"
    found = 0
    for line in signatures.splitlines():
        dash, name, blob = line.decode().split(" ")
        blob = base64.b64decode(blob, validate=True)
        if dash != "—":
            raise Wrong("not a signature line")
        if name == key.name and blob[:4] == key.id:
            try:
                key.public.verify(blob[4:], text)
            except InvalidSignature:
                raise Wrong("the signature of the checkpoint is false") from None
            found += 1
    if not found:
        raise Wrong("the checkpoint is not signed by the log's key")
    return text.decode()


def checkpoint(note, key):
    """(size, root hash) of a signed checkpoint."""
    origin, size, digest, *more = open_note(note, key).splitlines()
    if origin != key.name or str(int(size)) != size or more:
        raise Wrong("not a checkpoint of this log")
    return int(size), base64.b64decode(digest, validate=True)


def entries_of(bundle, width):
    found = []
    while bundle:
        size = int.from_bytes(bundle[:2], "big")
        if len(bundle) < 2 + size:
            raise Wrong("a bundle is cut off")
        found.append(bundle[2:2 + size])
        bundle = bundle[2 + size:]
    if len(found) != width:
        raise Wrong(f"a bundle has {len(found)} entries, {width} expected")
    return found


def _read(directory, path):
    try:
        return (directory / path).read_bytes()
    except FileNotFoundError:
        raise Missing(f"{path} is missing") from None


class Log:
    """Log(DIR/log, vkey): everything below it is read and re-derived; `entries` are decoded."""

    def __init__(self, directory, vkey):
        directory = pathlib.Path(directory)
        key = Key(vkey)
        self.size, self.root = checkpoint(_read(directory, "checkpoint"), key)
        raw = []
        for level, index, width in tiles(self.size):
            if level == 0:
                bundle = _read(directory, tile_path("entries", index, width))
                raw += entries_of(bundle, width)
        self.hashes = [leaf_hash(entry) for entry in raw]
        if root(self.hashes) != self.root:
            raise Wrong("the entries do not give the root of the checkpoint")
        for level, index, width in tiles(self.size):
            under = WIDTH ** level
            first = index * WIDTH * under
            wanted = b"".join(root(self.hashes[first + i * under:first + (i + 1) * under])
                              for i in range(width))
            if _read(directory, tile_path(level, index, width)) != wanted:
                raise Wrong(f"the tile {tile_path(level, index, width)} is wrong")
        self.entries = [json.loads(entry) for entry in raw]

    def of(self, action, **members):
        """The entries of this action whose members are these."""
        return [e for e in self.entries if e["action"] == action
                and all(e.get(k) == v for k, v in members.items())]

    def includes(self, older):
        """Fails unless this log is `older` or a continuation of it."""
        if older.size > self.size or root(self.hashes[:older.size]) != older.root:
            raise Wrong(f"the log of {older.size} entries is no prefix of that of {self.size}")
