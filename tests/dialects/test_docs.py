"""Every dialect is told of in docs/providers.md, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

from llmtap.dialects.registry import DIALECTS


def test_the_docs_name_every_dialect() -> None:
    page = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert told == {dialect.name for dialect in DIALECTS}
