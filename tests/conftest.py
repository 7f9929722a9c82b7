"""For all tests: what could not run here is said loudly, with its reason, at the very end."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import settings

# CI judges a change, so it tries the same examples each time; at home every run tries others.
settings.register_profile("ci", derandomize=True)
if os.environ.get("HYPOTHESIS_PROFILE") == "ci":
    settings.load_profile("ci")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    if not skipped:
        return
    reasons: Counter[str] = Counter()
    for report in skipped:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    terminalreporter.section(f"NOT RUN HERE: {len(skipped)} tests", sep="!", yellow=True, bold=True)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5}  {reason}")
