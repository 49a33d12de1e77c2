# SPDX-License-Identifier: Apache-2.0
"""What a result says beside its numbers, and how it looks to people."""
import os
import platform
import re
import subprocess


def machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        cpu = re.search(r"^model name\s*:\s*(.*)$", f.read(), re.M)
    return {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
            "kernel": platform.release()}


def _first(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    found = re.search(r"\d+(\.\d+)+\S*", done.stdout + done.stderr)
    return found.group(0) if found else None


def versions():
    package = ["dpkg-query", "-W", "-f", "${Version}"]
    return {"mlctld": _first(f"{os.environ['MLC_BUILD']}/mlctld", "--version"),
            "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True,
                                     cwd=os.path.dirname(__file__), text=True,
                                     check=False).stdout.strip() or None,
            "postgresql": _first("pgbench", "--version"), "nginx": _first("nginx", "-v"),
            "libmicrohttpd": _first(*package, "libmicrohttpd12"),
            "docker-registry": _first(*package, "docker-registry"),
            "curl": _first("curl", "--version"), "wrk": _first("wrk", "-v")}


def target(what, value, limit, better):
    """One of the numbers that a release is held to."""
    met = value <= limit if better == "lower" else value >= limit
    return {"what": what, "value": round(value, 4), "limit": limit, "better": better, "met": met}


def _number(value):
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _flat(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def table(result):
    lines = [f"{result['name']}{' (quick: the numbers mean nothing)' if result['quick'] else ''}"]
    for side in ("ours", "against"):
        lines.append(f"  {side}")
        lines += [f"    {key:<28} {_number(value)}" for key, value in _flat(result[side])]
    lines.append(f"  ratio {result['ratio']:.3f}, {result['better']} is better; "
                 f"{len(result['samples'])} samples")
    for t in [] if result["quick"] else result["targets"]:
        sign = "≤" if t["better"] == "lower" else "≥"
        lines.append(f"  {'met   ' if t['met'] else 'missed'} {t['what']}: {_number(t['value'])} "
                     f"(wanted {sign} {_number(t['limit'])})")
    lines.append("  on " + ", ".join(f"{v} {k}" if k == "cores" else str(v)
                                     for k, v in result["machine"].items()))
    lines.append("  with " + ", ".join(f"{k} {v}" for k, v in result["versions"].items() if v))
    return "\n".join(lines)
