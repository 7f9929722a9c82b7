"""Adds the samples of dialects that keep them in a file of their own (`samples_*.py`) to all."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.dialects.samples import SAMPLES

for _file in sorted(Path(__file__).parent.glob("samples_*.py")):
    SAMPLES.update(import_module(f"tests.dialects.{_file.stem}").SAMPLES)
