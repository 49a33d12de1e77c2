# SPDX-License-Identifier: Apache-2.0
"""What a log tells about promotions, by the rules of the contract and not by the server's code."""
import collections
import json

JUDGED = {"evaluating", "held", "awaiting_approval"}
OPEN = JUDGED | {"approved", "queued", "scheduled"}
ENDS = {"cancelled", "expired", "superseded"}
WAYS = {
    None: {"evaluating", "live"},
    "evaluating": {"awaiting_approval", "approved", "held", "rejected"},
    "held": {"evaluating"},
    "awaiting_approval": {"approved", "rejected", "evaluating"},
    "approved": {"evaluating", "queued", "scheduled", "rolling_out", "live"},
    "queued": {"scheduled", "rolling_out", "live", "evaluating"},
    "scheduled": {"queued", "rolling_out", "live", "evaluating"},
    "rolling_out": {"live", "rolled_back", "failed"},
    "live": {"replaced", "rolled_back"},
}


class Reading:
    """Reads leaves in order; `wrong` is what is not as it must be. need(environment) is how many
    people must have approved before something is approved or live there."""

    def __init__(self, need=lambda environment: 0):
        self.need = need
        self.wrong = []
        self.states = {}
        self.judged = {}
        self.live = {}
        self.shown = {}
        self.history = collections.defaultdict(list)
        self.approvals = collections.defaultdict(dict)
        self.revoked = set()

    def read(self, leaves):
        for leaf in leaves:
            if leaf["kind"] == "promotion":
                self._promotion(leaf)
            elif leaf["kind"] == "approval":
                self._approval(leaf)
            elif leaf["kind"] == "key" and leaf["state"]["revoked"]:
                self.revoked.add(leaf["id"])
            elif leaf["kind"] == "live":
                self.shown[leaf["id"]] = leaf["state"]["promotion"]
        for (model, environment), promotion in self.live.items():
            if self.shown.get(f"{environment}/{model}") != promotion:
                self.wrong.append(f"{promotion} is live without its leaf of what is live")
        return self

    def _approval(self, leaf):
        state = leaf["state"]
        kind, subject = state["subject"].split(":")
        if kind != "promotion" or state["decision"] != "approve":
            return
        held = self.approvals[subject]
        if leaf["action"] == "approval.create":
            if self.states.get(subject) != "awaiting_approval":
                self.wrong.append(f"{leaf['id']}: {subject} was {self.states.get(subject)}")
            if state["key"] in self.revoked:
                self.wrong.append(f"{leaf['id']}: by a revoked key")
            if any(a["signer"] == state["signer"] for a in held.values()):
                self.wrong.append(f"{leaf['id']}: the second one of {state['signer']}")
            said = json.loads(leaf["detail"]["statement"])
            held[leaf["id"]] = {**state, "verdict": said["verdict_digest"]}
        elif leaf["action"] == "approval.void" and held.pop(leaf["id"], None) is None:
            self.wrong.append(f"{leaf['id']}: void twice")

    def _counted(self, promotion, state):
        people = {a["signer"] for a in self.approvals[promotion].values()
                  if a["key"] not in self.revoked and a["verdict"] == state["verdict"]}
        need = self.need(state["environment"])
        if len(people) < need:
            self.wrong.append(f"{promotion}: {state['state']} with {len(people)} of {need}")

    def _promotion(self, leaf):
        state, promotion = leaf["state"], leaf["id"]
        place = (state["model"], state["environment"])
        before, now = self.states.get(promotion), state["state"]
        self.states[promotion] = now
        self.history[promotion].append(now)
        ways = WAYS.get(before, set()) | (ENDS if before in OPEN else set())
        if now not in ways or (before is None and (now == "live") != bool(state["rollback_of"])):
            self.wrong.append(f"{promotion}: from {before} to {now}")
        if now in JUDGED and self.judged.setdefault(place, promotion) != promotion:
            self.wrong.append(f"{promotion}: {now} beside {self.judged[place]}")
        if now not in JUDGED and self.judged.get(place) == promotion:
            del self.judged[place]
        if before == "live":
            self.live.pop(place, None)
        if now == "live" and self.live.setdefault(place, promotion) != promotion:
            self.wrong.append(f"{promotion}: live beside {self.live[place]}")
        if now in ("approved", "scheduled", "live") and not state["rollback_of"]:
            self._counted(promotion, state)
