"""House rules that no linter knows: file and function sizes, one namespace, tests beside code.

Prints what breaks a rule and exits 1.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70
PORTIONS = ("proxy", "collector", "sdk")


def broken_rules() -> list[str]:
    found: list[str] = []
    for portion in PORTIONS:
        if (ROOT / portion / "llmtap" / "__init__.py").exists():
            found.append(f"{portion}/llmtap/__init__.py hides the other roots of the namespace")
        for path in sorted((ROOT / portion / "llmtap").rglob("*.py")):
            found += _sizes(path)
        for room in sorted((ROOT / portion / "llmtap").iterdir()):
            if room.is_dir() and room.name != "__pycache__" and not (room / "py.typed").exists():
                found.append(f"{room.relative_to(ROOT)} has no py.typed")
    return found


def _sizes(path: Path) -> list[str]:
    text = path.read_text()
    name = path.relative_to(ROOT)
    found: list[str] = []
    if (lines := text.count("\n")) > MAX_FILE_LINES:
        found.append(f"{name}: {lines} lines")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{name}:{node.lineno} {node.name}: {length} lines")
    return found


if __name__ == "__main__":
    rules = broken_rules()
    print("\n".join(rules))
    sys.exit(1 if rules else 0)
