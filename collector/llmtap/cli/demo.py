"""`llmtap demo`: a few hundred varied calls by the real openai and anthropic SDKs, through the
running proxy, to a scripted backend; then what was stored of them."""

from __future__ import annotations

import random
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from llmtap.cli.client import Api, CommandError
from llmtap.cli.demo_backend import DemoBackend
from llmtap.cli.show import call_table, duration, money
from llmtap.config import Config

UPSTREAM = "demo"
THREADS = 8
WAIT_S = 15.0
_QUESTIONS = (
    "How do I reset my password?",
    "Summarise the attached meeting notes in three points. " * 6,
    "Schreibe eine kurze Absage an einen Bewerber.",
    "What is the weather in Lisbon?",
    "Explain vector databases to a twelve-year-old.",
)
_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


class _Caller:
    """One thread's SDK clients; every method makes one call of a kind."""

    def __init__(self, proxy: str, demo_id: str) -> None:
        base = f"{proxy}/{UPSTREAM}"
        common: dict[str, Any] = {"api_key": "sk-demo", "max_retries": 0, "timeout": 30}
        self._openai = openai.OpenAI(base_url=f"{base}/v1", **common)
        self._anthropic = anthropic.Anthropic(base_url=base, **common)
        self._demo_id = demo_id

    def _headers(self, rng: random.Random) -> dict[str, str]:
        user = rng.choice(["ada", "grace", "linus", "margaret"])
        return {
            "llmtap-user-id": user,
            "llmtap-session-id": f"{user}-{rng.randint(1, 3)}",
            "llmtap-property-demo": self._demo_id,
            "llmtap-property-feature": rng.choice(["support", "search", "writing"]),
            "llmtap-prompt-name": "demo",
            "llmtap-prompt-version": rng.choice(["1", "2"]),
        }

    def _ask(self, rng: random.Random, model: str, **more: Any) -> Any:
        messages: Any = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": rng.choice(_QUESTIONS)},
        ]
        return self._openai.chat.completions.create(
            model=model, messages=messages, extra_headers=self._headers(rng), **more
        )

    def chat(self, rng: random.Random) -> None:
        self._ask(rng, rng.choice(["gpt-4o-mini", "gpt-4o", "gpt-4.1-mini"]), temperature=0.2)

    def stream(self, rng: random.Random) -> None:
        options = {"include_usage": True} if rng.random() < 0.7 else None
        model = rng.choice(["gpt-4o-mini", "gpt-4o"])
        for _ in self._ask(rng, model, stream=True, stream_options=options):
            pass

    def tools(self, rng: random.Random) -> None:
        self._ask(rng, "gpt-4o", tools=[_TOOL])

    def error(self, rng: random.Random) -> None:
        try:
            self._ask(rng, rng.choice(["gpt-missing", "gpt-busy"]))
        except openai.APIStatusError:
            return  # what this call is for

    def broken_stream(self, rng: random.Random) -> None:
        try:
            for _ in self._ask(rng, "gpt-breaks", stream=True):
                pass
        except openai.APIError:
            return

    def abort(self, rng: random.Random) -> None:
        stream = self._ask(rng, "gpt-4o-mini", stream=True)
        for i, _ in enumerate(stream):
            if i == 5:
                stream.close()
                return

    def embed(self, rng: random.Random) -> None:
        self._openai.embeddings.create(
            model="text-embedding-3-small",
            input=[rng.choice(_QUESTIONS), "second text"],
            encoding_format="float",
            extra_headers=self._headers(rng),
        )

    def claude(self, rng: random.Random) -> None:
        self._anthropic.messages.create(
            model=rng.choice(["claude-sonnet-4-6", "claude-haiku-4-5"]),
            max_tokens=200,
            system="You are terse.",
            messages=[{"role": "user", "content": rng.choice(_QUESTIONS)}],
            extra_headers=self._headers(rng),
        )

    def claude_stream(self, rng: random.Random) -> None:
        with self._anthropic.messages.stream(
            model="claude-sonnet-4-6",
            max_tokens=200,
            messages=[{"role": "user", "content": rng.choice(_QUESTIONS)}],
            extra_headers=self._headers(rng),
        ) as stream:
            for _ in stream.text_stream:
                pass

    def kinds(self) -> list[tuple[Callable[[random.Random], None], int]]:
        """(method, weight)."""
        return [
            *((self.chat, 30), (self.stream, 25), (self.tools, 6), (self.error, 6)),
            *((self.broken_stream, 2), (self.abort, 2), (self.embed, 10)),
            *((self.claude, 12), (self.claude_stream, 10)),
        ]


