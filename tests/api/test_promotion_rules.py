# SPDX-License-Identifier: Apache-2.0
"""Promotions by the letter of the contract: what goes back to what, windows, aliases, errors."""
import concurrent.futures
import datetime
import threading
import time

import pytest

from support import oci, signing
from support.cli import invite
from support.guarded import person_with_key
from support.judged import apply, environment, evaluate, evaluation, fresh, log, metric, policy
from support.process import wait_until
from support.transitions import Reading

from .test_promotions import NS, QUALITY, TWO, Case, check, people_of, rollback
from .test_registry import LINEAGE

ONE = "[{name: risk, from: ['role:approver'], count: 1, request_ttl: 72h}]"


@pytest.fixture(scope="module")
def server(own_server):
    yield own_server
    assert check(own_server)["ok"] is True
    assert Reading().read(log(own_server)).wrong == []


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("rules"))


@pytest.fixture
def free(server, people):
    """Nobody is asked."""
    return Case(server, people, approvals="[]")


def change(case, more="", alias=None):
    apply(case.admin, environment(case.env, f"policy: {case.env}\n"
                                  f"alias: {alias or case.alias}\n{more}"))


def test_rollback_goes_to_the_newest(free, people):
    """Not to the one that was live last: the contract names the newest version."""
    one, two, three, four = (free.version(0.95) for _ in range(4))
    for version in (one, three, two, four):
        free.to_live(version)
    assert rollback(free, people["olga"])["version"] == three
    assert rollback(free, people["olga"])["version"] == two
    assert free.model.set_status(one, "withdrawn").ok
    rollback(free, people["olga"], status=409)


def test_live_again_after_a_rollback_is_a_target_again(free, people):
    one, two, three = (free.version(0.95) for _ in range(3))
    free.to_live(one)
    free.to_live(two)
    rollback(free, people["olga"])
    free.to_live(two)
    free.to_live(three)
    assert rollback(free, people["olga"])["version"] == two


def alias_of(case, alias):
    reply = case.pat.http.get(f"{case.model.base}/aliases/{alias}")
    return reply.json()["version"] if reply.ok else None


def test_an_alias_that_changes_moves_with_what_is_live(free):
    version = free.version()
    free.to_live(version)
    old, free.alias = free.alias, fresh("other")
    change(free)
    assert free.live() == (version, version)
    assert alias_of(free, old) is None
    assert free.model.alias(old, version).ok, "the old one belongs to nobody"
    assert free.model.alias(free.alias, version, match=version).status_code == 403
    better = free.version(0.97)
    free.to_live(better)
    assert free.live() == (better, better) and alias_of(free, old) == version
    assert check(free.server)["ok"] is True


def test_two_environments_swap_their_aliases(server, people):
    one, two = Case(server, people, approvals="[]"), Case(server, people, approvals="[]")
    two.model = one.model
    first, second = one.version(), one.version(0.96)
    one.to_live(first)
    two.to_live(second)
    apply(one.admin, environment(one.env, f"policy: {one.env}\nalias: {two.alias}\n") + "---\n"
          + environment(two.env, f"policy: {two.env}\nalias: {one.alias}\n"))
    one.alias, two.alias = two.alias, one.alias
    assert one.live() == (first, first) and two.live() == (second, second)
    assert check(server)["ok"] is True


def test_swapped_aliases_leave_nothing_behind(server, people):
    """A third model is live in one of the two only."""
    one, two = Case(server, people, approvals="[]"), Case(server, people, approvals="[]")
    version = two.version()
    two.to_live(version)
    for first, second in ((one, two), (two, one)):  # in either order
        apply(one.admin, environment(first.env, f"policy: {first.env}\nalias: {second.alias}\n")
              + "---\n" + environment(second.env, f"policy: {second.env}\nalias: {first.alias}\n"))
        one.alias, two.alias = two.alias, one.alias
        assert two.live() == (version, version) and alias_of(two, one.alias) is None
        assert check(server)["ok"] is True
    apply(one.admin, environment(one.env, f"policy: {one.env}\nalias: {two.alias}\n") + "---\n"
          + environment(two.env, f"policy: {two.env}\n"))
    assert alias_of(two, two.alias) is None, "it belongs to an environment where nothing is live"
    assert check(server)["ok"] is True


