"""Writes `docs/configuration.md` from the model: `python -m llmtap.config.reference`."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from llmtap.config.model import Config, Price, Upstream
from llmtap.config.upstreams import BUILT_IN

_HEAD = """# Configuration

llmtap runs with no configuration. To change something, write `llmtap.toml`; it is searched for as
`--config`, `$LLMTAP_CONFIG`, `./llmtap.toml`, `$XDG_CONFIG_HOME/llmtap/llmtap.toml`. `llmtap check`
validates it and prints the routes; an unknown key is an error that names the nearest one.

Every key can be set by an environment variable: `LLMTAP_` and its path, upper-case, `__` between
levels (`LLMTAP_PROXY__PORT=9000`). Short forms: `LLMTAP_DATA`, `LLMTAP_STORE`. Order, later wins:
defaults, file, environment, flags. SIGHUP makes the proxy read the file again, without dropping a
stream; the collector reads it at start.

```toml
default_upstream = "vllm"

[upstreams.vllm]
base_url = "http://10.0.0.5:8000"

[upstreams.team-a]
base_url = "https://api.openai.com"
provider = "openai"

[store]
dsn = "clickhouse://llmtap:password@clickhouse:8123/llmtap"
```

This page is generated from the code (`make docs`).
"""


def reference() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        *_section("", Config),
        *_section("upstreams.NAME", Upstream),
        *_section('prices."PATTERN"', Price),
    ]
    rows = "\n".join(f"| `{n}` | {u or '(set it)'} | {p} |" for n, (u, p) in BUILT_IN.items())
    parts.append(
        f"## Built-in upstreams\n\n| name | base_url | provider |\n|---|---|---|\n{rows}\n"
    )
    return "\n".join(parts)


def _section(name: str, model: type[BaseModel]) -> list[str]:
    rows: list[str] = []
    below: list[str] = []
    for key, field in model.model_fields.items():
        default: Any = field.default
        if isinstance(default, BaseModel):
            below += _section(f"{name}.{key}" if name else key, type(default))
            continue
        shown = "see below" if default is PydanticUndefined else _toml(default)
        rows.append(f"| `{key}` | {shown} | {field.description or ''} |")
    title = f"## `[{name}]`" if name else "## Top level"
    doc = (inspect.getdoc(model) or "") if model is not Config else ""
    table = "| key | default | meaning |\n|---|---|---|\n" + "\n".join(rows)
    own = [f"{title}\n\n{doc + chr(10) + chr(10) if doc else ''}{table}\n"] if rows else []
    return [*own, *below]


def _toml(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value}`"
    if isinstance(value, tuple):
        return "`[]`"
    return f'`"{value}"`'


if __name__ == "__main__":
    print(reference(), end="")
