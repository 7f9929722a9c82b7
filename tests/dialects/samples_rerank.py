"""Reranking, written from Cohere's, Jina's and TEI's API references; `conftest` adds them to all."""

from __future__ import annotations

import json
from typing import Any

from llmtap.dialects.model import Exchange
from tests.dialects.samples import exchange

ASKED: dict[str, Any] = {
    "model": "rerank-v3.5",
    "query": "Grüße?",
    "documents": ["Hallo", {"text": "Servus"}, "Moin"],
    "top_n": 2,
}
COHERE: dict[str, Any] = {
    "id": "r-1",
    "results": [
        {"index": 1, "relevance_score": 0.98},
        {"index": 0, "relevance_score": 0.5},
    ],
    "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
}
JINA: dict[str, Any] = {
    "model": "jina-reranker-v2",
    "usage": {"total_tokens": 15, "prompt_tokens": 15},
    "results": [{"index": 1, "document": {"text": "Servus"}, "relevance_score": 0.98}],
}
TEI = [{"index": 1, "score": 0.98}, {"index": 0, "score": 0.5}]

SAMPLES: dict[str, Exchange] = {
    "rerank_cohere": exchange("/v2/rerank", ASKED, COHERE),
    "rerank_jina": exchange("/v1/rerank", ASKED, JINA),
    "rerank_tei": exchange(
        "/rerank", {"query": "Grüße?", "texts": ["Hallo", "Servus"]}, json.dumps(TEI).encode()
    ),
    "rerank_error": exchange("/v2/rerank", ASKED, {"message": "invalid api token"}, status=401),
}
