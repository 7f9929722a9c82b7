"""`make bench`: llmtap beside nginx, a plain aiohttp forwarder and the direct way, in one run.

What is measured runs pinned to core 0, backend and load to core 1. Every figure is the median of
ROUNDS rounds taken in turn. Writes RESULTS.md: ratios first, budgets of the design beside them.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from llmtap.spool.format import KIND_END, KIND_START
from llmtap.spool.records import CallEnd, CallStart, encode_end, encode_start
from llmtap.spool.writer import Limits, SpoolWriter
from loadtests.load import BODY
from loadtests.servers import ANSWER

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
BACKEND, IDLE, NGINX, AIOHTTP = 19101, 19102, 19110, 19120
TICK = os.sysconf("SC_CLK_TCK")

NGINX_CONF = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream b {{ server 127.0.0.1:{backend}; keepalive 512; }}
  upstream i {{ server 127.0.0.1:{idle}; keepalive 512; }}
  server {{ listen 127.0.0.1:{port} backlog=8192;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location /idle/ {{ proxy_pass http://i/; proxy_read_timeout 600s; }}
    location / {{ proxy_pass http://b; }} }}
}}
"""


@dataclass
class Target:
    """One thing that is measured: how to reach it, whose CPU it is."""

    name: str
    port: int
    prefix: str = ""
    idle_prefix: str = ""
    pids: list[int] = field(default_factory=list[int])

    def cpu_s(self) -> float:
        total = 0.0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / TICK
        return total

    def rss_kb(self) -> int:
        total = 0
        for pid in self.pids:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total


@contextmanager
def process(core: int, *command: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(["taskset", "-c", str(core), *command], **more)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(x) for x in text.split()]


def load(
    target: Target, path: str, clients: int, seconds: float, gap_s: float = 0
) -> dict[str, float]:
    """One run of the load generator, with the target's CPU beside it."""
    before = target.cpu_s()
    out = subprocess.run(
        [
            *("taskset", "-c", "1", sys.executable, "-m", "loadtests.load", str(target.port)),
            *(path, str(clients), str(seconds), str(gap_s)),
        ],
        check=True,
        capture_output=True,
    )
    found: dict[str, float] = json.loads(out.stdout)
    return {**found, "cpu_s": target.cpu_s() - before}


@contextmanager
def stack(folder: Path) -> Iterator[dict[str, Target]]:
    """Backend, nginx, aiohttp forwarder and llmtap, running."""
    with ExitStack() as on:
        python = sys.executable
        servers = (python, "-m", "loadtests.servers")
        on.enter_context(process(1, *servers, "backend", str(BACKEND), "50", "0.02"))
        on.enter_context(process(1, *servers, "backend", str(IDLE), "3600", "1"))
        targets = {"direct": Target("direct", BACKEND)}
        if shutil.which("nginx"):
            conf = folder / "nginx.conf"
            conf.write_text(
                NGINX_CONF.format(folder=folder, backend=BACKEND, idle=IDLE, port=NGINX)
            )
            nginx = on.enter_context(
                process(0, "nginx", "-c", str(conf), stderr=subprocess.DEVNULL)
            )
            time.sleep(1)
            targets["nginx"] = Target("nginx", NGINX, "", "/idle", children(nginx.pid))
        forwarder = on.enter_context(
            process(
                0,
                *servers,
                "aiohttp",
                str(AIOHTTP),
                f"http://127.0.0.1:{BACKEND}",
                stderr=subprocess.DEVNULL,
            )
        )
        targets["aiohttp"] = Target("aiohttp", AIOHTTP, "", "", [forwarder.pid])
        ready = folder / "ready.json"
        config = folder / "llmtap.toml"
        config.write_text(
            f'[upstreams.b]\nbase_url = "http://127.0.0.1:{BACKEND}"\ntrace_context = "strip"\n'
            f'[upstreams.idle]\nbase_url = "http://127.0.0.1:{IDLE}"\n'
            "[spool]\nmax_bytes = 8000000000\n"
        )
        # The proxy alone, as on its own core: the collector's CPU is measured apart.
        command = (python, "-m", "llmtap.cli.main", "proxy", "--config", str(config))
        llmtap = on.enter_context(
            process(
                0,
                *command,
                "--data",
                str(folder / "data"),
                "--proxy-port",
                "0",
                *("--workers", "1", "--ready-file", str(ready)),
                stdout=subprocess.DEVNULL,
            )
        )
        while not ready.exists():
            time.sleep(0.05)
        port = int(json.loads(ready.read_text())["proxy"].rsplit(":", 1)[1])
        targets["llmtap"] = Target("llmtap", port, "/b", "/idle", children(llmtap.pid))
        time.sleep(1)
        yield targets


