# SPDX-License-Identifier: Apache-2.0
"""People, services, roles, tokens and keys over HTTP."""
import itertools
import os
import subprocess

import pytest

numbers = itertools.count(1)


def new_name(what="auth"):
    return f"{what}-{os.getpid()}-{next(numbers)}"


def create(admin, status=201, **body):
    reply = admin.post("/api/v1/users", json={"name": new_name(), **body})
    assert reply.status_code == status, reply.text
    return reply.json()


def log_in(server, invite):
    token = server.client().ok("POST", "/api/v1/login", json={"invite": invite})
    return server.client(token["token"])


# --- people --------------------------------------------------------------------------------------


def test_invitation_is_used_once(server, admin):
    person = create(admin, roles=["contributor@fraud"])
    assert person["kind"] == "person" and person["roles"] == ["contributor@fraud"]
    assert "token" not in person
    client = log_in(server, person["invite"])
    who = client.ok("GET", "/api/v1/whoami")
    assert who["user"]["id"] == person["id"]
    assert who["roles"] == ["contributor@fraud"]
    problem = server.client().refused(
        401, "POST", "/api/v1/login", json={"invite": person["invite"]}
    )
    assert problem["errors"][0]["pointer"] == "/invite"


def test_new_invitation_replaces_the_old(server, admin):
    person = create(admin)
    again = admin.ok("POST", f"/api/v1/users/{person['id']}/invite")
    assert again["invite"] != person["invite"]
    server.client().refused(401, "POST", "/api/v1/login", json={"invite": person["invite"]})
    log_in(server, again["invite"])


def test_names_are_unique_and_people_found_by_them(admin):
    name = new_name()
    first = create(admin, name=name)
    problem = admin.refused(409, "POST", "/api/v1/users", json={"name": name})
    assert problem["errors"][0]["pointer"] == "/name"
    assert admin.ok("GET", f"/api/v1/users/{name}")["id"] == first["id"]
    admin.refused(404, "GET", "/api/v1/users/nobody-of-that-name")


@pytest.mark.parametrize(
    "body, pointer",
    [
        ({"roles": ["king"]}, "/roles/0"),
        ({"roles": ["admin", "contributor@UPPER"]}, "/roles/1"),
        ({"roles": ["contributor@api"]}, "/roles/0"),
        ({"roles": [7]}, "/roles/0"),
        ({"roles": "admin"}, "/roles"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 65}, "/name"),
        ({"name": "with\u0000nul"}, None),
        ({"name": "a\nb"}, "/name"),
        ({"kind": "robot"}, "/kind"),
        ({"kind": "service"}, "/owner"),
        ({"kind": "service", "owner": "nobody-here"}, "/owner"),
        ({"owner": "admin"}, "/owner"),
        ({"surprise": 1}, "/surprise"),
    ],
)
def test_bad_people_are_refused_by_field(admin, body, pointer):
    problem = admin.refused(400, "POST", "/api/v1/users", json={"name": new_name(), **body})
    if pointer:
        assert problem["errors"][0]["pointer"] == pointer


