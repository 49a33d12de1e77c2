# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154  # variables of deploy/quickstart
# The second half of deploy/quickstart, which sources it: promoted versions get live traffic, on real
# inference servers, behind the server's own nginx. Uses step, say, show, refused, as, json, evaluate
# and the variables of there.

# --- inference servers ---------------------------------------------------------------------------

free_port() {
        python3 -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])'
}
# mlserver NAME: an instance of MLServer whose models lie in serving/NAME; sets port.
mlserver() {
        local name=$1
        mkdir -p "$dir/serving/$name"
        port=$(free_port)
        typed operations "MLSERVER_HTTP_PORT=$port … mlserver start serving/$name &"
        MLSERVER_PARALLEL_WORKERS=0 MLSERVER_METRICS_ENDPOINT='' MLSERVER_HOST=127.0.0.1 \
                MLSERVER_HTTP_PORT=$port MLSERVER_GRPC_PORT=$(free_port) MLSERVER_DEBUG=false \
                MLSERVER_MODEL_REPOSITORY_ROOT=$dir/serving/$name \
                setsid "$serving_venv/bin/mlserver" start "$dir/serving/$name" \
                >"$dir/mlserver-$name.log" 2>&1 &
        echo $! >"$dir/mlserver-$name.pid"
}
await_mlserver() {
        for _ in $(seq 600); do
                ! curl -fs "http://127.0.0.1:$2/v2/health/ready" >/dev/null 2>&1 || return 0
                kill -0 "$(cat "$dir/mlserver-$1.pid")" 2>/dev/null || break
                sleep 0.1
        done
        tail -n 5 "$dir/mlserver-$1.log" >&2
        fail "MLServer did not start; all it says is in $dir/mlserver-$1.log"
}

step "Two inference servers come up (MLServer); the server brought a gateway along (nginx)"
mlserver a
port_a=$port
mlserver b
port_b=$port
await_mlserver a "$port_a"
await_mlserver b "$port_b"
gateway=$(cat "$data/gateway-address")
say "applications ask the gateway at $gateway; it splits their requests between versions"

# --- documents -----------------------------------------------------------------------------------

step "An environment with targets: promoting to it moves traffic"
online=$dir/project/online
mkdir -p "$online"
ensemble="sklearn.ensemble._bagging.BaggingClassifier, numpy.core.numeric._frombuffer"
cat >"$online/environment.yaml" <<END
apiVersion: mlctl/v1
kind: Environment
name: online
policy: online
alias: online
targets:
  - name: here
    serving:
      driver: oip
      drain: 10s
      instances:
        - {url: "http://127.0.0.1:$port_a", repository: {dir: "$dir/serving/a"}}
        - {url: "http://127.0.0.1:$port_b", repository: {dir: "$dir/serving/b"}}
    traffic: {driver: nginx, control: "unix:$data/gateway/control.sock"}
END
cat >"$online/policy.yaml" <<END
apiVersion: mlctl/v1
kind: Policy
name: online
checks:
  - {id: safe, type: imports, unsafe: none, allow: [$imports, $ensemble]}
  - {id: card, type: card, sections: [Intended use, Limitations]}
  - {id: origin, type: lineage, requires: [dataset, code, run]}
approvals:
  - {name: reviewer, from: ["role:approver"], count: 1, request_ttl: 72h}
END
# model_document: the model's document with the rollout on stdin
model_document() {
        {
                printf 'apiVersion: mlctl/v1\nkind: Model\nname: demo/scorer\n'
                printf 'policy: scorer-quality\n'
                printf 'routes: [{route: scorer, key: "header:X-User-Id", environments: [online]}]\n'
                cat
        } >"$online/model.yaml"
        typed admin cat project/online/model.yaml
        sed 's/^/    /' "$online/model.yaml"
}
typed admin cat project/online/environment.yaml
sed 's/^/    /' "$online/environment.yaml"
model_document <<'END'
rollout: {strategy: blue-green}
END
show admin mlctl apply -f "$online" --quiet >"$dir/applied.out"
grep -E '^ *[^ ]+\$ |(new|changed|unchanged)$' "$dir/applied.out"

