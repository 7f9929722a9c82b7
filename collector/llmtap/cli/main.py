"""`llmtap`: start it, look at it, ask it. Exit codes: 0 done, 1 could not, 2 wrong usage or config.

Commands import what they need when they run: the command starts quickly.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from llmtap.cli.client import Api, CommandError, NotRunningError, admin_url, read_ready, run_sql
from llmtap.config import Config, ConfigError, find_config, load


@dataclass
class _Where:
    """The options every command shares."""

    config_path: Path | None = None
    flags: dict[str, Any] = field(default_factory=dict[str, Any])

    def config(self, **more: Any) -> Config:
        return load(self.config_path, {**self.flags, **more})


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    data = click.option("--data", type=click.Path(path_type=Path), help="Data folder.")
    config = click.option("--config", type=click.Path(path_type=Path), help="llmtap.toml to use.")
    return data(config(command))


def _where(config: Path | None, data: Path | None) -> _Where:
    flags = {"data": str(data)} if data else {}
    return _Where(config or find_config(), flags)


class _Group(click.Group):
    """Turns the errors we raise on purpose into one clear line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as e:
            click.echo(f"llmtap: configuration: {e}", err=True)
            ctx.exit(2)
        except CommandError as e:
            click.echo(f"llmtap: {e}", err=True)
            ctx.exit(1)
        except BrokenPipeError:
            sys.stderr.close()  # `llmtap calls | head`
            ctx.exit(0)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="llmtap")
def main() -> None:
    """The line tap for LLM traffic: every call through it is a row in ClickHouse."""


_PORTS = (
    ("--proxy-port", "proxy.port", "Port for apps (8787; 0: any free one)."),
    ("--admin-port", "admin.port", "Port of the admin API (8788)."),
    ("--otlp-grpc-port", "otlp.grpc_port", "Reserved: OTLP receivers come later."),
    ("--otlp-http-port", "otlp.http_port", "Reserved: OTLP receivers come later."),
    ("--workers", "proxy.workers", "Proxy worker processes."),
)


def _start_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, _, text in _PORTS:
        command = click.option(name, type=int, help=text)(command)
    ready = click.option(
        "--ready-file", type=click.Path(path_type=Path), help="Written as JSON once all answers."
    )
    return _shared(ready(command))


def _start(
    config: Path | None,
    data: Path | None,
    ready_file: Path | None,
    given: dict[str, Any],
    *,
    proxy: bool,
    collector: bool,
) -> None:
    import logging

    from llmtap.proxy import supervisor

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    where = _where(config, data)
    keys = {option.strip("-").replace("-", "_"): key for option, key, _ in _PORTS}
    flags = {keys[k]: v for k, v in given.items() if v is not None} | where.flags
    settings = load(where.config_path, flags)
    flags["data"] = str(settings.data)
    _make_folders(settings.data)
    from llmtap.cli.welcome import announce

    def on_ready(ready: dict[str, Any]) -> None:
        _write_ready(settings.data / "run" / "ready.json", ready)
        if ready_file is not None:
            _write_ready(ready_file, ready)
        announce(settings, ready)

    try:
        asyncio.run(
            supervisor.run(
                settings, where.config_path, flags, on_ready, proxy=proxy, collector=collector
            )
        )
    except supervisor.StartError as e:
        raise CommandError(str(e)) from e
    finally:
        (settings.data / "run" / "ready.json").unlink(missing_ok=True)


