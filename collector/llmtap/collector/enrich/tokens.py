"""Token counts for calls whose server told none: counted where the tokenizer is known.

OpenAI's encodings run in tiktoken; their ranks come out of the bpe-openai package (checked by
SHA-256), never from the network. Other models: a Hugging Face `tokenizer.json` given by the user.
Where no tokenizer is public the estimate from the text's characters is corrected by what the same
model's other calls were told (`Calibration`). Never on the wire path.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.util
import logging
import os
from collections.abc import Callable, Generator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import tiktoken

from llmtap.dialects.estimate import text_tokens, usage_of
from llmtap.dialects.model import Call, Usage

log = logging.getLogger("llmtap.collector")

Counter = Callable[[str], int]

_ENCODINGS = (
    (("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "o1", "o3", "o4", "chatgpt-4o"), "o200k_base"),
    (("gpt-oss", "codex-mini", "gpt-realtime", "gpt-audio"), "o200k_base"),
    (("gpt-4", "gpt-3.5", "gpt-35", "text-embedding-3", "text-embedding-ada-002"), "cl100k_base"),
)
"""Prefixes of model names, the first that fits wins (tiktoken's `model.py`, gpt-oss's card)."""

_RANKS = {
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
"""By encoding: the name that tiktoken's cache gives the file (SHA-1 of its URL), its SHA-256."""

MAX_COUNTED = 200_000
"""Characters that are counted; the rest of a longer text is taken to be alike."""


class Tokenizers:
    """Finds the tokenizer of a model. Loads at first use; what can not be loaded is said once."""

    def __init__(self, folder: Path, files: Mapping[str, Path] | None = None) -> None:
        """`folder`: a private place for the ranks; `files`: model patterns → tokenizer.json."""
        self._folder = folder
        self._files = dict(files or {})
        self._loaded: dict[str, Counter | None] = {}
        self.calibration = Calibration()

    def complete(self, call: Call) -> None:
        """Makes an estimated usage better, and learns from a reported one."""
        model = call.model_served or call.model_requested
        if call.usage_source == "reported":
            self.calibration.learn(model, call)
            return
        if call.usage_source != "estimated" or call.usage_raw:
            return
        for name in (call.model_served, call.model_requested):
            if name and (counter := self._counter(name)) is not None:
                call.usage = usage_of(call, counter)
                call.usage_source = "counted"
                return
        call.usage = self.calibration.corrected(model, call.usage)

    def _counter(self, model: str) -> Counter | None:
        for pattern, path in self._files.items():
            if fnmatchcase(model, pattern):
                return self._load(str(path), partial(_file_counter, path))
        encoding = encoding_of(model)
        if not encoding:
            return None
        return self._load(encoding, partial(_tiktoken_counter, encoding, self._folder))

    def _load(self, name: str, make: Callable[[], Counter]) -> Counter | None:
        if name not in self._loaded:
            try:
                self._loaded[name] = _capped(make())
            except Exception as e:  # noqa: BLE001 - a missing tokenizer must not stop the pipeline
                log.error("tokenizer %s can not be loaded, tokens are estimated: %s", name, e)
                self._loaded[name] = None
        return self._loaded[name]


def encoding_of(model: str) -> str:
    """tiktoken's encoding of an OpenAI model, by its name; empty when it is not known."""
    bare = model.rpartition("/")[2].removeprefix("ft:").lower()
    for prefixes, encoding in _ENCODINGS:
        if bare.startswith(prefixes):
            return encoding
    return ""


def _tiktoken_counter(encoding: str, folder: Path) -> Counter:
    cached, digest = _RANKS[encoding]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / cached
    if not (path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest):
        _unpack_ranks(encoding, path, digest)
    with _environment("TIKTOKEN_CACHE_DIR", str(folder)):
        loaded = tiktoken.get_encoding(encoding)
    return lambda text: len(loaded.encode_ordinary(text))


def _unpack_ranks(encoding: str, path: Path, digest: str) -> None:
    """Takes the ranks out of the package that carries them (without importing it)."""
    spec = importlib.util.find_spec("bpe_openai")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package bpe-openai, which brings the ranks, is missing")
    packed = Path(spec.origin).parent / "data" / f"{encoding}.tiktoken.gz"
    ranks = gzip.decompress(packed.read_bytes())
    if hashlib.sha256(ranks).hexdigest() != digest:
        raise ValueError(f"{packed.name} of bpe-openai is not the {encoding} that OpenAI published")
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_bytes(ranks)
    part.replace(path)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Generator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _file_counter(path: Path) -> Counter:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(path))
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


def _capped(counter: Counter) -> Counter:
    def count(text: str) -> int:
        text = text.encode("utf-8", "replace").decode()  # lone surrogates
        if len(text) <= MAX_COUNTED:
            return counter(text)
        return int(counter(text[:MAX_COUNTED]) * len(text) / MAX_COUNTED)

    return count


class Calibration:
    """By model: how reported counts relate to our estimates of the same texts.

    Every `EVERY`th reported call is estimated too. Input and output apart; used from `ENOUGH`
    calls on, and never beyond a factor of 3.
    """

    EVERY = 16
    ENOUGH = 8
    MODELS = 1000
    WORST = 3.0

    def __init__(self) -> None:
        self._seen = 0
        self._sums: dict[str, list[float]] = {}
        """calls, reported input, estimated input, reported output, estimated output"""

    def learn(self, model: str, call: Call) -> None:
        self._seen += 1
        if self._seen % self.EVERY or not model or not call.input_messages:
            return
        told, ours = call.usage, usage_of(call, text_tokens)
        if not (told.input_tokens and ours.input_tokens):
            return
        if model not in self._sums and len(self._sums) >= self.MODELS:
            return
        sums = self._sums.setdefault(model, [0.0] * 5)
        if sums[0] >= 10 * self.EVERY:  # what came lately counts more
            sums[:] = [value / 2 for value in sums]
        sums[0] += 1
        sums[1] += told.input_tokens
        sums[2] += ours.input_tokens
        sums[3] += told.output_tokens or 0
        sums[4] += ours.output_tokens or 0

    def corrected(self, model: str, usage: Usage) -> Usage:
        """An estimate, times the model's factors where they are known."""
        sums = self._sums.get(model)
        if sums is None or sums[0] < self.ENOUGH:
            return usage
        return Usage(
            input_tokens=self._times(usage.input_tokens, sums[1], sums[2]),
            output_tokens=self._times(usage.output_tokens, sums[3], sums[4]),
        )

    def _times(self, count: int | None, told: float, ours: float) -> int | None:
        if count is None or not told or not ours:
            return count
        return round(count * min(self.WORST, max(1 / self.WORST, told / ours)))