def test_a_retried_creation_makes_one_person_and_keeps_no_secret(admin):
    body, key = {"name": new_name()}, {"Idempotency-Key": new_name("key")}
    first = admin.post("/api/v1/users", json=body, headers=key)
    second = admin.post("/api/v1/users", json=body, headers=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    assert "invite" in first.json() and "invite" not in second.json()
    other = admin.post("/api/v1/users", json={"name": new_name()}, headers=key)
    assert other.status_code in (409, 422)


def test_the_list_of_people_has_pages(admin):
    mine = {create(admin)["id"] for _ in range(5)}
    seen, cursor = [], ""
    while cursor is not None:
        page = admin.ok(
            "GET", "/api/v1/users", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
        )
        assert len(page["items"]) <= 2
        seen += [one["id"] for one in page["items"]]
        cursor = page["next"]
    assert mine <= set(seen) and len(seen) == len(set(seen))
    admin.refused(400, "GET", "/api/v1/users", params={"cursor": "forged"})


# --- roles ---------------------------------------------------------------------------------------


def test_roles_take_effect_at_once(server, admin):
    person = create(admin)
    client = log_in(server, person["invite"])
    assert client.ok("GET", "/api/v1/whoami")["roles"] == []
    admin.ok("POST", f"/api/v1/users/{person['id']}/roles", json={"role": "auditor"})
    assert client.ok("GET", "/api/v1/whoami")["roles"] == ["auditor"]
    admin.ok("POST", f"/api/v1/users/{person['id']}/roles", json={"role": "auditor"})
    admin.ok("DELETE", f"/api/v1/users/{person['id']}/roles/auditor")
    assert client.ok("GET", "/api/v1/whoami")["roles"] == []
    admin.refused(404, "DELETE", f"/api/v1/users/{person['id']}/roles/auditor")


def test_an_admin_of_a_namespace_stays_in_it(server, admin):
    local = log_in(server, create(admin, roles=["admin@fraud"])["invite"])
    create(local, roles=["contributor@fraud"])
    for roles in (["contributor"], ["contributor@other"], ["admin"]):
        local.refused(403, "POST", "/api/v1/users", json={"name": new_name(), "roles": roles})
    target = create(admin, roles=["contributor@other"])
    local.refused(403, "DELETE", f"/api/v1/users/{target['id']}/roles/contributor@other")
    local.refused(403, "POST", f"/api/v1/users/{target['id']}/erase")


def test_the_last_admin_stays(fresh_server):
    admin = fresh_server.client(fresh_server.admin_token)
    me = admin.ok("GET", "/api/v1/whoami")["user"]["id"]
    admin.refused(409, "DELETE", f"/api/v1/users/{me}/roles/admin")
    admin.refused(409, "POST", f"/api/v1/users/{me}/status", json={"status": "disabled"})
    admin.refused(409, "POST", f"/api/v1/users/{me}/erase")
    other = log_in(fresh_server, create(admin, roles=["admin"])["invite"])
    other.ok("DELETE", f"/api/v1/users/{me}/roles/admin")
    admin.refused(403, "POST", "/api/v1/users", json={"name": new_name()})


# --- status and erasure --------------------------------------------------------------------------


def test_disabling_stops_tokens_and_those_of_owned_services(server, admin):
    person = create(admin)
    client = log_in(server, person["invite"])
    service = create(admin, kind="service", owner=person["id"])
    job = server.client(service["token"])
    job.ok("GET", "/api/v1/whoami")
    admin.ok("POST", f"/api/v1/users/{person['id']}/status", json={"status": "disabled"})
    client.refused(401, "GET", "/api/v1/whoami")
    job.refused(401, "GET", "/api/v1/whoami")
    admin.ok("POST", f"/api/v1/users/{person['id']}/status", json={"status": "active"})
    client.ok("GET", "/api/v1/whoami")
    job.ok("GET", "/api/v1/whoami")


def test_erasure_forgets_the_name_for_ever(server, admin):
    name = new_name("forget-me")
    person = create(admin, name=name, roles=["contributor@fraud"])
    client = log_in(server, person["invite"])
    erased = admin.ok("POST", f"/api/v1/users/{name}/erase")
    assert erased["name"] is None and erased["status"] == "erased"
    client.refused(401, "GET", "/api/v1/whoami")
    admin.ok("POST", f"/api/v1/users/{person['id']}/erase")
    admin.refused(410, "POST", f"/api/v1/users/{person['id']}/status", json={"status": "active"})
    admin.refused(410, "POST", f"/api/v1/users/{person['id']}/roles", json={"role": "admin"})
    admin.refused(404, "GET", f"/api/v1/users/{name}")
    create(admin, name=name)


def test_erasure_forgets_stored_replies(fresh_server):
    admin = fresh_server.client(fresh_server.admin_token)
    body = {"name": new_name("forget-me")}
    keys = [{"Idempotency-Key": new_name("key")} for _ in range(3)]
    person = admin.ok("POST", "/api/v1/users", json=body, headers=keys[0])
    other = {"name": new_name("stays")}
    stays = admin.ok("POST", "/api/v1/users", json=other, headers=keys[1])
    service = {"name": new_name("bot"), "kind": "service", "owner": person["id"]}
    admin.ok("POST", "/api/v1/users", json=service, headers=keys[2])
    client = log_in(fresh_server, person["invite"])
    client.ok("POST", "/api/v1/tokens", json={}, headers=keys[0])
    stored = "select count(*) from idempotency"
    assert fresh_server.sql(stored) == "4"
    admin.ok("POST", f"/api/v1/users/{person['id']}/erase")
    assert fresh_server.sql(f"{stored} where body::text like '%{body['name']}%'") == "0"
    assert fresh_server.sql(f"{stored} where body::text like '%{person['id']}%'") == "0"
    assert fresh_server.sql(stored) == "1"
    again = admin.post("/api/v1/users", json=other, headers=keys[1])
    assert again.json()["id"] == stays["id"]


# --- tokens --------------------------------------------------------------------------------------


def test_tokens_narrow_expire_and_end(server, admin):
    person = create(admin, roles=["contributor@fraud", "evaluator"])
    client = log_in(server, person["invite"])
    made = client.ok(
        "POST", "/api/v1/tokens", json={"scope": ["contributor@fraud"], "expires_in": 3600}
    )
    narrow = server.client(made["token"])
    who = narrow.ok("GET", "/api/v1/whoami")
    assert who["roles"] == ["contributor@fraud"]
    assert any("expires in" in w for w in who["warnings"])
    narrow.refused(403, "POST", "/api/v1/tokens", json={"scope": ["evaluator"]})
    inherited = server.client(narrow.ok("POST", "/api/v1/tokens", json={})["token"])
    assert inherited.ok("GET", "/api/v1/whoami")["roles"] == ["contributor@fraud"]
    everywhere = server.client(
        client.ok("POST", "/api/v1/tokens", json={"scope": ["evaluator@fraud"]})["token"]
    )
    assert everywhere.ok("GET", "/api/v1/whoami")["roles"] == ["evaluator@fraud"]
    client.ok("DELETE", f"/api/v1/tokens/{made['id']}")
    narrow.refused(401, "GET", "/api/v1/whoami")
    client.ok("GET", "/api/v1/whoami")
    listed = {t["id"]: t for t in client.ok("GET", "/api/v1/tokens")}
    assert listed[made["id"]]["revoked"] is True
    assert all("token" not in t for t in listed.values())


def test_an_expired_token_is_told_so(server, admin):
    made = admin.ok("POST", "/api/v1/tokens", json={"expires_in": 1})
    client = server.client(made["token"])
    import time

    time.sleep(1.2)
    assert "expired" in client.refused(401, "GET", "/api/v1/whoami")["detail"]


def test_nobody_makes_or_ends_tokens_of_another_person(server, admin):
    first = log_in(server, create(admin)["invite"])
    second = create(admin)
    first.refused(403, "POST", "/api/v1/tokens", json={"user": second["id"]})
    admin.refused(403, "POST", "/api/v1/tokens", json={"user": second["id"]})
    other = log_in(server, second["invite"])
    token = other.ok("GET", "/api/v1/whoami")["token"]["id"]
    first.refused(404, "DELETE", f"/api/v1/tokens/{token}")
    admin.ok("DELETE", f"/api/v1/tokens/{token}")
    other.refused(401, "GET", "/api/v1/whoami")


def test_services_have_an_owner_and_never_approve(server, admin):
    owner = create(admin)
    service = create(admin, kind="service", owner=owner["name"], roles=["contributor@fraud"])
    assert service["owner"] == owner["id"] and service["token"].startswith("mlc_")
    problem = admin.refused(
        400,
        "POST",
        "/api/v1/users",
        json={"name": new_name(), "kind": "service", "owner": owner["id"], "roles": ["approver"]},
    )
    assert problem["errors"][0]["pointer"] == "/roles/0"
    admin.refused(400, "POST", f"/api/v1/users/{service['id']}/roles", json={"role": "approver"})
    admin.refused(
        400,
        "POST",
        "/api/v1/users",
        json={"name": new_name(), "kind": "service", "owner": service["id"]},
    )
    mine = log_in(server, owner["invite"])
    fresh = mine.ok("POST", "/api/v1/tokens", json={"user": service["name"]})
    assert server.client(fresh["token"]).ok("GET", "/api/v1/whoami")["user"]["id"] == service["id"]


@pytest.mark.parametrize(
    "value, status",
    [
        ("Bearer nonsense", 401),
        ("Bearer ", 401),
        ("Basic !!!", 401),
        ("Basic bm9jb2xvbg==", 401),
        ("Digest x", 401),
        ("Bearer " + "A" * 3000, 401),
        ("Basic AAAA", 401),
    ],
)
def test_malformed_credentials(server, value, status):
    problem = server.client().refused(
        status, "GET", "/api/v1/whoami", headers={"Authorization": value}
    )
    assert problem["type"] == "urn:mlctl:error:unauthenticated"


def test_basic_takes_the_token_as_password(server, admin):
    reply = server.client().get("/api/v1/whoami", auth=("anyone", server.admin_token))
    assert reply.status_code == 200


# --- keys ----------------------------------------------------------------------------------------


def make_key(path, *options):
    subprocess.run(
        ["ssh-keygen", "-q", "-N", "", "-C", "not stored", "-f", path, *options], check=True
    )
    return path.with_suffix(".pub").read_text()


def prove(client, key, path, namespace="key-proof@mlctl", **changes):
    who = client.ok("GET", "/api/v1/whoami")
    listed = subprocess.run(
        ["ssh-keygen", "-l", "-f", f"{path}.pub"], check=True, capture_output=True, text=True
    )
    fields = {
        "log": who["origin"],
        "user": who["user"]["id"],
        "key": listed.stdout.split()[1],
        **changes,
    }
    text = "mlctl key proof v1\n" + "".join(f"{k} {fields[k]}\n" for k in ("log", "user", "key"))
    signed = subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", path, "-n", namespace],
        input=text,
        check=True,
        capture_output=True,
        text=True,
    )
    return {"public": key, "proof": signed.stdout}