def test_an_alias_that_stands_elsewhere_is_not_taken(free):
    """Who pulls by it would get what was never promoted."""
    taken, version = fresh("taken"), free.version()
    assert free.model.alias(taken, version).ok
    doc = environment(free.env, f"policy: {free.env}\nalias: {taken}\n")
    for query in ({}, {"dry_run": "true"}):
        problem = apply(free.admin, doc, status=409, **query)
        assert f"'{free.model.name}:{taken}'" in problem["detail"], problem
        assert "mlctl alias remove" in problem["detail"]
        assert problem["errors"][0]["pointer"].endswith("/alias"), problem
    free.to_live(version)
    apply(free.admin, doc)  # what it names is what is live there
    free.alias = taken
    assert free.live() == (version, version)
    other = free.version(0.96)
    assert free.model.alias(taken, other, match=version).status_code == 403
    assert check(free.server)["ok"] is True


def test_an_alias_is_set_while_an_environment_takes_it(free):
    """One of the two is refused."""
    version = free.version()
    for _ in range(15):
        name, barrier = fresh("race"), threading.Barrier(2)

        def take(name=name, barrier=barrier):
            doc = environment(free.env, f"policy: {free.env}\nalias: {name}\n")
            barrier.wait()
            return free.admin.post("/api/v1/documents", data=doc.encode(),
                                   headers={"Content-Type": "text/yaml"}).status_code

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            applied = pool.submit(take)
            barrier.wait()
            was_set = free.model.alias(name, version).status_code
        got = (applied.result(), was_set)
        assert got in ((200, 403), (409, 201)), got
    assert check(free.server)["ok"] is True


def test_an_alias_cannot_move_to_what_is_withdrawn(free):
    version = free.version()
    free.to_live(version)
    assert free.model.set_status(version, "withdrawn").ok
    doc = environment(free.env, f"policy: {free.env}\nalias: {fresh('x')}\n")
    assert "withdrawn" in apply(free.admin, doc, status=409)["detail"]
    assert free.live() == (version, version)


# --- windows ---

def at(hours):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


ALWAYS = "{schedule: '* * * * *', duration: 2m, zone: Europe/Berlin}"


@pytest.mark.parametrize("windows, closed", [
    ("{deny: [%s]}" % ALWAYS, True),
    ("{allow: [%s]}" % ALWAYS, False),
    ("{allow: [%s], deny: [%s]}" % (ALWAYS, ALWAYS), True),
    ("{deny: [{from: '%s', to: '%s'}]}" % (at(-2), at(-1)), False),
    ("{deny: [{from: '%s', to: '%s'}]}" % (at(-2), at(1)), True),
    ("{deny: [{from: '%s', to: '%s'}]}" % (at(0)[:10], at(0)[:10]), True),
    ("{allow: [{from: '%s', to: '%s'}]}" % (at(24), at(48)), True),
    ("{deny: [{schedule: '0-59/1 */1 1-31 * 0-7', duration: 90m, zone: Asia/Kolkata}]}", True),
    ("{deny: [{schedule: '0 0 31 2 *', duration: 1h}]}", False),
], ids=[str(i) for i in range(9)])  # the times differ between workers
def test_windows(server, people, windows, closed):
    case = Case(server, people, approvals="[]", more=f"windows: {windows}\n")
    version = case.version()
    promotion = case.promote(version)["id"]
    if not closed:
        case.wait(promotion, "live")
        return
    now = case.wait(promotion, "scheduled")
    assert [w["kind"] for w in now["waiting_for"]] == ["window"]
    decision = case.pat.http.ok("GET", f"/api/v1/promotions/{promotion}/decision",
                                params={"until": "approved"})
    assert decision["ok"] is True and decision["state"] == "scheduled"
    assert case.live() == (None, None)


def weekday(days):
    """Of cron, so many days from now, in UTC."""
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return (when.weekday() + 1) % 7


@pytest.mark.parametrize("day, duration, closed", [(0, "24h", True), (-1, "48h", True),
                                                   (2, "24h", False), (-2, "24h", False)])
def test_windows_of_weekdays(server, people, day, duration, closed):
    case = Case(server, people, approvals="[]", more="windows: {deny: [{schedule: '0 0 * * "
                f"{weekday(day) or 7}', duration: {duration}}}]}}\n")
    case.wait(case.promote(case.version())["id"], "scheduled" if closed else "live")