def median(rounds: list[float]) -> float:
    return statistics.median(rounds)


def requests(targets: dict[str, Target]) -> dict[str, dict[str, float]]:
    """Closed loop, 64 connections: requests/s and CPU per request."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in targets}
    for _ in range(ROUNDS):
        for name, target in targets.items():
            taken[name].append(load(target, f"{target.prefix}/v1/chat/completions", 64, SECONDS))
    return {
        name: {
            "rate": median([r["requests"] / SECONDS for r in runs]),
            "cpu_us": median([r["cpu_s"] / max(1, r["requests"]) * 1e6 for r in runs]),
        }
        for name, runs in taken.items()
    }


def streams(targets: dict[str, Target]) -> dict[str, float]:
    """200 streams of 50 events a second each: CPU microseconds per forwarded event."""
    taken: dict[str, list[float]] = {name: [] for name in targets if name != "direct"}
    for _ in range(ROUNDS):
        for name, runs in taken.items():
            target = targets[name]
            found = load(target, f"{target.prefix}/v1/chat/stream", 200, SECONDS)
            runs.append(found["cpu_s"] / max(1, found["events"]) * 1e6)
    return {name: median(runs) for name, runs in taken.items()}


def latency(targets: dict[str, Target], rate: float) -> dict[str, tuple[float, float]]:
    """Paced at half of llmtap's closed-loop rate: p50 and p99 in microseconds."""
    clients = 32
    gap_s = clients / rate
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in targets}
    for _ in range(ROUNDS):
        for name, target in targets.items():
            path = f"{target.prefix}/v1/chat/completions"
            taken[name].append(load(target, path, clients, SECONDS, gap_s))
    return {
        name: (median([r["p50_us"] for r in runs]), median([r["p99_us"] for r in runs]))
        for name, runs in taken.items()
    }


def memory(targets: dict[str, Target], count: int = 1000) -> dict[str, float]:
    """KB of resident memory per open stream that sends one event a second."""
    found: dict[str, float] = {}
    for name in ("nginx", "llmtap"):
        if name not in targets:
            continue
        target = targets[name]
        before = target.rss_kb()
        path = f"{target.idle_prefix}/v1/chat/stream"
        command = (sys.executable, "-m", "loadtests.load", str(target.port), path)
        running = subprocess.Popen(
            ["taskset", "-c", "1", *command, str(count), "6", "0"], stdout=subprocess.DEVNULL
        )
        time.sleep(4)
        found[name] = (target.rss_kb() - before) / count
        running.wait()
        time.sleep(1)
    return found


