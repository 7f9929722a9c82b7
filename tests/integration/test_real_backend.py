"""Model servers that nobody here wrote, on the CPU, with tiny random weights: mlx-lm, llama-server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from openai.types import CompletionUsage

from tests.integration.daemon import daemon
from tests.integration.test_end_to_end import free_port

PEERS = Path(__file__).parents[2] / ".peers"

MAKE_MODEL = """
import json, os, sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
folder = sys.argv[1]
size = dict(hidden_size=64, num_hidden_layers=2, intermediate_size=128, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=400, max_position_embeddings=4096)
config = dict(model_type="llama", architectures=["LlamaForCausalLM"], rms_norm_eps=1e-5,
              rope_theta=10000.0, tie_word_embeddings=False, bos_token_id=0, eos_token_id=2, **size)
json.dump(config, open(f"{folder}/config.json", "w"))
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False,
    special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
tokenizer.train_from_iterator(["a tap on the line shows what the model said"] * 50, trainer)
tokenizer.save(f"{folder}/tokenizer.json")
template = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\\n{{ m['content'] }}<|im_end|>\\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}")
json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", eos_token="<|im_end|>",
               bos_token="<|endoftext|>", chat_template=template),
          open(f"{folder}/tokenizer_config.json", "w"))
import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama
model = llama.Model(llama.ModelArgs.from_dict(config))
mx.random.seed(0)
mx.save_safetensors(f"{folder}/model.safetensors", dict(tree_flatten(model.parameters())),
                    metadata={"format": "mlx"})
"""


@pytest.fixture(scope="module", params=["mlx", "llama_cpp"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    """A running model server."""
    folder, port = tmp_path_factory.mktemp("model"), free_port()
    kind = str(request.param)
    command, model = _mlx(folder) if kind == "mlx" else _llama_cpp()
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=log,
        stderr=log,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    base = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while not _answers(f"{base}/v1/models"):
            told = (folder / "log").read_text()
            assert server.poll() is None and time.monotonic() < deadline, told
            time.sleep(0.2)
        yield Backend(kind, base, model)
    finally:
        server.terminate()
        server.wait(30)
        log.close()


class Backend(NamedTuple):
    kind: str
    base: str
    model: str


def _mlx(folder: Path) -> tuple[list[str], str]:
    pytest.importorskip("mlx_lm", reason="mlx-lm is not installed on this platform")
    subprocess.run([sys.executable, "-c", MAKE_MODEL, str(folder)], check=True, capture_output=True)
    return [sys.executable, "-m", "mlx_lm", "server", "--model", str(folder)], str(folder)


def _llama_cpp() -> tuple[list[str], str]:
    server, model = PEERS / "llama-server", PEERS / "tiny.gguf"
    if not (server.exists() and model.exists()):
        pytest.skip("llama-server is not built (make peers)")
    return [str(server), "-m", str(model), "-c", "4096", "-np", "2", "-t", "1"], "tiny.gguf"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_chat_and_stream_are_the_same_direct_and_through(backend: Backend, tmp_path: Path) -> None:
    kind, base, model = backend
    ask = {
        "model": model,
        "messages": [{"role": "user", "content": "hello there"}],
        "max_tokens": 24,
        "temperature": 0.0,
        "seed": 1,
    }
    config = f'[upstreams.peer]\nbase_url = "{base}"\nprovider = "{kind}"\n'
    with daemon(tmp_path, config) as running:
        whole, streamed, usage = _said(f"{running.proxy}/peer/v1", ask)
        assert (whole, streamed) == _said(f"{base}/v1", ask)[:2]
        running.wait("SELECT count() FROM calls WHERE status = 'ok'", 2)
        rows = running.rows("SELECT * FROM calls ORDER BY ts")
        for row, text in zip(rows, (whole, streamed), strict=True):
            assert row["output_tokens"] == usage.completion_tokens
            assert row["input_tokens"] == usage.prompt_tokens
            assert row["usage_source"] == "reported" and row["usage_problem"] == ""
            assert row["provider"] == kind and row["cost_usd"] is None
            parts = json.loads(row["output_messages"])[0]["parts"]
            assert "".join(p["content"] for p in parts) == text
        assert rows[1]["stream"]
        assert bool(rows[1]["ttft_us"]) == bool(streamed)
        missing = httpx.get(f"{running.proxy}/peer/nothing-here")
        assert missing.status_code == httpx.get(f"{base}/nothing-here").status_code


def _said(base_url: str, ask: dict[str, Any]) -> tuple[str, str, CompletionUsage]:
    """(whole answer, streamed answer, usage told at the stream's end), read by the SDK.

    The two texts may differ: llama-server holds back bytes that are no UTF-8 when it streams.
    """
    with openai.OpenAI(base_url=base_url, api_key="k") as client:
        whole = client.chat.completions.create(**ask)
        pieces: list[str] = []
        usage: CompletionUsage | None = None
        for event in client.chat.completions.create(
            **ask, stream=True, stream_options={"include_usage": True}
        ):
            usage = event.usage or usage
            if event.choices:
                pieces.append(event.choices[0].delta.content or "")
    assert usage is not None and whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens
    return whole.choices[0].message.content or "", "".join(pieces), usage