def test_what_waits_for_a_window(server, people):
    """Several go live in order when it opens; a rollback does not wait; digests bind till then."""
    case = Case(server, people, approvals="[]")
    first, second, third, fourth = (case.version(0.95 + i / 100) for i in range(4))
    case.to_live(first)
    case.to_live(second)
    change(case, "windows: {deny: [%s]}\n" % ALWAYS)
    later = [case.promote(v)["id"] for v in (third, fourth)]
    for one in later:
        case.wait(one, "scheduled")
    assert rollback(case, people["olga"])["version"] == first
    assert case.live() == (first, first)
    evaluate(case.pat.http, case.model.name, fourth, evaluation(metric("accuracy", 0.93, 500)))
    wait_until(lambda: Reading().read(log(server)).history[later[1]].count("evaluating") == 2, 15,
               "judged again")
    case.wait(later[1], "scheduled", "approved")
    change(case)
    case.wait(later[1], "live")
    assert case.get(later[0])["state"] == "replaced"
    assert case.live() == (fourth, fourth)
    people["pat"].http.refused(409, "POST", f"/api/v1/promotions/{later[0]}/cancel",
                               json={"reason": "x"})


def test_what_is_scheduled_ends_as_others_do(server, people):
    case = Case(server, people, approvals="[]", more="windows: {deny: [%s]}\n" % ALWAYS)
    one, two = case.version(), case.version(0.96)
    first, second = case.promote(one)["id"], case.promote(two)["id"]
    for promotion in (first, second):
        case.wait(promotion, "scheduled")
    assert case.pat.http.ok("POST", f"/api/v1/promotions/{first}/cancel",
                            json={"reason": "x"})["state"] == "cancelled"
    assert case.model.set_status(two, "withdrawn").ok
    case.wait(second, "cancelled")


@pytest.mark.parametrize("windows, what", [
    ("{deny: [{schedule: '0 0 * * *', duration: 1h, zone: Europe/Berln}]}", "Europe/Berln"),
    ("{allow: [{schedule: '0 0 * * *', duration: 400d}]}", "366d"),
])
def test_windows_that_cannot_be(free, windows, what):
    doc = environment(free.env, f"policy: {free.env}\nalias: {free.alias}\nwindows: {windows}\n")
    assert what in apply(free.admin, doc, status=400)["detail"]


# --- superseded, in order ---

def test_approved_that_must_be_judged_again_gives_way(server, people):
    """Where another waits already, it is superseded by that one."""
    case = Case(server, people, more="windows: {deny: [%s]}\n" % ALWAYS)
    one, two = case.version(), case.version(0.96)
    first = case.promote(one)["id"]
    signing.approve(people["dana"], first)
    signing.approve(people["eli"], first)
    case.wait(first, "scheduled")
    second = case.promote(two)["id"]
    evaluate(case.pat.http, case.model.name, one, evaluation(metric("accuracy", 0.93, 500)))
    old = case.wait(first, "superseded")
    assert old["superseded_by"] == second and old["ended"]
    assert [a["void"] for a in old["approvals"]] == [True, True]
    assert case.get(second)["state"] == "awaiting_approval"


# --- evidence that arrives while it is asked for ---

def test_evidence_that_arrives_with_the_request(server, people):
    """However they meet, it is not held for ever for what is there."""
    case = Case(server, people, approvals="[]")
    for _ in range(12):
        version = case.version(None)
        barrier = threading.Barrier(2)

        def submit(version=version, barrier=barrier):
            http = server.client(case.pat.token)
            barrier.wait()
            evaluate(http, case.model.name, version, evaluation(metric("accuracy", 0.95, 171)))

        def ask(version=version, barrier=barrier):
            http = server.client(case.pat.token)
            barrier.wait()
            return http.ok("POST", "/api/v1/promotions", json={
                "model": case.model.name, "version": str(version), "environment": case.env,
                "reason": "race"})["id"]

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            other = pool.submit(submit)
            promotion = pool.submit(ask).result()
            other.result()
        case.wait(promotion, "live")


# --- what cannot be judged ---

def test_error_is_held_and_goes_on_by_itself(server, people):
    """A card that cannot be read is an error, shown with its reason; later it is tried again."""
    card = b"# Card\n\n## Use\n" + fresh("text").encode()
    case = Case(server, people, "[{id: card, type: card, sections: [Use]}]", ONE)
    made = case.model.version({"README.md": card, "w.bin": fresh("w").encode()}, LINEAGE)
    hexed = oci.digest(card).split(":")[1]
    (blob,) = (server.directory / "blobs/sha256").rglob(hexed)
    blob.rename(blob.with_name("away"))
    try:
        asked = case.promote(made["version"])
        held = case.wait(asked["id"], "held")
        assert held["verdict"] == "error" and held["checks"][0]["verdict"] == "error"
        assert held["checks"][0]["reason"] and held["waiting_for"][0]["kind"] == "evidence"
        assert held["policy_digest"] is None
        case.pat.http.refused(409, "GET", f"/api/v1/promotions/{asked['id']}/evidence")
        wait_until(lambda: Reading().read(log(server)).history[asked["id"]].count("held") > 1, 15,
                   "it tries again by itself")
    finally:
        blob.with_name("away").rename(blob)
    done = wait_until(lambda: (lambda p: p if p["state"] == "awaiting_approval" else None)(
        case.get(asked["id"])), 40, "it is judged when it can be")
    assert done["verdict"] == "pass"
    signing.approve(people["dana"], asked["id"])
    case.wait(asked["id"], "live")