@pytest.mark.parametrize(
    "options",
    [("-t", "ed25519"), ("-t", "ecdsa", "-b", "256"), ("-t", "rsa", "-b", "3072")],
    ids=["ed25519", "ecdsa", "rsa"],
)
def test_keys_are_registered_with_a_proof(server, admin, tmp_path, options):
    client = log_in(server, create(admin)["invite"])
    path = tmp_path / "key"
    body = prove(client, make_key(path, *options), path)
    made = client.post("/api/v1/keys", json=body)
    assert made.status_code == 201, made.text
    assert client.post("/api/v1/keys", json=body).status_code == 200
    key = made.json()
    assert key["public"] in body["public"]
    assert [k["id"] for k in client.ok("GET", "/api/v1/keys")] == [key["id"]]
    # it belongs to this person for ever
    other = log_in(server, create(admin)["invite"])
    other.refused(409, "POST", "/api/v1/keys", json=prove(other, body["public"], path))
    other.refused(404, "DELETE", f"/api/v1/keys/{key['id']}")
    assert client.ok("DELETE", f"/api/v1/keys/{key['id']}")["revoked"] is True
    client.ok("DELETE", f"/api/v1/keys/{key['id']}")
    client.refused(409, "POST", "/api/v1/keys", json=body)


def test_proofs_made_for_something_else_are_refused(server, admin, tmp_path):
    client = log_in(server, create(admin)["invite"])
    path = tmp_path / "key"
    key = make_key(path, "-t", "ed25519")
    for body in (
        prove(client, key, path, namespace="git"),
        prove(client, key, path, log="another/log"),
        prove(client, key, path, user="u000000000000"),
        {"public": key, "proof": "no signature"},
    ):
        problem = client.refused(400, "POST", "/api/v1/keys", json=body)
        assert problem["errors"][0]["pointer"] == "/proof"
    second = tmp_path / "second"
    stranger = make_key(second, "-t", "ed25519")
    swapped = prove(client, key, path)
    problem = client.refused(400, "POST", "/api/v1/keys", json={**swapped, "public": stranger})
    assert problem["errors"][0]["pointer"] == "/proof"


@pytest.mark.parametrize(
    "options", [("-t", "rsa", "-b", "2048"), ("-t", "ecdsa", "-b", "384"), ("-t", "dsa")]
)
def test_weak_and_unknown_keys_are_refused(server, admin, tmp_path, options):
    client = log_in(server, create(admin)["invite"])
    path = tmp_path / "key"
    key = make_key(path, *options)
    problem = client.refused(400, "POST", "/api/v1/keys", json={"public": key, "proof": "x"})
    assert problem["errors"][0]["pointer"] == "/public"


def test_services_have_no_keys(server, admin, tmp_path):
    service = create(admin, kind="service", owner=create(admin)["id"])
    job = server.client(service["token"])
    path = tmp_path / "key"
    job.refused(403, "POST", "/api/v1/keys", json=prove(job, make_key(path, "-t", "ed25519"), path))