def _make_folders(data: Path) -> None:
    for folder in (data, data / "run", data / "spool"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            raise CommandError(
                f"cannot make the data folder {folder}: {e.strerror}; "
                "choose another with --data / LLMTAP_DATA"
            ) from e
    for stale in (data / "run").glob("worker-*.json"):
        stale.unlink(missing_ok=True)


def _write_ready(path: Path, ready: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(ready))
    part.replace(path)


@main.command()
@_start_options
def up(config: Path | None, data: Path | None, ready_file: Path | None, **given: Any) -> None:
    """Run proxy and collector on this machine."""
    _start(config, data, ready_file, given, proxy=True, collector=True)


@main.command()
@_start_options
def proxy(config: Path | None, data: Path | None, ready_file: Path | None, **given: Any) -> None:
    """Run the proxy alone; a collector on the same data folder stores what it spools."""
    _start(config, data, ready_file, given, proxy=True, collector=False)


@main.command()
@_start_options
def collector(
    config: Path | None, data: Path | None, ready_file: Path | None, **given: Any
) -> None:
    """Run the collector alone."""
    _start(config, data, ready_file, given, proxy=False, collector=True)


@main.command()
@_shared
@click.option("--json", "as_json", is_flag=True, help="The whole configuration as JSON.")
def check(config: Path | None, data: Path | None, as_json: bool) -> None:
    """Validate the configuration and print the routes."""
    where = _where(config, data)
    settings = where.config()
    if as_json:
        click.echo(settings.model_dump_json(indent=2))
        return
    click.echo(f"configuration ok ({where.config_path or 'built-in defaults'})")
    click.echo(f"data: {settings.data}")
    for name, upstream in sorted(settings.upstreams.items()):
        mark = "  (default for /v1)" if name == settings.default_upstream else ""
        click.echo(f"  /{name}/…  →  {upstream.base_url or '(no base_url: not usable yet)'}{mark}")


@main.command()
@_shared
def doctor(config: Path | None, data: Path | None) -> None:
    """Look for what could be wrong, and say what to do."""
    from llmtap.cli.doctor import findings

    where = _where(config, data)
    trouble = False
    for good, text in findings(where.config()):
        click.echo(f"{'ok  ' if good else 'LOOK'}  {text}")
        trouble = trouble or not good
    if trouble:
        sys.exit(1)


_FILTERS = (
    ("--since", "Newer than: 15m, 1h, 7d or a time."),
    ("--until", "Older than."),
    ("--model", "Requested or served model."),
    ("--status", "ok, error, aborted, timeout or lost."),
    ("--upstream", "Upstream name."),
    ("--user", "User id."),
    ("--session", "Session id."),
    ("--search", "Text in prompt or completion."),
)


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, text in reversed(_FILTERS):
        command = click.option(name, help=text)(command)
    return command


@main.command()
@_shared
@_filters
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option("--order", type=click.Choice(["recent", "slowest", "costliest"]), default="recent")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def calls(
    config: Path | None,
    data: Path | None,
    limit: int,
    order: str,
    as_json: bool,
    **filters: str | None,
) -> None:
    """List calls."""
    query = {k: v for k, v in filters.items() if v} | {"limit": str(limit), "order": order}
    api = Api(admin_url(_where(config, data).config()))
    rows = api.get("/api/calls", query)["calls"]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    from rich.console import Console

    from llmtap.cli.show import call_table

    console = Console(width=None if sys.stdout.isatty() else 180)
    if not rows:
        console.print("no calls match. Send one through the proxy, or try `llmtap demo`.")
    else:
        console.print(call_table(rows))


@main.command()
@_shared
@_filters
@click.option(
    "--by",
    default="model",
    show_default=True,
    help="Groups, with commas: model, upstream, provider, user, session, project, prompt, "
    "prompt_version, template, language, operation, status, hour, day, week, month, "
    "property:NAME.",
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the total.")
def costs(
    config: Path | None,
    data: Path | None,
    by: str,
    limit: int,
    as_json: bool,
    **filters: str | None,
) -> None:
    """Show what calls cost, by model, user, day …"""
    query = {k: v for k, v in filters.items() if v} | {"by": by, "limit": str(limit)}
    found = Api(admin_url(_where(config, data).config())).get("/api/costs", query)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from rich.console import Console

    from llmtap.cli.show import cost_table

    Console(width=None if sys.stdout.isatty() else 180).print(cost_table(found))


@main.command()
@_shared
@click.option("--since", required=True, help="Calls newer than: 1h, 30d or a time.")
@click.option("--until", help="Older than.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def reprice(
    config: Path | None,
    data: Path | None,
    since: str,
    until: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Price stored calls again, by the prices that llmtap was started with."""
    query = {"since": since, **({"until": until} if until else {})}
    query |= {"dry_run": "1"} if dry_run else {}
    api = Api(admin_url(_where(config, data).config()))
    told = api.post("/api/reprice", query)
    if as_json:
        click.echo(json.dumps(told))
        return
    from llmtap.cli.show import count, money

    would = "would change" if dry_run else "changed"
    click.echo(
        f"{count(told['calls'])} calls, {count(told['changed'])} {would}: "
        f"{money(told['cost_usd_before'])} before, {money(told['cost_usd_after'])} after"
    )


@main.command()
@_shared
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tolerance", default=1.0, show_default=True, help="Per cent that may differ.")
@click.option("--provider", help="Compare with calls of this provider only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def reconcile(
    config: Path | None,
    data: Path | None,
    file: Path,
    tolerance: float,
    provider: str | None,
    as_json: bool,
) -> None:
    """Compare stored usage and cost with a provider's export, by day and model.

    FILE: OpenAI's organization/usage/completions or organization/costs, Anthropic's
    usage_report/messages or cost_report (JSON), or a CSV with day, model and any of calls,
    input_tokens, output_tokens, cost_usd. Exit code 1 when they part.
    """
    from llmtap.cli.reconcile import compare, read_export, stored_sql

    exported = read_export(file)
    body = run_sql(
        _where(config, data).config(), stored_sql(exported, provider or ""), "JSONEachRow"
    )
    lines = compare(exported, [json.loads(line) for line in body.splitlines()], tolerance)
    if as_json:
        for line in lines:
            click.echo(json.dumps(line._asdict()))
    else:
        from rich.console import Console

        from llmtap.cli.show import reconcile_table

        Console(width=None if sys.stdout.isatty() else 180).print(reconcile_table(lines))
    if any(line.parts for line in lines):
        sys.exit(1)


@main.command()
@_shared
@click.argument("call_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The row as JSON.")
def show(config: Path | None, data: Path | None, call_id: str, as_json: bool) -> None:
    """Show one call (ID, or at least 8 characters of its beginning)."""
    row = Api(admin_url(_where(config, data).config())).get(f"/api/calls/{_quoted(call_id)}")
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    from rich.console import Console

    from llmtap.cli.show import print_call

    print_call(Console(), row)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


@main.command()
@_shared
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def tail(config: Path | None, data: Path | None, as_json: bool) -> None:
    """Show calls as they are stored, until Ctrl-C."""
    api = Api(admin_url(_where(config, data).config()))
    from rich.console import Console

    from llmtap.cli.show import call_table

    console = Console(width=None if sys.stdout.isatty() else 180)
    if not as_json:
        console.print("waiting for calls … (Ctrl-C ends)", style="dim")
    try:
        for row in api.lines("/api/tail"):
            if as_json:
                click.echo(json.dumps(row))
            else:
                table = call_table([row])
                table.show_header = False
                console.print(table)
    except KeyboardInterrupt:
        return


@main.command()
@_shared
@click.argument("query")
@click.option("--format", "fmt", default="Pretty", show_default=True, help="ClickHouse format.")
def sql(config: Path | None, data: Path | None, query: str, fmt: str) -> None:
    """Run a reading SQL query. Tables: calls, otel_traces, losses; views: calls_*."""
    names = {"pretty": "PrettyCompact", "json": "JSON", "csv": "CSVWithNames"}
    body = run_sql(_where(config, data).config(), query, names.get(fmt.lower(), fmt))
    if fmt.lower() == "pretty" and sys.stdout.isatty():
        click.echo(body.decode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()


@main.command()
@_shared
@_filters
@click.option("--format", "fmt", default="JSONEachRow", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="File; default: standard output.")
def export(
    config: Path | None,
    data: Path | None,
    fmt: str,
    output: Path | None,
    **filters: str | None,
) -> None:
    """Write whole rows of `calls` (JSONEachRow, CSVWithNames, Parquet …)."""
    from llmtap.cli.export import export_sql

    query = export_sql({k: v for k, v in filters.items() if v})
    body = run_sql(_where(config, data).config(), query, fmt)
    if output is None:
        sys.stdout.buffer.write(body)
    else:
        output.touch(mode=0o600)
        output.write_bytes(body)
        click.echo(f"{output}: {len(body)} bytes", err=True)


@main.command()
@_shared
@click.option("--calls", "count", default=300, show_default=True, type=click.IntRange(20, 5000))
def demo(config: Path | None, data: Path | None, count: int) -> None:
    """Send varied calls through the running proxy, then show what was stored."""
    settings = _where(config, data).config()
    ready = read_ready(settings.data)
    if not ready or not ready.get("proxy"):
        raise NotRunningError(
            f"no llmtap runs on {settings.data}. Start one with `llmtap up` in another terminal, "
            "or name its data folder with --data / LLMTAP_DATA"
        )
    try:
        from llmtap.cli.demo import run_demo
    except ImportError as e:
        raise CommandError(
            f"the demo needs the openai and anthropic SDKs ({e.name} is missing): "
            "pip install 'llmtap[server,demo]'"
        ) from e
    run_demo(str(ready["proxy"]), Api(str(ready["admin"])), settings, count)


if __name__ == "__main__":
    main()
