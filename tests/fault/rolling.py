# SPDX-License-Identifier: Apache-2.0
"""What the fault tests of rollouts share: servers with sites, and what must hold at the end."""
import collections
import contextlib

from api.test_promotions import people_of
from api.test_registry import Model
from fault.story import read_log
from support.process import wait_until
from support.rollouts import Case, Site
from support.server import Directories

NS = "roll"
ERRORS = {"id": "errors", "type": "error-rate", "margin": "5%"}
SLOW = {"id": "slow", "type": "slower-than", "limit": "60ms", "margin": "5%"}
FAST = {"strategy": "canary", "checks": [ERRORS],
        "steps": [{"weight": "30%", "requests": 30, "for": "1s"}, {"weight": "100%"}]}
# stays in its first step until something is proven
LONG = {"strategy": "canary", "checks": [ERRORS, SLOW],
        "steps": [{"weight": "50%", "requests": 100000, "for": "10m"}, {"weight": "100%"}]}
ENDS = ("completed", "rolled_back", "failed")


class Stage:
    """People and serving roots for servers that run (with --serving-root ROOTS)."""

    def __init__(self, server, roots, home):
        self.server, self.roots = server, roots
        self.people = people_of(server, home, NS)
        self.sites = []

    def site(self, gateway=None):
        """A gateway belongs to one environment: without one of its own it is the server's."""
        class At(Site):
            port = property(lambda self: gateway.port if gateway else Site.port.fget(self))

        traffic = gateway and f"{{driver: nginx, control: 'unix:{gateway.path}'}}"
        self.sites.append(At(self.server, self.people, self.roots, traffic=traffic))
        return self.sites[-1]

    def case(self, rollout, site=None):
        if site is None:  # that of the server's own gateway
            site = next((s for s in self.sites if s.control in s.traffic), None) or self.site()
        return Case(site, Model(self.people["pat"].http, ns=NS), rollout)

    def close(self):
        for site in self.sites:
            site.close()


@contextlib.contextmanager
def staged(tmp_path_factory, make):
    """make(DIRECTORIES, OPTIONS) → a server; yields its Stage, and ends both."""
    roots, home = tmp_path_factory.mktemp("serving"), tmp_path_factory.mktemp("rollers")
    directories = Directories()
    server = make(directories, ["--serving-root", roots])
    stage = None
    try:
        stage = Stage(server.start(), roots, home)
        yield stage
        server.stop()
    finally:
        server.kill()
        if stage:
            stage.close()
        directories.remove()


def only(one, version, users=40):
    """Every user gets this version."""
    found = collections.Counter(one.infer(f"u{n}")[1]["X-Mlctl-Version"] for n in range(users))
    assert set(found) == {str(version)}, found


def story(server, rollout):
    """The leaves of a rollout that has ended, oldest first, from the published log: it began once,
    ended once, skipped no step and repeated none, and no reason to hold stands there twice in a
    row."""
    def ended():
        leaves = [e for e in read_log(server).entries
                  if e["kind"] == "rollout" and e["id"] == rollout]
        return leaves if any(e["action"] == "rollout.end" for e in leaves) else None
    leaves = wait_until(ended, 20, f"the log has the end of {rollout}")
    actions = [e["action"] for e in leaves]
    assert actions[0] == "rollout.create" and actions[-1] == "rollout.end", actions
    for once in ("rollout.create", "rollout.end", "rollout.begin", "rollout.complete",
                 "rollout.abort"):
        assert actions.count(once) <= 1, actions
    for before, now in zip(leaves, leaves[1:]):
        assert before["state"] != now["state"], (before, now)
        assert now["state"]["step"] - before["state"]["step"] in (0, 1), (before, now)
    promotion = leaves[0]["state"]["promotion"]
    moves = [e["state"]["state"] for e in read_log(server).entries
             if e["kind"] == "promotion" and e["id"] == promotion]
    assert moves.count("rolling_out") == 1 and len(moves) == len(set(moves)), moves
    return leaves
