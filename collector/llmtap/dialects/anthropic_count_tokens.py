"""Anthropic's count of a prompt's tokens (`…/v1/messages/count_tokens`).

Source: Anthropic API reference. The request is that of a message. The count is the answer and was
not used: the call's usage stays empty.
"""

from __future__ import annotations

import dataclasses

from llmtap.dialects.answers import read_answer
from llmtap.dialects.anthropic_messages import DIALECT as MESSAGES
from llmtap.dialects.errors import anthropic_error
from llmtap.dialects.model import Call, Exchange, Message


class AnthropicCountTokens:
    name = "anthropic_count_tokens"
    provider = "anthropic"
    error_body = staticmethod(anthropic_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/v1/messages/count_tokens")

    def decode(self, exchange: Exchange) -> Call:
        asked = dataclasses.replace(exchange, response_body=b"", http_status=0)
        call = MESSAGES.decode(asked)
        call.dialect, call.operation = self.name, "count_tokens"
        call.stream, call.stream_complete = False, True
        if exchange.response_body:
            answer = read_answer(call, exchange)
            if "input_tokens" in answer:
                part = {
                    "type": "generic",
                    "generic_type": "token_count",
                    "input_tokens": answer["input_tokens"],
                }
                call.output_messages = [Message("assistant", [part])]
        return call


DIALECT = AnthropicCountTokens()
