"""Configuration: every mistake is one clear line; files, environment and flags in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from llmtap.cli.main import main
from llmtap.config import ConfigError, load
from llmtap.config.reference import reference

BAD: dict[str, tuple[str, str]] = {
    "unknown_key": ("[proxy]\nprot = 1", "did you mean 'port'"),
    "unknown_upstream_key": ('[upstreams.a]\nbase_ulr = "http://x"', "did you mean 'base_url'"),
    "not_toml": ("[proxy", "not valid TOML"),
    "bad_url": ('[upstreams.a]\nbase_url = "ftp://x"', "must be http://HOST"),
    "url_with_key": ('[upstreams.a]\nbase_url = "http://u:p@x"', "must not carry credentials"),
    "bad_name": ('[upstreams."A B"]\nbase_url = "http://x"', "a name is lower-case"),
    "reserved": ('[upstreams.v1]\nbase_url = "http://x"', "none of"),
    "no_default": ('default_upstream = "nope"', "no upstream is called 'nope'"),
    "port": ("[proxy]\nport = 70000", "less than or equal to 65535"),
    "type": ('[proxy]\nworkers = "many"', "valid integer"),
    "tls_half": ('[proxy]\ntls_cert = "x.pem"', "go together"),
    "level": ('[capture]\nlevel = "some"', "'full', 'metadata' or 'off'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_say_what_to_change(case: str, tmp_path: Path) -> None:
    text, expected = BAD[case]
    path = tmp_path / "llmtap.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    assert expected in str(caught.value) and str(path) in str(caught.value)
    result = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert result.exit_code == 2 and expected in result.output


def test_order_of_sources(tmp_path: Path) -> None:
    path = tmp_path / "llmtap.toml"
    path.write_text(
        "[proxy]\nport = 1\nworkers = 3\n[admin]\nport = 4\n[upstreams.vllm]\n"
        'base_url = "http://gpu:8000/"'
    )
    environ = {"LLMTAP_PROXY__PORT": "2", "LLMTAP_STORE": "chdb", "LLMTAP_DATA": str(tmp_path)}
    config = load(path, {"admin.port": 5, "proxy.host": None}, environ)
    assert (config.proxy.port, config.proxy.workers, config.admin.port) == (2, 3, 5)
    assert config.data == tmp_path
    assert config.upstreams["vllm"].base_url == "http://gpu:8000"
    assert config.upstreams["vllm"].provider == "vllm", "a built-in's other values stay"
    assert "openai" in config.upstreams


def test_works_with_no_config_at_all(tmp_path: Path) -> None:
    config = load(Path("/dev/null"), environ={})
    assert config.upstreams["openai"].base_url == "https://api.openai.com"
    assert config.proxy.host == config.admin.host == "127.0.0.1"


def test_dsn_with_a_password_is_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Path("/dev/null"), {"store.dsn": ["clickhouse://u:secret@h"]}, environ={})
    assert "secret" not in str(caught.value)


def test_check_prints_routes() -> None:
    result = CliRunner().invoke(main, ["check", "--config", "/dev/null"])
    assert result.exit_code == 0
    assert "/openai/…  →  https://api.openai.com  (default for /v1)" in result.output


def test_reference_is_current() -> None:
    """docs/configuration.md is made by `make docs`."""
    committed = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert committed.read_text() == reference()
