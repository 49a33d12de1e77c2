# SPDX-License-Identifier: Apache-2.0
"""Documents: what is applied, who may, what contradicts, and the repository that follows."""
import concurrent.futures
import hashlib
import json
import shutil
import subprocess

import pytest

from support.judged import apply, environment, fresh, log, policy
from support.judged import test_policy as judge
from support.server import Directories, Server, build_directory

from .test_registry import Model, git, snapshot

JSON = {"Content-Type": "application/json"}


def get(http, kind, name, **query):
    return http.ok("GET", f"/api/v1/documents/{kind}/{name}", params=query)


def leaves(server, object_id):
    """Leaves about a document, oldest first."""
    return [leaf for leaf in log(server) if leaf["id"] == object_id and leaf["kind"] == "document"]


def key_of(person):
    person.run("key", "add", f"{person.key()}.pub")


def test_applied(admin, server):
    name = fresh("pol")
    done = apply(admin, policy(name, "[{id: c, type: card, sections: [Intended use]}]"))
    assert (done["unchanged"], done["pending"], done["dry_run"]) == ([], [], False)
    (one,) = done["applied"]
    assert (one["kind"], one["name"], one["version"], one["before"]) == ("Policy", name, 1, None)
    doc = get(admin, "Policy", name)
    assert doc["digest"] == one["digest"] and doc["version"] == 1 and doc["protected"] is None
    assert doc["document"]["checks"][0]["mode"] == "enforce", "defaults are filled in"
    text = json.dumps(doc["document"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert one["digest"] == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    (leaf,) = leaves(server, f"Policy/{name}")
    assert leaf["action"] == "document.apply" and leaf["state"]["digest"] == one["digest"]
    assert leaf["detail"]["document"] == doc["document"], "auditors judge by the leaf alone"


def test_too_large_for_a_leaf(admin):
    name = fresh("pol")
    checks = [f"{{id: c{i}, type: card, sections: [{'x' * 480}]}}" for i in range(110)]
    problem = apply(admin, policy(name, "[" + ", ".join(checks) + "]"), status=413)
    assert f"Policy/{name}" in problem["detail"] and "48 KiB" in problem["detail"]
    apply(admin, policy(name, "[" + ", ".join(checks[:80]) + "]"))


def test_same_again_is_unchanged(admin):
    name = fresh("pol")
    apply(admin, policy(name, "[{id: a, type: freshness, at_most: 30d}]"))
    again = apply(admin, "# the same, written otherwise\n"
                  + policy(name, "[{type: freshness, at_most: 720h, id: a}]"))
    assert again["applied"] == [] and again["unchanged"][0]["version"] == 1
    second = apply(admin, policy(name, "[{id: a, type: freshness, at_most: 7d}]"))["applied"][0]
    first = get(admin, "Policy", name, version=1)
    assert second["before"] == first["digest"] and second["version"] == 2
    doc = get(admin, "Policy", name)
    assert [v["version"] for v in doc["versions"]] == [2, 1]
    assert doc["versions"][1]["digest"] == first["digest"]
    assert first["document"] != doc["document"] and "720h" not in first["yaml"]


def test_dry_run_changes_nothing(admin):
    name = fresh("pol")
    done = apply(admin, policy(name), dry_run="true")
    assert done["dry_run"] and done["applied"][0]["version"] == 1
    admin.refused(404, "GET", f"/api/v1/documents/Policy/{name}")


def test_json_body(admin):
    name = fresh("pol")
    doc = {"apiVersion": "mlctl/v1", "kind": "Policy", "name": name,
           "checks": [{"id": "f", "type": "freshness", "at_most": "30d"}]}
    assert admin.ok("POST", "/api/v1/documents", json={"documents": [doc]})["applied"]
    same = apply(admin, policy(name, "[{id: f, type: freshness, at_most: 30d}]"))
    assert same["unchanged"], "JSON and YAML are one document"
    bad = admin.refused(400, "POST", "/api/v1/documents",
                        json={"documents": [doc, {**doc, "name": "x", "nonsense": 1}]})
    assert bad["errors"][0]["pointer"].startswith("/documents/1")
    admin.refused(400, "POST", "/api/v1/documents", json={"document": doc})
    admin.refused(415, "POST", "/api/v1/documents", data=b"x",
                  headers={"Content-Type": "text/html"})


def test_all_or_nothing(admin):
    one, two = fresh("pol"), fresh("env")
    apply(admin, policy(one) + "---\n" + environment(two, "policy: no-such-policy\n"), status=409)
    admin.refused(404, "GET", f"/api/v1/documents/Policy/{one}")


def test_order_within_a_request_does_not_matter(admin):
    pol, env = fresh("pol"), fresh("env")
    done = apply(admin, environment(env, f"policy: {pol}\n") + "---\n" + policy(pol))
    assert [d["kind"] for d in done["applied"]] == ["Policy", "Environment"]


@pytest.mark.parametrize("text, where", [
    ("apiVersion: mlctl/v1\nkind: Policy\nname: x\nchecksum: 1\n", "line 4"),
    ("apiVersion: mlctl/v1\nkind: Policy\nname: x\nchecks:\n  - {id: a, type: card}\n"
     "  - {id: a, type: nonsense}\n", "line 6"),
    ("apiVersion: mlctl/v1\nkind: Policy\n  name: x\n", "line 2"),
    ("- 1\n", "line 1"),
    ("&a [*a, *a]\n", "line 1"),
])
def test_errors_name_the_line(admin, text, where):
    problem = apply(admin, text, status=400)
    assert where in problem["detail"], problem


def test_what_is_reserved(admin):
    problem = apply(admin, "apiVersion: mlctl/v1\nkind: Namespace\nname: x\n", status=501)
    assert "not supported yet" in problem["detail"]


@pytest.mark.parametrize("more, what", [
    ("policy: no-such-policy-{0}\n", "does not exist"),
    ("after: [{{environment: no-such-env-{0}, live_for: 1h}}]\n", "does not exist"),
    ("owners: ['group:no-such-{0}']\nthreshold: 1\n", "does not exist"),
    ("owners: ['user:nobody-{0}']\nthreshold: 1\n", "there is no user"),
])
def test_what_is_named_exists(admin, more, what):
    name = fresh("env")
    assert what in apply(admin, environment(name, more.format(name)), status=409)["detail"]


def test_unknown_names_in_other_kinds(admin):
    name = fresh("x")
    assert "no user" in apply(admin, f"apiVersion: mlctl/v1\nkind: Group\nname: {name}\n"
                              f"members: ['user:{name}']\n", status=409)["detail"]
    rule = f"[{{name: r, from: ['group:{name}'], count: 1}}]"
    assert "does not exist" in apply(admin, policy(name, approvals=rule), status=409)["detail"]
    assert "does not exist" in apply(
        admin, f"apiVersion: mlctl/v1\nkind: Model\nname: docs/{name}\npolicy: {name}\n",
        status=409)["detail"]


def test_two_environments_never_share_an_alias(admin):
    one, two, alias = fresh("env"), fresh("env"), fresh("alias")
    apply(admin, environment(one, f"alias: {alias}\n"))
    assert one in apply(admin, environment(two, f"alias: {alias}\n"), status=409)["detail"]
    apply(admin, environment(fresh("env"), f"alias: {alias}x\n") + "---\n"
          + environment(fresh("env"), f"alias: {alias}x\n"), status=409)
    apply(admin, environment(one, f"alias: {alias}y\n") + "---\n"
          + environment(two, f"alias: {alias}\n"))


def targets(port, control):
    return ("targets:\n  - name: eu\n    serving:\n      driver: oip\n"
            f"      instances: [{{url: 'http://127.0.0.1:{port}', repository: {{dir: /srv/m}}}}]\n"
            f"    traffic: {{driver: nginx, control: 'unix:/run/{control}.sock'}}\n")


def test_instances_and_controls_belong_to_one_environment(admin):
    one, two = fresh("env"), fresh("env")
    apply(admin, environment(one, targets(18081, one)))
    assert "instance" in apply(admin, environment(two, targets(18081, two)), status=409)["detail"]
    assert "control" in apply(admin, environment(two, targets(18082, one)), status=409)["detail"]
    apply(admin, environment(two, targets(18082, two)))


def model_doc(name, route, env, owner=None):
    owners = f"owners: ['user:{owner}']\n" if owner else ""
    return (f"apiVersion: mlctl/v1\nkind: Model\nname: {name}\n{owners}"
            f"routes: [{{route: {route}, protocol: oip, environments: [{env}]}}]\n")


def test_routes_belong_to_one_model(admin):
    env, route = fresh("env"), fresh("route")
    apply(admin, environment(env))
    apply(admin, model_doc(f"docs/{route}", route, env))
    assert "belongs to" in apply(admin, model_doc(f"docs/{route}b", route, env),
                                 status=409)["detail"]


def test_a_model_adds_checks_and_never_redefines_one(admin):
    pol, own, env = fresh("pol"), fresh("own"), fresh("env")
    check = "[{id: same, type: freshness, at_most: 30d}]"
    apply(admin, policy(pol, check) + "---\n" + environment(env, f"policy: {pol}\n"))
    apply(admin, policy(own, "[{id: other, type: freshness, at_most: 1d}]"))
    apply(admin, f"apiVersion: mlctl/v1\nkind: Model\nname: docs/{own}\npolicy: {own}\n")
    assert "same" in apply(admin, policy(own, "[{id: same, type: freshness, at_most: 99d}]"),
                           status=409)["detail"]


def model_of(name, policy_name):
    return f"apiVersion: mlctl/v1\nkind: Model\nname: docs/{name}\npolicy: {policy_name}\n"


class Clash:
    """An environment whose policy has a check, and names for a model and its policy."""

    def __init__(self, admin):
        self.pol, self.own, self.env, self.check = map(fresh, ("pol", "own", "env", "same"))
        apply(admin, self.policy(self.pol) + "---\n"
              + environment(self.env, f"policy: {self.pol}\n"))

    def policy(self, name, days=30):
        return policy(name, f"[{{id: {self.check}, type: freshness, at_most: {days}d}}]")

    def says_why(self, problem, env=None, pol=None):
        for part in (f"'{self.check}'", f"docs/{self.own}", f"'{env or self.env}'",
                     f"Policy/{pol or self.pol}", "choose another name"):
            assert part in problem["detail"], problem


@pytest.fixture
def clash(admin):
    return Clash(admin)


def test_clash_when_the_model_comes_last(admin, clash):
    own = clash.own
    apply(admin, clash.policy(own))
    clash.says_why(apply(admin, model_of(own, own), status=409))
    clash.says_why(apply(admin, clash.policy(own, 1) + "---\n" + model_of(own, own), status=409))
    assert admin.get(f"/api/v1/documents/Model/docs/{own}").status_code == 404


def test_clash_when_the_environment_comes_last(admin, clash):
    pol, own = clash.pol, clash.own
    apply(admin, policy(pol))
    apply(admin, clash.policy(own) + "---\n" + model_of(own, own))
    clash.says_why(apply(admin, clash.policy(pol), status=409))
    other, strict = fresh("env"), fresh("pol")
    clash.says_why(apply(admin, clash.policy(strict) + "---\n"
                         + environment(other, f"policy: {strict}\n"), status=409), other, strict)
    # what the request takes out of the way is out of the way
    apply(admin, clash.policy(pol) + "---\n" + policy(own))
    apply(admin, policy(pol) + "---\n" + clash.policy(own))
    mild = fresh("own")
    apply(admin, clash.policy(pol) + "---\n" + policy(mild) + "---\n" + model_of(own, mild))


def test_a_model_may_name_the_environments_policy(admin, user, clash):
    """It adds nothing then: neither applying nor judging finds it twice."""
    person = user("contributor@docs")
    model = Model(person.http, ns="docs")
    version = model.version()["version"]
    both = (clash.policy(clash.pol, 7) + "---\n"
            + environment(clash.env, f"policy: {clash.pol}\nalias: {clash.env}\n") + "---\n"
            + model_of(model.name.partition("/")[2], clash.pol))
    assert len(apply(admin, both)["applied"]) == 3
    again = apply(admin, both)
    assert again["applied"] == [] and len(again["unchanged"]) == 3
    checks = judge(person.http, model.name, version, clash.env)["verdict"]["checks"]
    assert [(c["id"], c["layer"]) for c in checks] == [(clash.check, f"Policy/{clash.pol}")]


def test_what_waits_for_owners_is_not_there_yet(admin, user, clash):
    """The clash would end with a change that owners may never sign."""
    one, own = user(), clash.own
    key_of(one)
    apply(admin, environment(clash.env, f"policy: {clash.pol}\n" + owned([one], 1)))
    text = policy(clash.pol) + "---\n" + clash.policy(own) + "---\n" + model_of(own, own)
    problem = apply(admin, text, status=409)
    clash.says_why(problem)
    assert "before what needs signatures" in problem["detail"]
    assert admin.get(f"/api/v1/documents/Model/docs/{own}").status_code == 404


def test_people_are_kept_as_ids(admin, user, server):
    person = user(name=fresh("dana"))
    name = fresh("group")
    apply(admin, f"apiVersion: mlctl/v1\nkind: Group\nname: {name}\n"
          f"members:\n  - user:{person.name}  # the boss\n")
    doc = get(admin, "Group", name)
    assert doc["document"]["members"] == [f"user:{person.id}"]
    assert doc["people"] == {person.id: person.name}
    assert person.name not in doc["yaml"] and "# the boss" in doc["yaml"]
    repo = server.directory / "git" / "documents.git"
    shown = git(repo, "show", f"main:Group/{name}.yaml").stdout.decode()
    assert shown == doc["yaml"]
    again = apply(admin, f"apiVersion: mlctl/v1\nkind: Group\nname: {name}\n"
                  f"members: ['user:{person.id}']\n")
    assert again["unchanged"]


def test_services_are_no_members(admin, user):
    person = user("contributor@docs")
    service = fresh("ci")
    admin.ok("POST", "/api/v1/users", json={"name": service, "kind": "service",
                                            "owner": person.name})
    problem = apply(admin, f"apiVersion: mlctl/v1\nkind: Group\nname: {service}\n"
                    f"members: ['user:{service}']\n", status=409)
    assert "service" in problem["detail"]


def owned(people, threshold):
    names = ", ".join(f"'user:{p.name}'" for p in people)
    return f"owners: [{names}]\nthreshold: {threshold}\n"


def test_owners_have_keys(admin, user):
    one, two, env = user(), user(), fresh("env")
    key_of(one)
    problem = apply(admin, environment(env, owned([one, two], 2)), status=409)
    assert two.id in problem["detail"] and "key" in problem["detail"]
    assert get_status(admin, env) == 404


def get_status(http, env):
    return http.get(f"/api/v1/documents/Environment/{env}").status_code


def test_founding_is_a_leaf_and_later_changes_need_owners(admin, user, server):
    one, two, env, pol = user(), user(), fresh("env"), fresh("pol")
    key_of(one)
    key_of(two)
    apply(admin, policy(pol) + "---\n" + environment(env, f"policy: {pol}\n"))
    assert get(admin, "Environment", env)["protected"] is False
    apply(admin, environment(env, f"policy: {pol}\n" + owned([one, two], 3)), status=400)
    apply(admin, environment(env, f"policy: {pol}\n" + owned([one, two], 2)))
    assert get(admin, "Environment", env)["protected"] is True
    founding = leaves(server, f"Environment/{env}")[-1]
    assert founding["action"] == "environment.protect"
    assert founding["detail"]["environment"] == env and founding["detail"]["threshold"] == 2
    keys = {o["user"]: o["keys"] for o in founding["detail"]["owners"]}
    assert sorted(keys) == sorted([one.id, two.id]) and all(keys.values())
    before = get(admin, "Environment", env)["digest"], get(admin, "Policy", pol)["digest"]
    for text in (environment(env, f"policy: {pol}\n"), policy(pol, "[{id: c, type: card}]"),
                 model_doc(f"docs/{env}", env, env)):
        reply = admin.post("/api/v1/documents", data=text.encode(),
                           headers={"Content-Type": "text/yaml"})
        # recorded for the owners, or refused: an admin alone changes nothing
        assert reply.status_code == 501 or reply.json()["pending"], reply.text
        assert reply.status_code == 501 or reply.json()["applied"] == []
    assert before == (get(admin, "Environment", env)["digest"], get(admin, "Policy", pol)["digest"])


def test_warns_when_owners_guard_what_nobody_approves(admin, user):
    owner, env, pol = user(), fresh("env"), fresh("pol")
    key_of(owner)
    done = apply(admin, policy(pol) + "---\n" + environment(env, f"policy: {pol}\n"))
    assert done["warnings"] == [], "without owners it says unprotected anyway"
    guarded = environment(env, f"policy: {pol}\n" + owned([owner], 1))
    (warning,) = apply(admin, guarded, dry_run="true")["warnings"]
    assert warning.startswith(f"Environment/{env}: ") and "asks nobody to approve" in warning
    both = policy(pol, "[]", "[{name: r, from: ['user:" + owner.name + "'], count: 1}]")
    assert apply(admin, both + "---\n" + guarded)["warnings"] == []
    (warning,) = apply(admin, policy(pol))["warnings"]
    assert warning.startswith(f"Policy/{pol}: ") and f"'{env}'" in warning
    assert apply(admin, both)["warnings"] == []


def test_rights(admin, user):
    env, pol = fresh("env"), fresh("pol")
    local = user("admin@docs", "contributor@docs")
    apply(local.http, environment(env), status=403)
    apply(local.http, policy(pol), status=403)
    reader, writer = user("auditor@docs"), user("contributor@docs")
    name = f"docs/{fresh('m')}"
    text = f"apiVersion: mlctl/v1\nkind: Model\nname: {name}\n"
    apply(reader.http, text, status=403)
    apply(user("contributor@elsewhere").http, text, status=404)
    apply(writer.http, text + f"owners: ['user:{local.name}']\n")
    apply(writer.http, text + "labels: {a: b}\n", status=403)
    owner = user("auditor@docs")
    apply(local.http, text + f"owners: ['user:{owner.name}']\n")
    apply(owner.http, text + f"owners: ['user:{owner.name}']\nlabels: {{tier: high}}\n")
    assert get(reader.http, "Model", name)["document"]["labels"] == {"tier": "high"}
    stranger = user("auditor@elsewhere")
    stranger.http.refused(404, "GET", f"/api/v1/documents/Model/{name}")
    assert name not in str(stranger.http.ok("GET", "/api/v1/documents",
                                            params={"kind": "Model", "limit": 1000}))


def test_list_in_pages(admin):
    names = sorted(fresh("page") for _ in range(3))
    for name in names:
        apply(admin, policy(name))
    seen, cursor = [], {}
    while True:
        page = admin.ok("GET", "/api/v1/documents", params={"kind": "Policy", "limit": 2, **cursor})
        seen += [d["name"] for d in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert [n for n in seen if n in names] == names and len(seen) == len(set(seen))


def test_schemas(admin, server):
    for name in ("policy.json", "environment.json", "model.json", "group.json", "evaluation.json"):
        reply = server.client().get(f"/schema/{name}")
        assert reply.status_code == 200, name
        assert reply.headers["Content-Type"] == "application/schema+json"
        assert "$schema" in reply.json()
    admin.refused(404, "GET", "/schema/nothing.json")


def test_commits_are_signed_and_hold_all_documents(admin, server, tmp_path):
    name = fresh("pol")
    apply(admin, policy(name))
    repo = server.directory / "git" / "documents.git"
    doc = get(admin, "Policy", name)
    assert git(repo, "rev-parse", "main").stdout.decode().strip() == doc["commit"]
    signers = tmp_path / "signers"
    signers.write_bytes(server.client().ok("GET", "/keys/allowed_signers"))
    git(repo, "verify-commit", "main", signers=signers)
    assert json.loads(git(repo, "show", f"main:Policy/{name}.json").stdout) == doc["document"]


def test_many_at_once(admin, server):
    """Each gets its place in one history; the same document is made once."""
    same, names = fresh("same"), [fresh("many") for _ in range(8)]
    texts = [policy(same)] * 8 + [policy(name) for name in names]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        done = list(pool.map(lambda t: apply(server.client(server.admin_token), t), texts))
    assert sum(len(d["applied"]) for d in done) == 9
    assert sum(len(d["unchanged"]) for d in done) == 7
    assert server.sql("select count(*) = max(seq) from document_version") == "t"
    log = git(server.directory / "git" / "documents.git", "log", "--format=%s", "main")
    assert log.stdout.decode().split("\n").count(f"Policy/{same} 1") == 1


def test_a_request_of_many(admin, server):
    """One transaction, one history in order, and the repository follows at once, in one pack."""
    names = [fresh("bulk") for _ in range(60)]
    repo = server.directory / "git" / "documents.git"
    before = len(list((repo / "objects" / "pack").glob("*.pack")))
    commits = int(git(repo, "rev-list", "--count", "main").stdout)
    done = apply(admin, "---\n".join(policy(name) for name in names))
    assert [d["name"] for d in done["applied"]] == names
    assert int(git(repo, "rev-list", "--count", "main").stdout) == commits + 60
    log = git(repo, "log", "--reverse", "--format=%s", "main").stdout.decode().split("\n")
    assert [line for line in log if "/bulk-" in line] == [f"Policy/{n} 1" for n in names]
    assert len(list((repo / "objects" / "pack").glob("*.pack"))) == before + 1
    git(repo, "fsck", "--strict")
    last = get(admin, "Policy", names[-1])
    assert git(repo, "rev-parse", "main").stdout.decode().strip() == last["commit"]
    apply(admin, policy(names[0], "[{id: c, type: card}]"))
    assert int(git(repo, "rev-list", "--count", "main").stdout) == commits + 61


def program(server, *args):
    return subprocess.run([build_directory() / "mlctld", *args, "--data", server.directory],
                          capture_output=True, text=True, check=False, timeout=120)


def test_rebuilt_and_repaired(make_server):
    server = make_server().start()
    http = server.client(server.admin_token)
    for i in range(3):
        apply(http, policy("p", f"[{{id: a, type: freshness, at_most: {i + 1}d}}]"))
        apply(http, policy(f"q{i}"))
    repo = server.directory / "git" / "documents.git"
    before = snapshot(repo)
    server.kill()
    oldest = git(repo, "rev-list", "--max-parents=0", "main").stdout
    (repo / "refs/heads/main").write_bytes(oldest)
    server.start()
    assert snapshot(repo) == before
    server.stop()
    shutil.rmtree(repo)
    done = program(server, "rebuild-git")
    assert done.returncode == 0 and json.loads(done.stdout)["documents"] == 6, done.stderr
    assert snapshot(repo) == before
    done = program(server, "check")
    assert done.returncode == 0 and json.loads(done.stdout)["ok"] is True, done.stdout


TAMPER = {
    "yaml": "update document_version set yaml = yaml || '# x' where name = 'p'",
    "normal": "update document_version set normal = replace(normal, '86400000', '86400001') "
              "where name = 'p'",
    "digest": "update document_version set digest = 'sha256:' || repeat('1', 64) where name = 'p'",
    "author": "update document_version set author = 'u000000000000' where name = 'p'",
    "time": "update document_version set at = at + interval '1 hour' where name = 'p'",
    "head": "update document set digest = 'sha256:' || repeat('1', 64) where name = 'p'",
    "gone": "delete from document_commit where seq = 1",
}


TABLES = ("document", "document_version", "document_commit")


def as_owner(server, *statements):
    """Past the triggers, as whoever holds the database's password could."""
    off = [f"alter table {t} disable trigger user" for t in TABLES]
    on = [f"alter table {t} enable trigger user" for t in TABLES]
    server.sql(";".join([*off, *statements, *on]))


@pytest.fixture(scope="module")
def stays():
    """A server of this module with one document."""
    directories = Directories()
    server = Server(directories.new()).start()
    apply(server.client(server.admin_token), policy("p", "[{id: a, type: freshness, at_most: 1d}]"))
    yield server
    server.stop()
    directories.remove()


@pytest.mark.parametrize("what", TAMPER)
def test_check_finds_a_changed_document(stays, what):
    for table in TABLES:
        stays.sql(f"create table saved_{table} as table {table}")
    try:
        as_owner(stays, TAMPER[what])
        done = program(stays, "check")
        verdict = json.loads(done.stdout)
        assert done.returncode == 1 and verdict["ok"] is False, done.stdout
        assert "document" in verdict["what"].lower(), verdict
    finally:
        as_owner(stays, *(f"delete from {t}" for t in reversed(TABLES)),
                 *(f"insert into {t} select * from saved_{t}" for t in TABLES),
                 *(f"drop table saved_{t}" for t in TABLES))
    assert json.loads(program(stays, "check").stdout)["ok"] is True
