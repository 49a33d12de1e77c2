# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Prometheus: /api/v1/query by POST, with answers that a test sets."""
import time
import urllib.parse

from .httpfake import FakeServer


class FakePrometheus(FakeServer):
    """values: {query: number or "NaN" (one series), list (a series each)}; others find none.
    age: how many seconds ago it says that it is."""

    def __init__(self):
        self.values, self.asked, self.age = {}, [], 0
        super().__init__()

    def answer(self, method, path, headers, body):
        form = urllib.parse.parse_qs(body.decode())
        if (method, path) != ("POST", "/api/v1/query") or \
                headers["Content-Type"] != "application/x-www-form-urlencoded":
            return 404, "404 page not found"
        (query,) = form["query"]
        self.asked.append((time.monotonic(), query))
        found = self.values.get(query, [])
        series = [{"metric": {"n": str(n)}, "value": [time.time() - self.age, str(value)]}
                  for n, value in enumerate(found if isinstance(found, list) else [found])]
        return 200, {"status": "success", "data": {"resultType": "vector", "result": series}}
