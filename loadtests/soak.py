"""`make soak`: mixed load with aborts for SOAK_MINUTES (20); memory and open files must stay level.

Prints a line a minute and ends with the growth between the first and the last third.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loadtests.bench import BACKEND, children, process
from loadtests.load import BODY

MINUTES = float(os.environ.get("SOAK_MINUTES", "20"))
CLIENTS = 16


async def _client(port: int, seed: int, stop_at: float) -> int:
    """Chats, streams, aborted streams and odd requests, one after another."""
    rng = random.Random(seed)
    count = 0
    while time.monotonic() < stop_at:
        kind = rng.choice(["chat", "chat", "stream", "abort", "reconnect", "bad"])
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
            continue
        path = b"/b/v1/chat/stream" if kind in ("stream", "abort") else b"/b/v1/chat/completions"
        repeat = 1 if kind in ("reconnect", "bad") else 5
        try:
            for _ in range(repeat):
                head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                raw = b"nonsense\r\n\r\n" if kind == "bad" else head % (path, len(BODY)) + BODY
                writer.write(raw)
                count += 1
                if kind == "abort":
                    await reader.readuntil(b"token")
                    break
                if kind == "stream":
                    await reader.readuntil(b"\r\n0\r\n\r\n")
                elif kind == "bad":
                    await reader.read(-1)
                else:
                    got = await reader.readuntil(b"\r\n\r\n")
                    at = got.lower().index(b"content-length:")
                    await reader.readexactly(int(got[at + 15 :].split(b"\r\n")[0]))
                await asyncio.sleep(rng.uniform(0.02, 0.1))
        except (asyncio.IncompleteReadError, OSError):
            await asyncio.sleep(0.05)
        finally:
            writer.close()
    return count


def _sizes(pids: dict[str, int]) -> dict[str, tuple[float, int]]:
    """name → (resident MB, open files)."""
    found: dict[str, tuple[float, int]] = {}
    for name, pid in pids.items():
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmRSS:"))
        found[name] = (rss / 1024, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))
    return found


async def _watch(pids: dict[str, int], stop_at: float) -> list[dict[str, tuple[float, int]]]:
    taken: list[dict[str, tuple[float, int]]] = []
    while time.monotonic() < stop_at:
        await asyncio.sleep(15)
        taken.append(_sizes(pids))
        shown = "  ".join(f"{n} {mb:.0f} MB {fds} files" for n, (mb, fds) in taken[-1].items())
        print(shown, flush=True)
    return taken


async def _run(port: int, pids: dict[str, int]) -> list[dict[str, tuple[float, int]]]:
    stop_at = time.monotonic() + MINUTES * 60
    watching = asyncio.ensure_future(_watch(pids, stop_at))
    counts = await asyncio.gather(*(_client(port, i, stop_at) for i in range(CLIENTS)))
    print(f"{sum(counts)} requests in {MINUTES:g} minutes")
    return await watching


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, ready = folder / "llmtap.toml", folder / "ready.json"
        config.write_text(f'[upstreams.b]\nbase_url = "http://127.0.0.1:{BACKEND}"\n')
        command = (sys.executable, "-m", "llmtap.cli.main", "up", "--config", str(config))
        with (
            process(
                1, sys.executable, "-m", "loadtests.servers", "backend", str(BACKEND), "20", "0.01"
            ),
            process(
                0,
                *command,
                "--data",
                str(folder / "data"),
                "--proxy-port",
                "0",
                *("--admin-port", "0", "--ready-file", str(ready)),
                stdout=subprocess.DEVNULL,
            ) as running,
        ):
            while not ready.exists():
                time.sleep(0.05)
            port = int(json.loads(ready.read_text())["proxy"].rsplit(":", 1)[1])
            pids: dict[str, int] = {"supervisor": running.pid}
            for pid in children(running.pid):
                what = Path(f"/proc/{pid}/cmdline").read_text()
                pids["collector" if "collector.main" in what else "worker"] = pid
            taken = asyncio.run(_run(port, pids))
    third = max(1, len(taken) // 3)
    for name in taken[0]:
        for i, unit in ((0, "MB"), (1, "files")):
            first = statistics.median(t[name][i] for t in taken[third : 2 * third])
            last = statistics.median(t[name][i] for t in taken[-third:])
            print(f"{name}: second third {first:.0f} {unit}, last third {last:.0f} {unit}")


if __name__ == "__main__":
    main()