# --- many at once ---

def crowd(server, root, n):
    made = []
    for i in range(n):
        person = invite(server, root / str(i), fresh("crowd"), [f"approver@{NS}"])
        person.key_file = person.key()
        person.run("key", "add", f"{person.key_file}.pub")
        made.append(person)
    return made


def post_all(server, promotion, bodies, threads):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda x: server.client(x[0].token).post(
            f"/api/v1/promotions/{promotion}/approvals", json=x[1]), bodies))


def test_one_person_a_hundred_times(server, people):
    case = Case(server, people)
    promotion = case.promote(case.version())["id"]
    dana = people["dana"]
    evidence = signing.evidence(dana, promotion)
    bodies = [(dana, signing.body(evidence, dana.key_file, nonce=f"{i:032x}"))
              for i in range(100)]
    got = [r.status_code for r in post_all(server, promotion, bodies, 25)]
    assert got.count(201) == 1 and set(got) == {201, 409}, got
    assert case.get(promotion)["waiting_for"][0]["have"] == 1
    signing.approve(people["eli"], promotion)
    case.wait(promotion, "live")
    wrong = Reading(lambda env: 2 if env == case.env else 0).read(log(server)).wrong
    assert wrong == []


def test_a_hundred_people_at_once(server, people, tmp_path):
    """Eighty are asked for, each counts for one rule, and whoever comes later is told so."""
    case = Case(server, people, approvals=str([
        {"name": f"r{i}", "from": ["role:approver"], "count": 20} for i in range(4)]))
    promotion = case.promote(case.version())["id"]

    def one_of_them(i):
        person = person_with_key(server, tmp_path / str(i), [f"approver@{NS}"])
        return person, signing.body(signing.evidence(person, promotion), person.key_file)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(one_of_them, range(100)))
    started = time.monotonic()
    got = [r.status_code for r in post_all(server, promotion, bodies, 50)]
    took = time.monotonic() - started
    assert got.count(201) == 80 and got.count(409) == 20, got
    done = case.wait(promotion, "live")
    assert took < 30, f"{took:.1f} s"
    signers = [a["signer"]["id"] for a in done["approvals"]]
    accepted = {bodies[i][0].id for i, status in enumerate(got) if status == 201}
    assert len(signers) == 80 and set(signers) == accepted
    wrong = Reading(lambda env: 80 if env == case.env else 0).read(log(server)).wrong
    assert wrong == []


def racing(case, people, disturb, rounds=4, status=(201, 409, 422), **promotion):
    """The second approval, which completes it, meets what disturbs; the log says what happened."""
    for _ in range(rounds):
        version = case.version(0.95)
        asked = case.promote(version, **promotion)["id"]
        signing.approve(people["dana"], asked)
        body = signing.body(signing.evidence(people["eli"], asked), people["eli"].key_file)
        barrier = threading.Barrier(2)

        def approve(asked=asked, body=body, barrier=barrier):
            http = case.server.client(people["eli"].token)
            barrier.wait()
            return http.post(f"/api/v1/promotions/{asked}/approvals", json=body).status_code

        def other(asked=asked, version=version, barrier=barrier):
            barrier.wait()
            disturb(asked, version)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            second = pool.submit(other)
            assert pool.submit(approve).result() in status
            second.result()
        yield asked
    reading = Reading(lambda env: 2 if env == case.env else 0).read(log(case.server))
    assert reading.wrong == []


def settled(case, promotion):
    """Its state when nothing moves any more."""
    def still():
        first = case.get(promotion)["state"]
        time.sleep(0.4)
        return first if case.get(promotion)["state"] == first not in ("evaluating", "approved") \
            else None
    return wait_until(still, 20, f"{promotion} comes to rest")


def test_approval_races_an_evaluation(server, people):
    case = Case(server, people)
    http = server.client(case.pat.token)

    def disturb(_, version):
        evaluate(http, case.model.name, version, evaluation(metric("accuracy", 0.5, 500)))

    for promotion in racing(case, people, disturb):
        assert settled(case, promotion) in ("rejected", "live", "replaced")


