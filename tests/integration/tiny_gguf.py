"""Writes a llama model with random weights and a byte-level vocabulary: `tiny_gguf.py FILE`.

About 0.5 MB; for llama-server as a real backend on a CPU (`make peers`). Needs the gguf package.
"""

from __future__ import annotations

import sys

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, KV_HEADS, INNER = 64, 2, 4, 2, 128
WORDS = "the tap on line shows what model said hello there".split()  # noqa: SIM905
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vocabulary() -> tuple[list[str], list[str]]:
    """(tokens, merges): GPT-2's byte alphabet, then each word grown letter by letter."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in shown]
    letters = {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(others)}
    tokens = [letters[b] for b in range(256)]
    merges: list[str] = []
    for word in (start + word for word in WORDS for start in ("", letters[32])):
        for cut in range(1, len(word)):
            if word[: cut + 1] not in tokens:
                tokens.append(word[: cut + 1])
                merges.append(f"{word[:cut]} {word[cut]}")
    return tokens, merges


def write(path: str) -> None:
    tokens, merges = vocabulary()
    size = len(tokens) + len(SPECIAL)
    out = gguf.GGUFWriter(path, "llama")
    out.add_name("tiny-random")
    out.add_context_length(4096)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_rope_freq_base(10000.0)
    out.add_vocab_size(size)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens + SPECIAL)
    kinds = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * len(SPECIAL)
    out.add_token_types([int(kind) for kind in kinds])
    out.add_token_merges(merges)
    out.add_bos_token_id(size - 3)
    out.add_eos_token_id(size - 1)
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)
    random = np.random.default_rng(0)
    kv_width = WIDTH // HEADS * KV_HEADS
    shapes = {"token_embd": (size, WIDTH), "output": (size, WIDTH)}
    norms = ["output_norm"]
    for i in range(LAYERS):
        norms += [f"blk.{i}.attn_norm", f"blk.{i}.ffn_norm"]
        shapes |= {
            f"blk.{i}.attn_q": (WIDTH, WIDTH),
            f"blk.{i}.attn_k": (kv_width, WIDTH),
            f"blk.{i}.attn_v": (kv_width, WIDTH),
            f"blk.{i}.attn_output": (WIDTH, WIDTH),
            f"blk.{i}.ffn_gate": (INNER, WIDTH),
            f"blk.{i}.ffn_up": (INNER, WIDTH),
            f"blk.{i}.ffn_down": (WIDTH, INNER),
        }
    for name in norms:
        out.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    for name, shape in shapes.items():
        weights = (random.standard_normal(shape) * 0.05).astype(np.float32)
        out.add_tensor(f"{name}.weight", weights)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    write(sys.argv[1])
