# SPDX-License-Identifier: Apache-2.0
"""The Prometheus text exposition format 0.0.4, read strictly."""
import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)\Z")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


class Family:
    """One metric: kind, help and {sorted label pairs: value} of its samples by full name."""

    def __init__(self, name, text):
        self.name, self.help, self.kind = name, text, None
        self.samples = {}

    def value(self, suffix="", **labels):
        return self.samples[(self.name + suffix, tuple(sorted(labels.items())))]


def _labels(text, line):
    found, at = {}, 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, f"labels: {line}"
        assert match.group(1) not in found, f"label twice: {line}"
        found[match.group(1)] = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), match[2])
        at = match.end()
        if at < len(text):
            assert text[at] == "," and at + 1 < len(text), f"labels: {line}"
            at += 1
    return found


def _number(text, line):
    assert re.fullmatch(r"[+-]?Inf|NaN|[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text), line
    return float(text.replace("Inf", "inf"))


def _histogram(family):
    series = {}
    for (name, labels), value in family.samples.items():
        rest = tuple(pair for pair in labels if pair[0] != "le")
        one = series.setdefault(rest, {"bucket": []})
        if name.endswith("_bucket"):
            one["bucket"].append((float(dict(labels)["le"].replace("Inf", "inf")), value))
        else:
            one[name.removeprefix(family.name + "_")] = value
    for labels, one in series.items():
        what = f"{family.name}{dict(labels)}"
        bounds = [bound for bound, _ in one["bucket"]]
        counts = [count for _, count in one["bucket"]]
        assert bounds == sorted(set(bounds)) and bounds[-1] == math.inf, f"{what}: {bounds}"
        assert counts == sorted(counts), f"{what} falls: {counts}"
        assert one["count"] == counts[-1] and one["sum"] >= 0, f"{what}: {one}"


def parse(text):
    """{name: Family}; AssertionError with the line that is wrong."""
    families, current = {}, None
    assert text.endswith("\n"), "the last line has no end"
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            match = re.fullmatch(rf"# HELP ({NAME}) (.+)", line)
            assert match and match[1] not in families, f"again, or no help: {line}"
            current = families[match[1]] = Family(match[1], match[2])
        elif line.startswith("# TYPE "):
            match = re.fullmatch(rf"# TYPE ({NAME}) (\w+)", line)
            assert match and match[2] in TYPES and current, line
            assert match[1] == current.name and current.kind is None, f"TYPE out of place: {line}"
            current.kind = match[2]
        else:
            match = SAMPLE.match(line)
            assert match and current and current.kind, f"no sample of a metric: {line!r}"
            names = [current.name + s for s in SUFFIXES.get(current.kind, ("",))]
            assert match[1] in names, f"stands below {current.name}: {line}"
            key = (match[1], tuple(sorted(_labels(match[2] or "", line).items())))
            assert key not in current.samples, f"twice: {line}"
            current.samples[key] = _number(match[3], line)
            if current.kind == "counter":
                assert current.samples[key] >= 0, line
    for family in families.values():
        assert family.samples, f"{family.name} has no samples"
        if family.kind == "counter":
            assert family.name.endswith("_total"), family.name
        if family.kind == "histogram":
            _histogram(family)
    return families
