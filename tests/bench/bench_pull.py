# SPDX-License-Identifier: Apache-2.0
"""One blob fetched by curl, from us and from nginx as a static file."""
import os

import bench_push
import rig
from report import target


def fetch(url, size, *more):
    seconds, got = rig.curl("-o", os.devnull, "-w", "%{size_download}", *more, url)
    assert int(got) == size, got
    return {"wall_s": seconds, "mib_s": size / seconds / 2**20}


def run(args):
    size = args.size or (1 << 20 if args.quick else 1 << 30)
    rounds = args.samples or (1 if args.quick else 9)
    samples = []
    with rig.Rig() as one:
        path = rig.random_file(one.base / "blob", size)
        digest = rig.stamp(path)
        bench_push.push_ours(one, path, digest)
        with rig.nginx(one.base) as nginx:
            ours = f"{one.server.url}/v2/{rig.MODEL}/blobs/{digest}"
            auth = ("-u", f"bench:{one.token}")
            fetch(ours, size, *auth)  # both files are in the page cache from here on
            fetch(f"{nginx}/blob", size)
            for _ in range(rounds):
                samples.append({"ours": fetch(ours, size, *auth),
                                "nginx": fetch(f"{nginx}/blob", size)})
    mine, peer = (bench_push.medians(samples, side) for side in ("ours", "nginx"))
    ratio = mine["wall_s"] / peer["wall_s"]
    return {"bytes": size, "ours": mine, "against": {"what": "nginx, static file", **peer},
            "ratio": ratio, "better": "lower", "samples": samples,
            "targets": [target("wall time, of nginx's", ratio, 1.2, "lower")]}
