# SPDX-License-Identifier: Apache-2.0
"""Roles and keys that reach owners or approvers of protected environments: owners sign them."""
import concurrent.futures
import hashlib
import json
import subprocess

import pytest

from support import signing
from support.guarded import Guarded, add_key, prove
from support.judged import apply, fresh, log
from support.server import build_directory

from .test_registry import Model


@pytest.fixture(scope="module")
def guarded(own_server, tmp_path_factory):
    return Guarded(own_server, tmp_path_factory.mktemp("guarded"))


def check(server):
    done = subprocess.run([build_directory() / "mlctld", "check", "--data", server.directory],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return json.loads(done.stdout)


def digest(j):
    return "sha256:" + hashlib.sha256(signing.canonical(j).encode()).hexdigest()


def test_role_waits_for_owners(guarded):
    finn = guarded.person()
    (key,) = guarded.admin.ok("GET", "/api/v1/keys", params={"user": finn.id})
    reply = guarded.grant(finn.name, "approver@risk")
    assert reply["roles"] == [] and reply["id"] == finn.id
    (item,) = reply["pending"]
    name = f"{finn.id}/approver@risk"
    assert item == {"id": item["id"], "kind": "Role", "name": name, "before": None, "need": 2,
                    "digest": digest({"kind": "Role", "user": finn.id, "role": "approver",
                                      "namespace": "risk", "keys": [key["public"]]})}
    assert guarded.grant(finn.id, "approver@risk") == reply, "the same again gives the open one"
    shown = guarded.admin.ok("GET", f"/api/v1/changes/{item['id']}")
    assert shown["change"]["document"] == f"Role/{name}"
    assert shown["change"]["person"] == {"id": finn.id, "name": finn.name}
    assert shown["change"]["environments"] == [guarded.env]
    assert digest(shown["after_document"]) == item["digest"] and shown["before_document"] is None
    inbox = guarded.dana.http.ok("GET", "/api/v1/inbox")["items"]
    (mine,) = [i for i in inbox if i["id"] == item["id"]]
    assert mine["person"]["name"] == finn.name and mine["document"] == f"Role/{name}"
    assert signing.post(finn, item["id"], signing.body(
        signing.evidence(finn, item["id"]), finn.key_file)).status_code == 403
    assert guarded.roles(finn.id) == [], "nothing yet"
    assert signing.approve(guarded.dana, item["id"])["state"] == "pending"
    done = signing.approve(guarded.eli, item["id"])
    assert (done["state"], done["have"], done["need"]) == ("applied", 2, 2)
    assert guarded.roles(finn.id) == ["approver@risk"]
    assert "approver@risk" in finn.http.ok("GET", "/api/v1/whoami")["roles"], "at once"
    story = [leaf for leaf in log(guarded.server)
             if leaf["id"] in (item["id"], name, done["id"])][-3:]
    assert [leaf["action"] for leaf in story] == ["approval.create", "change.apply", "role.grant"]
    assert story[2]["detail"]["change"] == item["id"]
    assert guarded.grant(finn.id, "approver@risk", status=200)["roles"] == ["approver@risk"]


def test_roles_that_nobody_guards(guarded):
    some = guarded.person()
    assert "contributor@x" in guarded.grant(some.id, "contributor@x", status=200)["roles"]
    owner = guarded.grant(guarded.dana.id, "contributor@x")
    assert owner["pending"][0]["name"] == f"{guarded.dana.id}/contributor@x", "an owner's roles"
    guarded.admin.ok("POST", f"/api/v1/changes/{owner['pending'][0]['id']}/cancel",
                     json={"reason": "only tried"})
    local = guarded.person(["admin@x"])
    refused = local.http.post(f"/api/v1/users/{some.id}/roles", json={"role": "approver@y"})
    assert refused.status_code == 403, "asking needs the right to grant"
    assert local.http.post(f"/api/v1/users/{some.id}/roles",
                           json={"role": "approver@x"}).status_code == 202


def test_new_people_and_services(guarded):
    name = fresh("new")
    made = guarded.admin.ok("POST", "/api/v1/users", json={
        "name": name, "roles": ["contributor@x", "approver@x", "approver@y"]})
    assert made["roles"] == ["contributor@x"] and made["invite"]
    assert [p["name"] for p in made["pending"]] == [f"{made['id']}/approver@x",
                                                    f"{made['id']}/approver@y"]
    plain = guarded.admin.ok("POST", "/api/v1/users", json={"name": fresh("new")})
    assert "pending" not in plain
    reply = guarded.admin.post("/api/v1/users", json={
        "name": fresh("ci"), "kind": "service", "owner": name, "roles": ["approver@x"]})
    assert reply.status_code == 400 and "never approves" in reply.json()["detail"]
    # the same request with the same key gives the same answer, without the secret
    body = {"name": fresh("new"), "roles": ["approver@x"]}
    key = {"Idempotency-Key": fresh("k")}
    one = guarded.admin.post("/api/v1/users", json=body, headers=key).json()
    two = guarded.admin.post("/api/v1/users", json=body, headers=key).json()
    assert one["pending"] == two["pending"] and "invite" not in two


def test_a_new_persons_key_is_named_by_what_waits(guarded):
    admin = guarded.admin
    made = admin.ok("POST", "/api/v1/users", json={"name": fresh("new"),
                                                   "roles": ["approver@x"]})
    first = made["pending"][0]["id"]
    person = Person.login(guarded, made)
    added = add_key(person)
    assert added["id"].startswith("k"), "who is no approver yet registers freely"
    (renewed,) = added["pending"]
    assert guarded.change(first)["state"] == "superseded"
    after = admin.ok("GET", f"/api/v1/changes/{renewed['id']}")
    assert after["after_document"]["keys"] == [added["public"]]
    assert after["change"]["requested_by"]["name"] == "admin"
    assert guarded.sign(renewed["id"])["state"] == "applied"
    assert guarded.roles(person.id) == ["approver@x"]
    # from now on each key of theirs is signed for, and the second is not held against the first
    person.key_file = person.key(name="second")
    pending = add_key(person, status=202)["pending"]
    assert len(admin.ok("GET", "/api/v1/keys", params={"user": person.id})) == 1
    assert guarded.sign(pending[0]["id"])["state"] == "applied"
    assert len(admin.ok("GET", "/api/v1/keys", params={"user": person.id})) == 2


class Person:
    @staticmethod
    def login(guarded, made):
        from support import cli  # pylint: disable=import-outside-toplevel
        server = guarded.server
        token = server.client().ok("POST", "/api/v1/login", json={"invite": made["invite"]})
        person = cli.Person(guarded.root / made["id"], server.url, token["token"])
        person.id, person.name = made["id"], made["name"]
        person.http = server.client(token["token"])
        person.key_file = person.key()
        return person


def test_keys_of_owners_and_approvers(guarded):
    dana = guarded.dana
    new = dana.key(name="another")
    reply = add_key(dana, new, status=202)
    (item,) = reply["pending"]
    assert item["name"] == f"{dana.id}/{reply['fingerprint']}" and item["kind"] == "Key"
    assert item["digest"] == digest({"kind": "Key", "user": dana.id, "type": "ssh-ed25519",
                                     "public": reply["public"]})
    assert add_key(dana, new, status=202) == reply
    assert len(guarded.admin.ok("GET", "/api/v1/keys", params={"user": dana.id})) == 1
    body = signing.body(signing.evidence(dana, item["id"]), new)
    refused = signing.post(dana, item["id"], body)
    assert refused.status_code == 422 and "none of yours" in refused.json()["detail"]
    done = guarded.sign(item["id"])
    assert done["state"] == "applied"
    key = guarded.admin.ok("GET", "/api/v1/keys", params={"user": dana.id})[-1]
    assert key["public"] == reply["public"]
    story = [leaf for leaf in log(guarded.server) if leaf["id"] in (item["id"], key["id"])][-2:]
    assert [leaf["action"] for leaf in story] == ["change.apply", "key.add"]
    assert story[1]["detail"]["change"] == item["id"]
    assert add_key(dana, new, status=200)["id"] == key["id"]
    dana.http.ok("DELETE", f"/api/v1/keys/{key['id']}")  # revoking needs nobody
    assert add_key(dana, new, status=409)


def test_an_invitation_gives_an_administrator_no_key_of_an_owner(guarded):
    invited = guarded.admin.ok("POST", f"/api/v1/users/{guarded.eli.id}/invite")
    thief = Person.login(guarded, {**invited, "id": guarded.eli.id})
    thief.key_file = thief.key(name="stolen")
    (item,) = add_key(thief, status=202)["pending"]
    body = signing.body(signing.evidence(thief, item["id"]), thief.key_file)
    assert signing.post(thief, item["id"], body).status_code == 422
    done = signing.approve(guarded.dana, item["id"], decision="reject")
    assert done["state"] == "rejected"


def test_keys_changed_in_between(guarded):
    finn = guarded.person()
    asked = guarded.ask(finn.id, "approver@z")
    signing.approve(guarded.dana, asked)
    (key,) = finn.http.ok("GET", "/api/v1/keys")
    finn.http.ok("DELETE", f"/api/v1/keys/{key['id']}")
    problem = signing.approve(guarded.eli, asked, status=409)
    assert "keys" in problem["detail"] and "grant the role again" in problem["detail"]
    assert guarded.roles(finn.id) == [] and guarded.change(asked)["have"] == 1
    again = guarded.ask(finn.id, "approver@z")
    assert again != asked and guarded.change(asked)["state"] == "superseded"
    signing.approve(guarded.eli, again, decision="reject")
    assert guarded.change(again)["state"] == "rejected"


def test_key_that_somebody_else_has_by_now(guarded):
    owner, other = guarded.dana, guarded.person()
    shared = owner.key(name="shared")
    change = add_key(owner, shared, status=202)["pending"][0]["id"]
    add_key(other, shared)
    problem = signing.approve(guarded.dana, change, status=409)
    assert "registered already" in problem["detail"] and other.id in problem["detail"]
    guarded.admin.ok("POST", f"/api/v1/changes/{change}/cancel", json={"reason": "taken"})


def test_disabled_and_erased_people_get_nothing(guarded):
    finn = guarded.person()
    change = guarded.ask(finn.id, "approver@z")
    guarded.admin.ok("POST", f"/api/v1/users/{finn.id}/status", json={"status": "disabled"})
    assert "disabled" in signing.approve(guarded.dana, change, status=409)["detail"]
    guarded.admin.ok("POST", f"/api/v1/users/{finn.id}/erase")
    assert "erased" in signing.approve(guarded.dana, change, status=409)["detail"]
    assert guarded.change(change)["person"] == {"id": finn.id, "name": None}
    assert signing.approve(guarded.dana, change, decision="reject")["state"] == "rejected"


def test_two_owners_at_once(guarded):
    for _ in range(5):
        finn = guarded.person()
        change = guarded.ask(finn.id, "approver@z")
        bodies = [(p, signing.body(signing.evidence(p, change), p.key_file))
                  for p in (guarded.dana, guarded.eli)]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            replies = list(pool.map(lambda b: signing.post(b[0], change, b[1]), bodies))
        assert [r.status_code for r in replies] == [201, 201], [r.text for r in replies]
        assert sorted(r.json()["state"] for r in replies) == ["applied", "pending"]
        grants = [leaf for leaf in log(guarded.server) if leaf["id"] == f"{finn.id}/approver@z"]
        assert len(grants) == 1 and guarded.roles(finn.id) == ["approver@z"]


def test_signing_against_new_keys_and_grants(guarded):
    """Whatever wins, a role is only ever held with the keys that were signed for."""
    for i in range(6):
        finn = guarded.person()
        change = guarded.ask(finn.id, "approver@z")
        signing.approve(guarded.dana, change)
        second = prove(finn, finn.key(name=f"second{i}"))
        body = signing.body(signing.evidence(guarded.eli, change), guarded.eli.key_file)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            added = pool.submit(finn.http.post, "/api/v1/keys", json=second)
            signed = pool.submit(signing.post, guarded.eli, change, body)
            asked = pool.submit(guarded.admin.post, f"/api/v1/users/{finn.id}/roles",
                                json={"role": "approver@z"})
        added, signed, asked = added.result(), signed.result(), asked.result()
        assert asked.status_code in (200, 202), asked.text
        keys = len(finn.http.ok("GET", "/api/v1/keys"))
        if signed.status_code == 201:
            assert (added.status_code, keys) == (202, 1), added.text
            assert guarded.roles(finn.id) == ["approver@z"]
        else:
            assert signed.status_code == 409 and added.status_code == 201, signed.text
            assert guarded.roles(finn.id) == [] and keys == 2


def test_an_owner_whose_key_was_revoked_does_not_count(own_server, tmp_path):
    case = Guarded(own_server, tmp_path)
    finn = case.person()
    change = case.ask(finn.id, "approver@w")
    signed = case.dana.http.ok("GET", "/api/v1/keys")[0]["id"]
    # two environments name the role by now: each asks its own owners
    assert case.change(change)["need"] == 4
    signing.approve(case.dana, change)
    case.dana.http.ok("DELETE", f"/api/v1/keys/{signed}")
    assert signing.approve(case.eli, change)["state"] == "pending"
    shown = case.change(change)
    assert shown["have"] == 1
    case.admin.ok("POST", f"/api/v1/changes/{change}/cancel", json={"reason": "not reachable"})


def test_an_alias_that_came_before_the_last_signature(guarded):
    name, pat = fresh("alias"), guarded.person(["contributor@w"])
    model = Model(pat.http, ns="w")
    model.version()
    (item,) = apply(guarded.admin, guarded.text(2) + f"alias: {name}\n")["pending"]
    signing.approve(guarded.dana, item["id"])
    assert model.alias(name, 1).status_code == 201, "nobody has it yet"
    refused = signing.approve(guarded.eli, item["id"], status=409)
    assert "was not promoted" in refused["detail"], refused
    assert guarded.change(item["id"])["state"] == "pending"
    assert pat.http.delete(f"{model.base}/aliases/{name}").status_code == 204
    assert signing.approve(guarded.eli, item["id"])["state"] == "applied"
    assert model.alias(name, 1).status_code == 403


def test_the_last_signature_races_the_revocation_of_the_first(guarded):
    """Applied with both, or still waiting: never after the leaf that took one away."""
    dana, first = guarded.dana, guarded.dana.key_file
    for _ in range(6):
        change = guarded.ask(guarded.person().id, "approver@v")
        spare = dana.key(name=fresh("spare"))
        guarded.sign(add_key(dana, spare, status=202)["pending"][0]["id"])
        key = dana.http.ok("GET", "/api/v1/keys")[-1]["id"]
        dana.key_file = spare
        signing.approve(dana, change)
        dana.key_file = first
        body = signing.body(signing.evidence(guarded.eli, change), guarded.eli.key_file)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            signed = pool.submit(signing.post, guarded.eli, change, body)
            gone = pool.submit(guarded.server.client(dana.token).delete, f"/api/v1/keys/{key}")
            assert gone.result().ok, gone.result().text
            assert signed.result().status_code == 201, signed.result().text
        order = [leaf["action"] for leaf in log(guarded.server) if leaf["id"] in (change, key)
                 and leaf["action"] in ("change.apply", "key.revoke")]
        assert order in (["change.apply", "key.revoke"], ["key.revoke"]), order
        applied = len(order) == 2
        assert guarded.change(change)["state"] == ("applied" if applied else "pending")
        if not applied:
            guarded.admin.ok("POST", f"/api/v1/changes/{change}/cancel", json={"reason": "next"})


@pytest.mark.parametrize("role, status", [
    ("approver@", 400), ("approver@UPPER", 400), ("owner@x", 400), ("approver@x/../y", 400),
    ("approver@" + "x" * 120, 400), ("approver", 202)])
def test_bad_roles(guarded, role, status):
    reply = guarded.admin.post(f"/api/v1/users/{guarded.dana.id}/roles", json={"role": role})
    assert reply.status_code == status, reply.text
    if status == 202:
        guarded.admin.ok("POST", f"/api/v1/changes/{reply.json()['pending'][0]['id']}/cancel",
                         json={"reason": "only tried"})


def test_forged_statements(guarded):
    finn, other = guarded.person(), guarded.person()
    change, twin = (guarded.ask(p.id, "approver@z") for p in (finn, other))
    evidence = signing.evidence(guarded.dana, change)
    other_evidence = signing.evidence(guarded.dana, twin)
    for changes, member in (
            ({"document": f"Role/{other.id}/approver@z"}, "document"),
            ({"after": other_evidence["statement"]["after"]}, "after"),
            ({"before": evidence["statement"]["after"]}, "before"),
            ({"subject": {"kind": "change", "id": twin}}, "subject"),
            ({"document": f"Key/{finn.id}/SHA256:x"}, "document")):
        reply = signing.post(guarded.dana, change,
                             signing.body(evidence, guarded.dana.key_file, **changes))
        assert reply.status_code == 422 and member in reply.json()["detail"], reply.text
    good = signing.body(evidence, guarded.dana.key_file)
    assert signing.post(guarded.dana, twin, good).status_code == 422, "it serves one change"
    assert signing.post(guarded.dana, change, good).status_code == 201
    assert signing.post(guarded.dana, change, good).status_code == 409


def test_check_holds(guarded):
    guarded.sign(guarded.ask(guarded.person().id, "approver@v"))
    found = check(guarded.server)
    assert found["ok"] is True, found


def forge(server, like, **changes):
    """A leaf as an administrator of the database would put it into the outbox."""
    leaf = {**like, **changes}
    leaf["after"] = digest(leaf["state"])
    text = signing.canonical(leaf)
    hashed = hashlib.sha256(b"\0" + text.encode()).hexdigest()
    server.sql("insert into audit_outbox (leaf, leaf_hash, actor, action, kind, object_id, time) "
               f"values (convert_to($q${text}$q$, 'UTF8'), decode('{hashed}', 'hex'), "
               f"'{leaf['actor']}', '{leaf['action']}', '{leaf['kind']}', '{leaf['id']}', "
               f"'{leaf['time']}')")


def slip_role(case, change=None):
    """Row and leaf of a grant that nobody signed; the role's id."""
    finn = case.person()
    state = {"user": finn.id, "role": "approver", "namespace": "slipped"}
    name = f"{finn.id}/approver@slipped"
    like = [leaf for leaf in log(case.server) if leaf["action"] == "role.grant"][-1]
    case.server.sql(f"insert into role_grant values ('{finn.id}', 'approver', 'slipped')")
    forge(case.server, like, id=name, state=state, detail={"change": change} if change else {})
    return name


def no_change(case):
    return slip_role(case)


def change_that_served_another(case):
    done = case.ask(case.person().id, "approver@slipped")
    case.sign(done)
    return slip_role(case, done)


def own_signature(case):
    """One of two owners signed; the administrator says that this was enough."""
    finn = case.person()
    name, change = f"{finn.id}/approver@half", case.ask(finn.id, "approver@half")
    signing.approve(case.dana, change)
    like = [leaf for leaf in log(case.server) if leaf["id"] == change][-1]
    case.server.sql(f"update change_request set state = 'applied' where id = '{change}'")
    forge(case.server, like, action="change.apply", before=like["after"],
          state={**like["state"], "state": "applied"})
    like = [leaf for leaf in log(case.server) if leaf["action"] == "role.grant"][-1]
    case.server.sql(f"insert into role_grant values ('{finn.id}', 'approver', 'half')")
    forge(case.server, like, id=name, detail={"change": change},
          state={"user": finn.id, "role": "approver", "namespace": "half"})
    return name


def key_of_an_owner(case):
    thief = case.person()
    (key,) = case.admin.ok("GET", "/api/v1/keys", params={"user": thief.id})
    stolen = thief.key(name="stolen")
    public = (stolen.parent / "stolen.pub").read_text().split()[1]
    fingerprint = subprocess.run(["ssh-keygen", "-lf", stolen], check=True, capture_output=True,
                                 text=True).stdout.split()[1]
    like = [leaf for leaf in log(case.server) if leaf["id"] == key["id"]][-1]
    state = {"user": case.dana.id, "type": "ssh-ed25519", "public": public,
             "fingerprint": fingerprint, "revoked": False}
    case.server.sql("insert into ssh_key (id, user_id, type, public, fingerprint) values "
                    f"('k000000000001', '{case.dana.id}', 'ssh-ed25519', '{public}', "
                    f"'{fingerprint}')")
    forge(case.server, like, id="k000000000001", state=state)
    return f"Key/{case.dana.id}/{fingerprint}"


def nothing_came_of_it(case):
    """The change says that it was applied; the role is not there."""
    change = case.ask(case.person().id, "approver@none")
    like = [leaf for leaf in log(case.server) if leaf["id"] == change][-1]
    case.server.sql(f"update change_request set state = 'applied' where id = '{change}'")
    forge(case.server, like, action="change.apply", before=like["after"],
          state={**like["state"], "state": "applied"})
    return f"change '{change}' was applied, but"


@pytest.mark.parametrize("slip", [no_change, change_that_served_another, own_signature,
                                  key_of_an_owner, nothing_came_of_it],
                         ids=lambda f: f.__name__)
def test_check_names_what_nobody_signed(fresh_server, tmp_path, slip):
    fresh_server.client(fresh_server.admin_token).ok("POST", "/api/v1/users", json={
        "name": "early", "roles": ["approver@early"]})  # before anything guards it
    case = Guarded(fresh_server, tmp_path)
    case.sign(case.ask(case.person().id, "approver@fair"))
    assert check(fresh_server)["ok"] is True
    what = slip(case)
    found = check(fresh_server)
    assert found["ok"] is False and what in found["what"], found
    assert slip is nothing_came_of_it or (
        f"without the signatures of owners of '{case.env}'" in found["what"])