def run_demo(proxy: str, api: Api, config: Config, count: int) -> None:
    """Raises CommandError with what to do."""
    target = urlsplit(config.upstreams[UPSTREAM].base_url)
    if target.hostname not in ("127.0.0.1", "localhost") or not target.port:
        raise CommandError("[upstreams.demo] must be a port of this machine for the demo")
    console = Console(width=None if sys.stdout.isatty() else 180)
    demo_id = uuid.uuid4().hex[:8]
    try:
        with DemoBackend("127.0.0.1", target.port):
            sent = _send(console, proxy, demo_id, count)
    except OSError as e:
        raise CommandError(
            f"the demo's backend cannot listen on port {target.port}: {e.strerror or e}. "
            "Set [upstreams.demo] base_url to a free port and restart llmtap"
        ) from e
    _wait_stored(console, api, demo_id, sent)
    _report(console, api, demo_id)


def _send(console: Console, proxy: str, demo_id: str, count: int) -> int:
    rng = random.Random(7)
    callers = [_Caller(proxy, demo_id) for _ in range(THREADS)]
    methods, weights = zip(*callers[0].kinds(), strict=True)
    names = [m.__name__ for m in rng.choices(methods, weights=weights, k=count)]
    names[: len(methods)] = [m.__name__ for m in methods]  # every kind at least once
    columns = (TextColumn("sending calls"), BarColumn(), MofNCompleteColumn())
    with ThreadPoolExecutor(THREADS) as pool, Progress(*columns, console=console) as progress:
        task = progress.add_task("calls", total=count)
        work = [
            pool.submit(getattr(callers[i % THREADS], name), random.Random(i))
            for i, name in enumerate(names)
        ]
        for done in as_completed(work):
            done.result()
            progress.advance(task)
    return count


def _wait_stored(console: Console, api: Api, demo_id: str, sent: int) -> None:
    """The last calls need a moment to become rows."""
    sql = f"SELECT count() FROM calls WHERE properties['demo'] = '{demo_id}'"
    deadline = time.monotonic() + WAIT_S
    stored = 0
    while time.monotonic() < deadline:
        stored = int(api.sql(sql, "TSV"))
        if stored >= sent:
            break
        time.sleep(0.1)
    style = "bold green" if stored == sent else "bold red"
    console.print(f"{sent} calls sent, {stored} stored", style=style)


def _report(console: Console, api: Api, demo_id: str) -> None:
    import json

    def rows(sql: str) -> list[dict[str, Any]]:
        text = api.sql(sql.format(where=f"properties['demo'] = '{demo_id}'"), "JSONEachRow")
        return [json.loads(line) for line in text.splitlines()]

    table = Table(box=None, header_style="bold", pad_edge=False)
    heads = ("model", "calls", "ok", "tokens in", "out", "cost", "p50", "p95", "first token p50")
    for head in heads:
        table.add_column(head, justify="left" if head == "model" else "right")
    for row in rows(
        "SELECT model_requested AS model, count() AS calls, countIf(status = 'ok') AS ok, "
        "sum(c.input_tokens) AS i, sum(c.output_tokens) AS o, sum(c.cost_usd) AS cost, "
        "quantile(0.5)(duration_us) AS p50, quantile(0.95)(duration_us) AS p95, "
        "quantile(0.5)(ttft_us) AS ttft FROM calls AS c WHERE {where} "
        "GROUP BY model ORDER BY calls DESC"
    ):
        numbers = (row["model"], row["calls"], row["ok"], row["i"] or 0, row["o"] or 0)
        times = (duration(row["p50"]), duration(row["p95"]), duration(row["ttft"]))
        table.add_row(*map(str, numbers), money(row["cost"]), *times)
    console.print(table)
    total = rows("SELECT sum(cost_usd) AS cost FROM calls WHERE {where}")[0]["cost"]
    console.print(f"\ncost of the demo at list prices: [bold]{money(total)}[/bold]")
    slowest = rows("SELECT * FROM calls WHERE {where} ORDER BY duration_us DESC LIMIT 1")
    for row in slowest:
        console.print("\nslowest call:")
        console.print(call_table([row]))
        console.print("\nTry next:", style="bold")
        console.print(f"  llmtap show {row['id']}")
    console.print(
        "  llmtap calls --status error --since 1h\n"
        '  llmtap sql "SELECT user_id, count(), sum(cost_usd) FROM calls GROUP BY user_id"\n'
        '  llmtap sql "SELECT model_requested, quantile(0.99)(ttft_us) / 1000 AS ttft_ms '
        'FROM calls WHERE stream GROUP BY 1"',
        markup=False,
        highlight=False,
    )
