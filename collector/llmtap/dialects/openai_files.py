"""OpenAI files and batches (`/files…`, `/batches…` at the root of the API, with its Azure forms).

Source: OpenAI API reference and SDK. What a file holds is not kept, only its names and size. The
usage of a batch is told by every GET of it: it is kept in the answer's part, and never as the usage
of a call, which would count it as often as one asks.
"""

from __future__ import annotations

import re

from llmtap.dialects.answers import read_answer
from llmtap.dialects.errors import openai_error
from llmtap.dialects.jsonish import JSON, items, text
from llmtap.dialects.model import Call, Exchange, Message, Operation, Part
from llmtap.dialects.multipart import FormPart
from llmtap.dialects.openai_common import facts
from llmtap.dialects.openai_forms import begin_form
from llmtap.dialects.parts import generic_part

_PATH = re.compile(
    r"(?:\A|/v\d+|/openai|/deployments/[^/]+)/(files|batches)(?:/[^/]+(/content|/cancel)?)?\Z"
)
"""Not what lies deeper: vector stores have files, Anthropic's messages have batches."""
_PARAMETERS = frozenset(
    """purpose expires_after endpoint completion_window input_file_id
    output_expires_after""".split()  # noqa: SIM905
)
_FACTS = frozenset(
    """id object filename bytes size_bytes mime_type purpose status status_details created_at
    expires_at deleted endpoint model errors input_file_id output_file_id error_file_id
    completion_window in_progress_at finalizing_at completed_at failed_at expired_at cancelling_at
    cancelled_at request_counts usage""".split()  # noqa: SIM905
)


class OpenAIFiles:
    name = "openai_files"
    provider = "openai"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        return method in ("GET", "POST", "DELETE") and _PATH.search(path) is not None

    def decode(self, exchange: Exchange) -> Call:
        match = _PATH.search(exchange.path)
        of_batch = match is not None and match[1] == "batches"
        operation: Operation = "batch" if of_batch else "files"
        call, request, files = begin_form(exchange, self.name, operation, _PARAMETERS)
        parts = [_uploaded(file) for file in files]
        if request.get("input_file_id"):
            parts.append({"type": "file", "file_id": text(request["input_file_id"])})
        if parts:
            call.input_messages = [Message("user", parts)]
        download = match is not None and match[2] == "/content" and exchange.http_status < 400
        if download:
            call.output_messages = [Message("assistant", [_content(exchange)])]
        elif exchange.response_body:
            _answer(call, exchange)
        return call


DIALECT = OpenAIFiles()


def _uploaded(file: FormPart) -> Part:
    return {
        "type": "generic",
        "generic_type": "file_upload",
        "filename": file.filename or "",
        "mime_type": file.content_type,
        "size": len(file.value),
    }


def _content(exchange: Exchange) -> Part:
    return {
        "type": "generic",
        "generic_type": "file_content",
        "mime_type": exchange.response_headers.get("content-type", ""),
        "size": len(exchange.response_body),
    }


def _answer(call: Call, exchange: Exchange) -> None:
    answer = read_answer(call, exchange)
    if call.error_type or not answer:
        return
    if isinstance(answer.get("data"), list):
        listed = {"type": f"{call.operation}_list", "count": len(items(answer["data"]))}
        call.output_messages = [Message("assistant", [generic_part(listed)])]
        return
    facts(call, answer)
    told: JSON = {key: answer[key] for key in answer if key in _FACTS and answer[key] is not None}
    kind = "batch" if call.operation == "batch" else "file"
    call.output_messages = [Message("assistant", [generic_part({**told, "type": kind})])]