def fill_spool(folder: Path, calls: int) -> None:
    """Spools `calls` finished calls of 2 KB + 1 KB, as a worker would."""
    from array import array

    writer = SpoolWriter(folder / "spool", Limits(min_free_bytes=0, max_bytes=1 << 40))
    for i in range(calls):
        call_id = f"01900000-0000-7000-8000-{i:012x}"
        start = CallStart(
            id=call_id,
            ts_us=time.time_ns() // 1000,
            upstream="b",
            provider="auto",
            dialect="auto",
            method="POST",
            path="/v1/chat/completions",
            trace_id=f"{i:032x}",
            span_id=f"{i:016x}",
            headers={"content-type": "application/json"},
        )
        end = CallEnd(
            id=call_id,
            outcome="done",
            duration_us=1000,
            ttfb_us=900,
            http_status=200,
            request_bytes=len(BODY),
            response_bytes=len(ANSWER),
            headers={"content-type": "application/json"},
        )
        writer.append_parts(KIND_START, encode_start(start, [BODY]))
        arrivals = array("I", [900, len(ANSWER)])
        writer.append_parts(KIND_END, encode_end(end, arrivals, [], [ANSWER]))
    writer.close()


@contextmanager
def collector(folder: Path) -> Iterator[tuple[str, Target]]:
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    command = (sys.executable, "-m", "llmtap.cli.main", "collector", "--config", "/dev/null")
    with process(
        0,
        *command,
        "--data",
        str(folder),
        "--admin-port",
        "0",
        "--ready-file",
        str(ready),
        stdout=subprocess.DEVNULL,
    ) as running:
        while not ready.exists():
            time.sleep(0.02)
        pids = children(running.pid)
        yield json.loads(ready.read_text())["admin"], Target("collector", 0, pids=pids)


def count_stored(admin: str) -> int:
    with urllib.request.urlopen(f"{admin}/api/sql?query=SELECT+count()+FROM+calls&format=TSV") as r:
        return int(r.read())


def collecting(folder: Path, calls: int = 40_000) -> float:
    """Calls/s that one core takes from the spool into chDB, MVs and prices included."""
    fill_spool(folder, calls)
    with collector(folder) as (admin, target):
        deadline = time.monotonic() + 120
        while not (first := count_stored(admin)):  # what is loaded once is no part of a rate
            time.sleep(0.02)
        cpu = target.cpu_s()
        while count_stored(admin) < calls and time.monotonic() < deadline:
            time.sleep(0.1)
        return (calls - first) / (target.cpu_s() - cpu)


def freshness(folder: Path, rounds: int = 15) -> float:
    """Median seconds from a finished call to its row in SQL, polled every 10 ms."""
    taken: list[float] = []
    config, ready = folder / "llmtap.toml", folder / "ready.json"
    config.write_text(f'[upstreams.b]\nbase_url = "http://127.0.0.1:{BACKEND}"\n')
    command = (sys.executable, "-m", "llmtap.cli.main", "up", "--config", str(config))
    with (
        process(1, sys.executable, "-m", "loadtests.servers", "backend", str(BACKEND), "1", "0"),
        process(
            0,
            *command,
            "--data",
            str(folder / "data"),
            "--proxy-port",
            "0",
            "--admin-port",
            "0",
            *("--ready-file", str(ready)),
            stdout=subprocess.DEVNULL,
        ),
    ):
        while not ready.exists():
            time.sleep(0.02)
        told = json.loads(ready.read_text())
        for i in range(rounds):
            request = urllib.request.Request(
                f"{told['proxy']}/b/v1/chat/completions", data=BODY, method="POST"
            )
            urllib.request.urlopen(request).read()
            begun = time.monotonic()
            while count_stored(told["admin"]) < i + 1 and time.monotonic() - begun < 10:
                time.sleep(0.01)
            taken.append(time.monotonic() - begun)
    return median(taken)


def verdict(value: float, budget: float, goal: float, smaller: bool = False) -> str:
    sign = -1 if smaller else 1
    if value * sign >= goal * sign:
        return "goal met"
    return "budget met" if value * sign >= budget * sign else "**budget missed**"


def nginx_version() -> str:
    if not shutil.which("nginx"):
        return "not installed"
    out = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    return out.stderr.strip().removeprefix("nginx version: nginx/")