# --- promoting -----------------------------------------------------------------------------------

# candidate DIR OPTION…: trains, pushes and evaluates; sets `evaluated`, its accuracy.
candidate() {
        local model=$1
        shift
        local accuracy
        typed scientist python deploy/example/train.py data-set "$model" "$@"
        accuracy=$(python deploy/example/train.py "$dir/data-set" "$dir/$model" "$@")
        as scientist mlctl push demo/scorer "$dir/$model" "${lineage[@]}" \
                --metric "accuracy=$accuracy" >/dev/null 2>&1
        evaluated=$(evaluate "$model")
        as scientist mlctl evaluate "demo/scorer:${model#model}" \
                --file "$dir/evaluated-$model/evaluation.json" \
                --examples "$dir/evaluated-$model/examples.csv" >/dev/null 2>&1
}
# approved VERSION REASON [LINES]: asks for it in `online`, and a reviewer signs; sets promotion and
# rollout. Shows so many lines of the promotion.
approved() {
        typed scientist mlctl promote "demo/scorer:$1" --to online --reason "'$2'"
        as scientist mlctl promote "demo/scorer:$1" --to online --reason "$2" >"$dir/promote.out"
        head -n "${3:-1}" "$dir/promote.out" | sed 's/^/    /'
        promotion=$(as scientist mlctl promotion list --output json | python -c 'import json, sys
print(next((p["id"] for p in json.load(sys.stdin)
            if p["environment"] == "online" and p["state"] == "awaiting_approval"), ""))')
        [ -n "$promotion" ] || fail "version $1 does not wait for an approval"
        typed reviewer-one mlctl approve "$promotion" --key "$dir/home/reviewer-one/key" \
                --reason checked
        as reviewer-one mlctl approve "$promotion" --key "$dir/home/reviewer-one/key" \
                --reason checked >"$dir/approve.out" 2>&1 || {
                cat "$dir/approve.out" >&2
                fail "it could not be approved"
        }
        rollout=
        for _ in $(seq 200); do
                rollout=$(as scientist mlctl promotion show "$promotion" --output json |
                        python3 -c 'import json, sys; print(json.load(sys.stdin)["rollout"] or "")')
                [ -z "$rollout" ] || return 0
                sleep 0.1
        done
        fail "promotion $promotion does not roll out"
}
# watched CODE: follows the rollout to its end; it must exit with CODE.
watched() {
        local got=0
        typed scientist mlctl rollout watch "$rollout"
        as scientist timeout 120 mlctl rollout watch "$rollout" >"$dir/watch.out" 2>&1 || got=$?
        sed 's/^/    /' "$dir/watch.out"
        [ "$got" -eq "$1" ] || fail "rollout $rollout did not end as it should"
}
# seen: what the application has seen so far, and that nothing was wrong.
seen() {
        say "What the application has seen so far:"
        python - "$dir/load.json" <<'PY' || fail "the application saw something wrong"
import json
import sys
import time

time.sleep(1)  # it writes every half second
with open(sys.argv[1], encoding="ascii") as f:
    report = json.load(f)
for version, seen in report["versions"].items():
    print(f"      version {version}: {seen['requests']:6} answers, half of them within "
          f"{seen['p50_ms']:.0f} ms, 99 % within {seen['p99_ms']:.0f} ms")
print(f"      {report['requests']} requests so far, {report['failed']} failed, "
      f"{report['wrong_versions']} wrong versions")
for example in report["examples"]:
    print(f"      {example}")
sys.exit(1 if report["failed"] or report["wrong_versions"] else 0)
PY
}

# --- live ----------------------------------------------------------------------------------------

step "Version 2 is the first one online"
approved 2 "the first one online" 100
watched 0
ask=$(head -n 2 "$dir/data-set/holdout.csv" | tail -n 1 | sed 's/,[^,]*$//')
ask="{\"inputs\":[{\"name\":\"features\",\"datatype\":\"FP64\",\"shape\":[1,30],\"data\":[$ask]}]}"
typed application curl -d @row.json "$gateway/v2/models/scorer/infer"
curl -fsS -d "$ask" -H 'Content-Type: application/json' "$gateway/v2/models/scorer/infer" |
        python3 -c 'import json, sys
reply = json.load(sys.stdin)
print("    " + json.dumps({k: reply[k] for k in ("model_name", "model_version", "outputs")}))'

step "An application asks all the time, and never twice"
say "It sends held-out rows for 5000 users over connections that stay open, 100 a second, and"
say "compares each answer with what that version's own file predicts."
typed application python deploy/example/load.py "$gateway" scorer data-set/holdout.csv load.json \
        --models model '&'
setsid python deploy/example/load.py "$gateway" scorer "$dir/data-set/holdout.csv" \
        "$dir/load.json" --models "$dir/model" --rate 100 >"$dir/load.out" 2>&1 &
echo $! >"$dir/load.pid"
for _ in $(seq 300); do
        [ "$(json requests <"$dir/load.json" 2>/dev/null || echo 0)" -lt 100 ] || break
        sleep 0.2
done
seen

step "Blue-green: version 3 comes up beside it, and takes over at once"
approved 3 "less regularised"
watched 0
seen
show scientist mlctl env drift online

# --- shadow and canary ---------------------------------------------------------------------------

step "From now on a version is compared before it answers, and answers few at first"
model_document <<'END'
rollout:
  strategy: canary
  steps:
    - {mirror: 100%, requests: 300, advance: proven}
    - {weight: 5%, requests: 40, for: 3s}
    - {weight: 25%, requests: 100, for: 3s}
    - {weight: 50%, requests: 200, for: 3s}
    - {weight: 100%}
  checks:
    - {id: errors, type: error-rate, margin: 5%}
    - {id: slow, type: slower-than, limit: 50ms, margin: 20%}
    - {id: outputs, type: prediction-distribution}
    - {id: agreement, type: shadow-agreement, at_least: 90%}
END
as admin mlctl apply -f "$online" >/dev/null 2>&1
candidate model4 --strength 3
say "accuracy of out-of-fold predictions: $evaluated"
show scientist mlctl rollout plan demo/scorer:4 --to online

step "Version 4: compared on copies, then 5, 25, 50 and 100 % of the users"
approved 4 "hardly regularised"
watched 0
seen
show scientist mlctl rollout explain "$rollout"

# --- broken --------------------------------------------------------------------------------------

step "Version 5 is broken: a hundred models that vote, trained on wrong labels"
say "Its evaluation looks good, since that fits the same pipeline to the right labels."
candidate model5 --ensemble 100 --mislabelled
say "accuracy of out-of-fold predictions: $evaluated"
approved 5 "a hundred heads are better than one"
say "The copies show it. Nobody gets one of its answers:"
watched 1
show scientist mlctl rollout explain "$rollout"
seen

step "Somebody leaves the copies out, and gives it a fifth of the users at once"
model_document <<'END'
rollout:
  strategy: canary
  steps:
    - {weight: 20%, requests: 2000, for: 30s}
    - {weight: 100%}
  checks:
    - {id: errors, type: error-rate, margin: 5%}
    - {id: slow, type: latency, quantile: 50%, margin: 100%}
    - {id: outputs, type: prediction-distribution}
END
as admin mlctl apply -f "$online" >/dev/null 2>&1
approved 5 "it must be the comparison that is wrong"
watched 1
show scientist mlctl rollout explain "$rollout"
seen
show scientist mlctl rollout list --model demo/scorer

# --- what is there -------------------------------------------------------------------------------

step "What runs is what was approved, and the log accounts for all of it"
show scientist mlctl env list
show scientist mlctl env drift online
show auditor mlctl audit verify --trust "$dir/trust" --server "$server"
show admin mlctld check --data "$data"
seen
stop load.pid load.py
tail -n 1 "$dir/load.out" | grep -qE '^[0-9]+ requests, 0 failed requests, 0 wrong versions$' || {
        cat "$dir/load.out" >&2
        fail "the application saw something wrong"
}
