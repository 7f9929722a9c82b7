"""How calls look in a terminal. Everything from prompts, outputs and headers is hostile text:
control characters and bidi marks are shown, not obeyed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_STATUS = {"ok": "green", "error": "red", "aborted": "yellow", "timeout": "red", "lost": "magenta"}


def safe(value: Any) -> str:
    """Text that can not move the cursor or hide itself."""
    text = "" if value is None else str(value)
    return _UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def duration(us: Any) -> str:
    """Microseconds as a person reads them."""
    if us is None:
        return ""
    us = int(us)
    if us < 1000:
        return f"{us} µs"
    if us < 1_000_000:
        return f"{us / 1000:.1f} ms"
    return f"{us / 1e6:.2f} s"


def money(usd: Any) -> str:
    """USD; unknown is a dash, never 0."""
    return "–" if usd is None else f"${float(usd):.6f}"


def tokens(row: Mapping[str, Any]) -> str:
    into, out = row.get("input_tokens"), row.get("output_tokens")
    if into is None and out is None:
        return ""
    about = "~" if row.get("usage_source") == "estimated" else ""
    return f"{about}{into if into is not None else '?'}→{out if out is not None else '?'}"


def clock(ts: Any) -> str:
    if isinstance(ts, int):
        import datetime

        ts = datetime.datetime.fromtimestamp(ts / 1e6, datetime.UTC).isoformat()
    return str(ts)[11:23]


COLUMNS = (
    "time",
    "id",
    "upstream",
    "model",
    "status",
    "tokens",
    "cost",
    "ttft",
    "duration",
    "user",
)


def call_cells(row: Mapping[str, Any]) -> list[Text]:
    """One line of a call table."""
    status = str(row["status"])
    shown = status if status != "error" else f"error {row.get('error_type') or ''}"
    model = row.get("model_requested") or row.get("path")
    return [
        Text(clock(row["ts"]), style="dim"),
        Text(safe(row["id"])[:18]),
        Text(safe(row["upstream"])),
        Text(safe(model)[:40]),
        Text(safe(shown)[:32], style=_STATUS.get(status, "")),
        Text(tokens(row)),
        Text(money(row.get("cost_usd"))),
        Text(duration(row.get("ttft_us"))),
        Text(duration(row.get("duration_us"))),
        Text(safe(row.get("user_id"))[:20]),
    ]


def call_table(rows: Iterable[Mapping[str, Any]], title: str = "") -> Table:
    table = Table(title=title or None, box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        right = name in ("tokens", "cost", "ttft", "duration")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*call_cells(row))
    return table


def _messages(text: Any) -> list[dict[str, Any]]:
    try:
        loaded = json.loads(text) if text else []
    except ValueError:
        return []
    return [m for m in loaded if isinstance(m, dict)] if isinstance(loaded, list) else []


def _part(part: dict[str, Any]) -> Text:
    kind = part.get("type")
    match kind:
        case "text" | "refusal":
            return Text(safe(part.get("content")))
        case "reasoning":
            return Text(safe(part.get("content")), style="dim italic")
        case "tool_call":
            arguments = part.get("arguments")
            shown = arguments if isinstance(arguments, str) else json.dumps(arguments)
            return Text(f"→ {safe(part.get('name'))}({safe(shown)})", style="cyan")
        case "tool_call_response":
            response = part.get("response")
            shown = response if isinstance(response, str) else json.dumps(response)
            return Text(f"← {safe(shown)}", style="cyan")
        case "blob":
            about = f"[{part.get('mime_type') or part.get('modality')}, {part.get('size')} bytes]"
            return Text(safe(about), style="magenta")
        case _:
            return Text(safe(json.dumps(part)), style="magenta")


def _conversation(row: Mapping[str, Any]) -> list[RenderableType]:
    shown: list[RenderableType] = []
    for side, style in (("input_messages", "blue"), ("output_messages", "green")):
        for message in _messages(row.get(side)):
            parts = [_part(p) for p in message.get("parts", []) if isinstance(p, dict)]
            title = safe(message.get("role")) or "?"
            if finish := message.get("finish_reason"):
                title += f" · {safe(finish)}"
            body = Group(*parts) if parts else Text("(empty)", style="dim")
            shown.append(Panel(body, title=title, title_align="left", border_style=style))
    return shown


def print_call(console: Console, row: Mapping[str, Any]) -> None:
    """One call, whole: what was said, used, paid and waited for."""
    status = str(row["status"])
    head = Text(f"{row['id']}  ")
    head.append(status, style=_STATUS.get(status, ""))
    console.print(head)
    facts = Table.grid(padding=(0, 2))
    usage = f"{tokens(row)} ({row['usage_source'] or 'unknown'})"
    for extra in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"):
        if row.get(extra):
            usage += f", {extra.removesuffix('_tokens').replace('_', ' ')} {row[extra]}"
    timing = f"{duration(row['duration_us'])}; first byte {duration(row['ttfb_us'])}"
    if row.get("ttft_us") is not None:
        timing += f"; first token {duration(row['ttft_us'])}; per token {duration(row['tpot_us'])}"
    cost = money(row["cost_usd"])
    if row["cost_usd"] is not None:
        cost += f" ({row['price_source']} {row['price_version']})"
    lines = {
        "time": row["ts"],
        "request": f"{row['method']} {row['path']} → {row['upstream']} ({row['dialect']})",
        "model": f"{row['model_requested']} (served: {row['model_served'] or '–'})",
        "http": f"{row['http_status'] or '–'}  {row['finish_reason']}",
        "error": f"{row['error_type']} {row['error_message']}".strip(),
        "usage": usage,
        "usage problem": row["usage_problem"],
        "cost": cost,
        "timing": timing,
        "trace": f"{row['trace_id']} span {row['span_id']}",
        "session": " ".join(x for x in (row["session_id"], row["session_name"]) if x),
        "user": row["user_id"],
        "properties": ", ".join(f"{k}={v}" for k, v in dict(row["properties"]).items()),
        "prompt": f"{row['prompt_name']} {row['prompt_version']}".strip(),
        "not decoded": row["decode_error"],
        "cut": f"bodies truncated ({row['truncated']})" if row["truncated"] else "",
    }
    for name, value in lines.items():
        if value:
            facts.add_row(Text(name, style="bold"), Text(safe(value)))
    for side in ("request_headers", "response_headers"):
        if row[side]:
            text = "\n".join(f"{k}: {v}" for k, v in sorted(dict(row[side]).items()))
            facts.add_row(Text(side.replace("_", " "), style="bold"), Text(safe(text), style="dim"))
    console.print(facts)
    for item in _conversation(row):
        console.print(item)


def cost_table(found: Mapping[str, Any]) -> RenderableType:
    """The answer of `/api/costs`."""
    by = [str(name) for name in found["by"]]
    table = Table(box=None, header_style="dim", show_footer=True)
    total = found["total"]
    for i, name in enumerate(by):
        table.add_column(safe(name), footer="total" if i == 0 else "")
    columns = ("calls", "failed", "input_tokens", "cache_read_tokens", "output_tokens")
    for name in columns:
        table.add_column(name.removesuffix("_tokens"), justify="right", footer=count(total[name]))
    table.add_column("cost", justify="right", footer=money(total["cost_usd"]))
    table.add_column("no price", justify="right", footer=count(total["calls_without_price"]))
    for row in found["groups"]:
        table.add_row(
            *(Text(safe(row[name]) or "–") for name in by),
            *(count(row[name]) for name in columns),
            money(row["cost_usd"]),
            count(row["calls_without_price"]) if row["calls_without_price"] else "",
        )
    if not found["groups"]:
        return "no calls match. Send one through the proxy, or try `llmtap demo`."
    return table


def count(value: Any) -> str:
    """A whole number with separators; unknown is a dash."""
    return "–" if value is None else f"{int(value):,}"


def reconcile_table(lines: Iterable[Any]) -> RenderableType:
    """The answer of `llmtap reconcile`: a line per day, model and figure that was exported."""
    table = Table(box=None, header_style="dim")
    for name in ("day", "model", "what"):
        table.add_column(name)
    for name in ("provider says", "stored", "difference"):
        table.add_column(name, justify="right")
    table.add_column("")
    for line in lines:
        show = money if line.what == "cost_usd" else count
        off = "–" if line.percent is None else f"{line.percent:+.2f} %"
        style = "red" if line.parts else "green"
        table.add_row(
            safe(line.day),
            safe(line.model) or "(all)",
            line.what,
            show(line.exported),
            show(line.stored),
            off,
            Text(line.note or ("parts" if line.parts else "agrees"), style=style),
        )
    return table