def report(found: dict[str, Any]) -> str:
    rates, chunks, delays = found["requests"], found["streams"], found["latency"]
    memories = found["memory"]
    lines = [
        "# Results",
        "",
        "Made by `make bench` on one machine in one run: what is measured pinned to one core,",
        f"backend and load to another; medians of {ROUNDS} rounds of {SECONDS:g} s taken in turn.",
        "Capture to the spool is on for llmtap. Ratios travel between machines; absolutes do not.",
        "",
        f"{platform.system()} on {os.cpu_count()} virtual cores, Python {platform.python_version()}, "
        f"nginx {nginx_version()}, aiohttp {metadata.version('aiohttp')}, "
        f"chDB {metadata.version('chdb')}.",
        "",
        "| what | llmtap | beside | ratio | budget | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    ours = rates["llmtap"]
    if "nginx" in rates:
        ratio = ours["rate"] / rates["nginx"]["rate"]
        lines.append(
            f"| requests/s per proxy core, 2 KB chat, 64 connections | {ours['rate']:,.0f} | nginx "
            f"{rates['nginx']['rate']:,.0f} | {ratio:.2f} | ≥ 0.4 | ≥ 0.6 | {verdict(ratio, 0.4, 0.6)} |"
        )
        ratio = chunks["llmtap"] / chunks["nginx"]
        lines.append(
            f"| CPU per forwarded SSE event | {chunks['llmtap']:.1f} µs | nginx {chunks['nginx']:.1f} µs "
            f"| {ratio:.2f} | ≤ 1.6 | ≤ 1.2 | {verdict(ratio, 1.6, 1.2, smaller=True)} |"
        )
    ratio = ours["rate"] / rates["aiohttp"]["rate"]
    lines.append(
        f"| requests/s, against a plain aiohttp forwarder without capture | {ours['rate']:,.0f} | "
        f"aiohttp {rates['aiohttp']['rate']:,.0f} | {ratio:.2f} | | | |"
    )
    for i, (name, budget, goal) in enumerate((("p50", 150, 80), ("p99", 1500, 600))):
        added = delays["llmtap"][i] - delays["direct"][i]
        beside = (
            f"nginx {delays['nginx'][i] - delays['direct'][i]:.0f} µs" if "nginx" in delays else "–"
        )
        lines.append(
            f"| added latency at half load, {name} | {added:.0f} µs | {beside} | | ≤ {budget} µs "
            f"| ≤ {goal} µs | {verdict(added, budget, goal, smaller=True)} |"
        )
    beside = f"nginx {memories['nginx']:.1f} KB" if "nginx" in memories else "–"
    lines += [
        f"| memory per open stream | {memories['llmtap']:.1f} KB | {beside} | | ≤ 60 KB | ≤ 25 KB | "
        f"{verdict(memories['llmtap'], 60, 25, smaller=True)} |",
        f"| collector, spool → chDB, calls/s per core | {found['collector']:,.0f} | | | ≥ 5,000 | "
        f"≥ 12,000 | {verdict(found['collector'], 5000, 12000)} |",
        f"| call finished → visible in SQL, median | {found['fresh']:.2f} s | | | ≤ 2 s | ≤ 1 s | "
        f"{verdict(found['fresh'], 2, 1, smaller=True)} |",
        "",
        "| requests, closed loop | requests/s | CPU per request |",
        "|---|---|---|",
    ]
    for name, row in rates.items():
        cpu = f"{row['cpu_us']:.1f} µs" if name != "direct" else "–"
        lines.append(f"| {name} | {row['rate']:,.0f} | {cpu} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        sys.exit("make bench needs two cores and taskset (Linux)")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with stack(folder) as targets:
            found["requests"] = requests(targets)
            found["streams"] = streams(targets)
            half = found["requests"]["llmtap"]["rate"] / 2
            found["latency"] = latency(targets, half)
            found["memory"] = memory(targets)
    for what, measure in (("collector", collecting), ("fresh", freshness)):
        with tempfile.TemporaryDirectory() as name:
            found[what] = measure(Path(name))
    text = report(found)
    (HERE / "RESULTS.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
