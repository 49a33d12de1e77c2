# SPDX-License-Identifier: Apache-2.0
"""What moves at the very moment that something else does: transactions that are stopped half-way by
a lock that the test holds, while the other one goes on."""
import concurrent.futures
import contextlib
import subprocess

import pytest

from fault.rolling import LONG, only, staged
from fault.story import check_ok
from support.process import wait_until
from support.rollouts import Serving
from support.server import Server

pytestmark = pytest.mark.timeout(300)
KEY = 7305899

# Who writes splits raises the generation of the gateway last: there it waits, when it is the one.
STOP = f"""
create function stop_half_way() returns trigger language plpgsql as $$
begin
        if exists (select from %s where xmin = pg_current_xact_id()::xid and %s) then
                perform pg_advisory_xact_lock({KEY});
        end if;
        return new;
end $$;
create trigger stop_half_way before insert on gateway for each row execute function stop_half_way()
"""
GO_ON = "drop trigger stop_half_way on gateway; drop function stop_half_way()"


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with staged(tmp_path_factory, lambda directories, options: Server(
            directories.new(), options=["--gateway", "127.0.0.1:0", *options])) as one:
        one.site()
        yield one
        check_ok(one.server.directory)


class Stopped:
    """there(): whether a transaction waits; go_on() lets it."""

    def __init__(self, server):
        self.server = server
        self.child = subprocess.Popen(
            ["psql", "-XqAt", f"host={server.directory}/postgres user=mlctl dbname=mlctl"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.child.stdin.write(f"select 'held' from pg_advisory_lock({KEY});\n")
        self.child.stdin.flush()
        assert self.child.stdout.readline() == "held\n"

    def there(self):
        return self.server.sql("select count(*) from pg_locks where locktype = 'advisory' and "
                               f"objid = {KEY} and not granted") != "0"

    def go_on(self):
        if self.child.poll() is None:
            self.child.communicate()


@contextlib.contextmanager
def stopped(server, table, which):
    """The transaction that has written such a row, before it writes splits."""
    one = Stopped(server)
    server.sql(STOP % (table, which))
    try:
        yield one
    finally:
        one.go_on()
        server.sql(GO_ON)


def reloads(one, version):
    """An instance lost the version: it is loaded again, and then gets its requests again."""
    one.instances[0].loaded.pop(one.name(version))
    return "served", (f"name = '{one.name(version)}' and model = '{one.model.name}' and "
                      f"state = 'ready'")


def within(seconds, check):
    """Whether it came true; it is waited for no longer than that."""
    try:
        return bool(wait_until(check, seconds, "?"))
    except TimeoutError:
        return False


def split(stage, one):
    """{version: weight} and the key, as the rows have it."""
    text = stage.server.sql("select entry::json ->> 'key', v ->> 'version', v ->> 'weight' from "
                            "split, json_array_elements(entry::json -> 'variants') v "
                            f"where route = '{one.route}'")
    rows = [line.split("|") for line in text.splitlines()]
    return {int(version): int(weight) for _, version, weight in rows}, rows[0][0]


def running(one, promotion):
    return one.wait_rollout(promotion, lambda r: r["state"] == "running" and r["in_force"])


def has_moved(one, promotion):
    """Whether its first step is in force; it may be held off."""
    return bool(one.promotion(promotion)["rollout"]) and one.rollout(promotion)["in_force"]


def test_instance_is_ready_while_a_rollout_begins(stage):
    """Who found that nothing rolls out does not write over the split of what has begun since."""
    one = stage.case(LONG)
    first, second = one.version(), one.version(2)
    one.to_live(first)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with stopped(stage.server, *reloads(one, first)) as it:
            wait_until(it.there, 30, "an instance is ready again")
            asked = pool.submit(one.promote, second)
            within(4, lambda: asked.done() and has_moved(one, asked.result()))
        promotion = asked.result(30)
    running(one, promotion)
    wait_until(lambda: {s["state"] for s in one.rollout(promotion)["served"]} == {"ready"}, 20,
               "all is loaded")
    assert split(stage, one)[0] == {first: 5000, second: 5000}
    one.act(stage.people["olga"], one.rollout(promotion)["id"], "abort")
    one.wait(promotion, "rolled_back")
    only(one, first)


def test_document_changes_while_a_rollout_begins(stage):
    """Which of them comes first, the rollout's split is by the new document."""
    one = stage.case(LONG)
    first, second = one.version(), one.version(2)
    one.to_live(first)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with stopped(stage.server, "document_version",
                     f"kind = 'Model' and name = '{one.model.name}'") as it:
            applied = pool.submit(one.apply, LONG, key="cookie:user")
            wait_until(it.there, 30, "the document is being applied")
            asked = pool.submit(one.promote, second)
            within(2, lambda: asked.done() and has_moved(one, asked.result()))
        applied.result(30)
        promotion = asked.result(30)
    running(one, promotion)
    assert split(stage, one) == ({first: 5000, second: 5000}, "cookie:user")
    one.act(stage.people["olga"], one.rollout(promotion)["id"], "abort")
    one.wait(promotion, "rolled_back")


def test_instance_that_came_while_a_rollout_went_on(stage):
    """At its end, what is live is on the instances that the document names by then."""
    one = stage.case(LONG)
    first, second = one.version(), one.version(2)
    one.to_live(first)
    promotion = one.promote(second)
    running(one, promotion)
    folder = stage.roots / f"{one.env}-c"
    folder.mkdir()
    one.instances.append(Serving(folder))
    one.site.apply()
    with one.load() as load:
        one.act(stage.people["olga"], one.rollout(promotion)["id"], "abort")
        one.wait(promotion, "rolled_back")
        wait_until(lambda: any("/infer" in s for s in one.instances[2].seen), 20, "it gets traffic")
    assert load.failed == [] and one.name(first) in one.instances[2].loaded
    only(one, first)
