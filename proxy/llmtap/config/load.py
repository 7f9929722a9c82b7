"""Reads `llmtap.toml`, the environment and flags into one `Config`.

Order, later wins: built-in defaults, file, `LLMTAP_…` variables, flags. A variable names a key by
its path, upper-case, `__` between levels (`LLMTAP_PROXY__PORT=9000`); `LLMTAP_DATA`, `LLMTAP_STORE`
and `LLMTAP_CONFIG` are short forms. Every mistake raises `ConfigError` with one line per mistake.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from llmtap.config.model import Config, Upstream
from llmtap.config.upstreams import BUILT_IN

_SHORT = {"LLMTAP_DATA": "data", "LLMTAP_STORE": "store.dsn"}
_NOT_KEYS = {"LLMTAP_CONFIG", "LLMTAP_URL", "LLMTAP_ADMIN_URL"}


class ConfigError(ValueError):
    """The configuration cannot be used; the text says what to change, a line per mistake."""


def find_config(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file to read when no `--config` was given; None when there is none."""
    if named := environ.get("LLMTAP_CONFIG"):
        return Path(named)
    xdg = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
    for path in (Path("llmtap.toml"), Path(xdg) / "llmtap" / "llmtap.toml"):
        if path.is_file():
            return path
    return None


def load(
    path: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """The configuration. `flags` maps dotted keys to values; None values are skipped."""
    path = path or find_config(environ)
    tree: dict[str, Any] = _read(path) if path else {}
    for key, value in _from_environ(environ).items():
        _put(tree, key, value)
    for key, value in (flags or {}).items():
        if value is not None:
            _put(tree, key, value)
    _add_built_ins(tree)
    try:
        config = Config.model_validate(tree)
    except ValidationError as e:
        raise ConfigError("\n".join(_explain(err, path) for err in e.errors())) from e
    return config.model_copy(update={"data": config.data.expanduser().absolute()})


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as f:
            return tomllib.load(f)
    except FileNotFoundError as e:
        raise ConfigError(f"{path}: no such file") from e
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from e


def _from_environ(environ: Mapping[str, str]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for name, value in environ.items():
        if not name.startswith("LLMTAP_") or name in _NOT_KEYS:
            continue
        keys[_SHORT.get(name) or name.removeprefix("LLMTAP_").lower().replace("__", ".")] = value
    return keys


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for part in parents:
        section: Any = tree.setdefault(part, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{dotted}: {part} is a value, not a section")
        tree = cast("dict[str, Any]", section)
    tree[last] = value


def _add_built_ins(tree: dict[str, Any]) -> None:
    """A configured upstream of a built-in name starts from the built-in's values."""
    upstreams = tree.setdefault("upstreams", {})
    if not isinstance(upstreams, dict):
        return
    routes = cast("dict[str, Any]", upstreams)
    for name, (url, provider) in BUILT_IN.items():
        given = routes.get(name, {})
        if isinstance(given, dict):
            routes[name] = {"base_url": url, "provider": provider, **given}


def _explain(error: Any, path: Path | None) -> str:
    where = ".".join(str(part) for part in error["loc"])
    prefix = f"{path}: " if path else ""
    if error["type"] == "extra_forbidden":
        known = _keys_at(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        return f"{prefix}{where}: unknown key; {hint}"
    text = error["msg"].removeprefix("Value error, ")
    shown = "" if not where or "dsn" in where else f" (got {error['input']!r})"
    return f"{prefix}{where}: {text}{shown}" if where else f"{prefix}{text}"


def _keys_at(loc: tuple[Any, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in loc:
        if model is Config and part == "upstreams":
            model = Upstream
            continue
        found = model.model_fields.get(str(part))
        kind = found.annotation if found else None
        for candidate in (kind, *get_args(kind)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    return list(model.model_fields)
