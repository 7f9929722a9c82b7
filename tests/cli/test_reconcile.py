"""Providers' exports, in the shapes their API references show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmtap.cli.client import CommandError
from llmtap.cli.reconcile import compare, read_export

OPENAI_USAGE = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": 1_730_419_200,
            "end_time": 1_730_505_600,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 1000,
                    "output_tokens": 500,
                    "input_cached_tokens": 800,
                    "num_model_requests": 5,
                    "project_id": "p1",
                    "model": "gpt-4o-mini-2024-07-18",
                },
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 10,
                    "output_tokens": 5,
                    "num_model_requests": 1,
                    "project_id": "p2",
                    "model": "gpt-4o-mini-2024-07-18",
                },
            ],
        }
    ],
    "has_more": False,
}
OPENAI_COSTS = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": 1_730_419_200,
            "results": [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": 0.06, "currency": "usd"},
                    "line_item": None,
                }
            ],
        }
    ],
}
ANTHROPIC_USAGE = {
    "data": [
        {
            "starting_at": "2024-11-01T00:00:00Z",
            "ending_at": "2024-11-02T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 1500,
                    "cache_creation": {
                        "ephemeral_1h_input_tokens": 1000,
                        "ephemeral_5m_input_tokens": 500,
                    },
                    "cache_read_input_tokens": 200,
                    "output_tokens": 500,
                    "model": "claude-opus-4",
                }
            ],
        }
    ],
    "has_more": False,
}
ANTHROPIC_COSTS = {
    "data": [
        {
            "starting_at": "2024-11-01T00:00:00Z",
            "results": [
                {"currency": "USD", "amount": "123.45", "model": "claude-opus-4"},
                {"currency": "USD", "amount": "100", "model": "claude-opus-4"},
            ],
        }
    ]
}
DAY = "2024-11-01"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            OPENAI_USAGE,
            {
                (DAY, "gpt-4o-mini-2024-07-18"): {
                    "input_tokens": 1010,
                    "output_tokens": 505,
                    "calls": 6,
                }
            },
        ),
        (OPENAI_COSTS, {(DAY, ""): {"cost_usd": 0.06}}),
        (ANTHROPIC_USAGE, {(DAY, "claude-opus-4"): {"input_tokens": 3200, "output_tokens": 500}}),
        (ANTHROPIC_COSTS, {(DAY, "claude-opus-4"): {"cost_usd": pytest.approx(2.2345)}}),
        (
            '\ufeffDate,Model,Requests,Cost\n2024-11-01,gpt-4o,"1,000",$1.25\n2024-11-01,gpt-4o,1,0\n',
            {(DAY, "gpt-4o"): {"calls": 1001, "cost_usd": 1.25}},
        ),
        (
            "day,input_tokens\n2024-11-01T23:30:00-02:00,7\n",
            {("2024-11-02", ""): {"input_tokens": 7}},
        ),
    ],
)
def test_exports_are_read(content: Any, expected: Any, tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert read_export(path).sums == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no usage or cost export"),
        ("[1]", "no usage or cost export"),
        ('{"data":[{"results":[{"input_tokens":1}]}]}', "no usage or cost export"),
        ('{"data":[]}', "nothing to compare"),
        ("", "a CSV needs a column day"),
        ("day,model\n2024-11-01,x\n", "it has day, model"),
        ("day,cost\nyesterday,1\n", "line 2"),
        ("day,cost\n2024-11-01,much\n", "line 2"),
    ],
)
def test_what_is_none_is_told(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(content)
    with pytest.raises(CommandError, match=says):
        read_export(path)


def stored(model: str, **figures: float) -> dict[str, Any]:
    zeros = dict.fromkeys(("calls", "input_tokens", "output_tokens", "cost_usd"), 0)
    return {"day": DAY, "model_requested": model, "model_served": f"{model}-1", **zeros, **figures}


def parting(content: str, rows: list[dict[str, Any]], tmp_path: Path) -> list[tuple[str, str]]:
    path = tmp_path / "export.csv"
    path.write_text(content)
    lines = compare(read_export(path), rows)
    return [(line.model, line.note) for line in lines if line.parts]


def test_where_they_part(tmp_path: Path) -> None:
    head = "day,model,cost\n"
    ours = [stored("a", cost_usd=1.0), stored("b", cost_usd=2.0)]
    assert parting(f"{head}{DAY},a,1.005\n{DAY},b-1,2\n", ours, tmp_path) == []
    assert parting(f"{head}{DAY},a,1.02\n{DAY},b,2\n", ours, tmp_path) == [("a", "")]
    assert parting(f"{head}{DAY},a,1\n", ours, tmp_path) == [("b-1", "not in the export")]
    assert parting(f"{head}{DAY},a,1\n{DAY},b,2\n{DAY},c,3\n", ours, tmp_path) == [
        ("c", "nothing stored")
    ]
    assert parting(f"day,cost\n{DAY},3\n", ours, tmp_path) == []  # all models together
    assert parting(f"{head}{DAY},c,0\n", [], tmp_path) == []