def test_approval_races_a_withdrawn_evaluation(server, people):
    case = Case(server, people)
    http = server.client(case.pat.token)

    def disturb(_, version):
        base = f"{case.model.base}/versions/{version}/evaluations"
        (one,) = http.ok("GET", base)["items"]
        reply = http.post(f"{base}/{one['evaluation']}/withdraw", json={"reason": "wrong data"})
        assert reply.ok, reply.text

    for promotion in racing(case, people, disturb):
        assert settled(case, promotion) in ("held", "live", "replaced")
        case.pat.http.post(f"/api/v1/promotions/{promotion}/cancel", json={"reason": "next"})


def test_approval_races_a_policy(server, people):
    case = Case(server, people)
    bounds = iter(range(1, 100))

    def disturb(*_):
        apply(case.admin, policy(case.env, QUALITY.replace("0.9}", f"0.8{next(bounds)}}}"), TWO))

    for promotion in racing(case, people, disturb):
        assert settled(case, promotion) in ("awaiting_approval", "live", "replaced")
        case.pat.http.post(f"/api/v1/promotions/{promotion}/cancel", json={"reason": "next"})


def test_approval_races_a_supersede(server, people):
    case = Case(server, people)
    http = server.client(case.pat.token)

    def disturb(_, version):
        reply = http.post("/api/v1/promotions", json={
            "model": case.model.name, "version": str(version - 1), "environment": case.env,
            "reason": "race", "supersede": True})
        assert reply.ok, reply.text

    case.version(0.95)
    for promotion in racing(case, people, disturb, supersede=True):
        assert settled(case, promotion) in ("superseded", "live", "replaced")
        case.version(0.95)


def test_approval_races_a_cancel(server, people):
    case = Case(server, people)
    http = server.client(case.pat.token)

    def disturb(promotion, _):
        reply = http.post(f"/api/v1/promotions/{promotion}/cancel", json={"reason": "no"})
        assert reply.status_code in (200, 409), reply.text

    for promotion in racing(case, people, disturb, rounds=6):
        assert settled(case, promotion) in ("cancelled", "live", "replaced")


def test_approval_races_its_expiry(server, people):
    case = Case(server, people, approvals=TWO.replace("72h", "3s"))
    for early in (0.2, 0.05, 0.02, 0):
        asked = case.promote(case.version(0.95))
        signing.approve(people["dana"], asked["id"])
        body = signing.body(signing.evidence(people["eli"], asked["id"]), people["eli"].key_file)
        end = datetime.datetime.fromisoformat(asked["expires"].replace("Z", "+00:00")).timestamp()
        time.sleep(max(0, end - time.time() - early))
        reply = signing.post(people["eli"], asked["id"], body)
        assert reply.status_code in (201, 409, 422), reply.text
        assert settled(case, asked["id"]) in ("expired", "live", "replaced")
    leaves = log(server)
    reading = Reading(lambda env: 2 if env == case.env else 0).read(leaves)
    assert reading.wrong == []
    for leaf in leaves:
        state = leaf["state"] or {}
        if leaf["kind"] == "promotion" and state["environment"] == case.env \
                and state["state"] in ("approved", "live"):
            until = max(a["expires"] for a in reading.approvals[leaf["id"]].values())
            late = datetime.timedelta(seconds=0.3)  # between the look at the clock and the leaf
            assert moment(leaf["time"]) < moment(until) + late, "too late"


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_approval_races_the_revocation_of_a_key(server, people, tmp_path):
    """The first approver's key is revoked while the second approves."""
    case = Case(server, people)
    rounds = crowd(server, tmp_path, 4)
    for gina in rounds:
        (key,) = gina.json("key", "list")
        asked = case.promote(case.version(0.95))["id"]
        signing.approve(gina, asked)
        body = signing.body(signing.evidence(people["eli"], asked), people["eli"].key_file)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            mine = pool.submit(server.client(people["eli"].token).post,
                               f"/api/v1/promotions/{asked}/approvals", json=body)
            gone = pool.submit(server.client(gina.token).delete, f"/api/v1/keys/{key['id']}")
            assert mine.result().status_code == 201
            assert gone.result().ok, gone.result().text
        state = settled(case, asked)
        assert state in ("awaiting_approval", "live", "replaced")
        case.pat.http.post(f"/api/v1/promotions/{asked}/cancel", json={"reason": "next"})
    wrong = Reading(lambda env: 2 if env == case.env else 0).read(log(server)).wrong
    assert wrong == []


def test_the_log_verifies(server, tmp_path):
    auditor = invite(server, tmp_path / "auditor", fresh("auditor"), ["auditor"])
    auditor.run("audit", "verify", "--server", server.url)
