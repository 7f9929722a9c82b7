"""What `llmtap up` prints once everything answers."""

from __future__ import annotations

from typing import Any

import click

from llmtap.config import Config

_SHOWN = (
    ("openai", "/openai/v1", "OPENAI_BASE_URL"),
    ("anthropic", "/anthropic", "ANTHROPIC_BASE_URL"),
    ("ollama", "/ollama", "OLLAMA_HOST"),
    ("vllm", "/vllm/v1", "OPENAI_BASE_URL"),
)


def announce(config: Config, ready: dict[str, Any]) -> None:
    """Base URLs to use, and where to look."""
    say = click.echo
    say("llmtap is up.")
    if proxy := ready.get("proxy"):
        say("\n  Point your app here (its key stays as it is):")
        for name, path, variable in _SHOWN:
            if name in config.upstreams:
                target = config.upstreams[name].base_url
                say(f"    {variable + '=' + proxy + path:<56} → {target}")
        others = sorted(set(config.upstreams) - {name for name, _, _ in _SHOWN} - {"demo"})
        say(f"    and {proxy}/NAME/… for {', '.join(others)}")
    if admin := ready.get("admin"):
        say("\n  Look at calls:")
        say("    llmtap tail                 as they happen")
        say('    llmtap calls --since 1h     llmtap show ID     llmtap sql "SELECT …"')
        say("    llmtap demo                 sends a few hundred calls to look at")
        say(f"    {admin}/          health, metrics, API")
        say(f"    {admin}/clickhouse   for Grafana and ClickHouse clients")
    say(f"\n  Data: {config.data}   Stop: Ctrl-C\n")
