"""Bedrock's Converse and AWS event streams; botocore is the judge."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import botocore.config
import botocore.session
import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from llmtap.dialects.aws_eventstream import frames
from llmtap.dialects.model import Call, Usage
from llmtap.dialects.registry import decode
from tests.dialects import samples_bedrock as samples
from tests.dialects.aws_frames import frame
from tests.dialects.samples_bedrock import MODEL, SAMPLES

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(st.dictionaries(_TEXTS, _TEXTS, max_size=4), st.binary(max_size=60))))
def test_botocore_reads_the_same_frames(written: list[tuple[dict[str, str], bytes]]) -> None:
    body = b"".join(frame(headers, payload) for headers, payload in written)
    buffer: Any = EventStreamBuffer()
    buffer.add_data(body)
    theirs = [(event.headers, event.payload) for event in buffer]
    ours, problem = frames(body)
    assert [(f.headers, f.payload) for f in ours] == theirs == written
    assert problem == "" and (not ours or ours[-1].end == len(body))


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(body: bytes) -> None:
    frames(body)


@given(st.integers(0, len(samples.STREAM) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    body = bytearray(samples.STREAM)
    body[at] ^= change
    found, problem = frames(bytes(body))
    assert problem or sum(f.end for f in found[-1:]) < len(body)


@contextmanager
def bedrock(status: int, kind: str, body: bytes) -> Iterator[Any]:
    """botocore's own client before a server that answers with `body`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            if status >= 400:
                self.send_header("x-amzn-errortype", "ValidationException:http://x/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    session: Any = botocore.session.Session()
    session.set_credentials("k", "s")
    client = session.create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        config=botocore.config.Config(retries={"max_attempts": 0}),
    )
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


def said(call: Call) -> list[tuple[str, Any]]:
    parts = call.output_messages[0].parts
    return [(p["type"], p.get("content", p.get("arguments"))) for p in parts]


def test_a_whole_answer() -> None:
    with bedrock(200, "application/json", json.dumps(samples.WHOLE).encode()) as client:
        got = client.converse(
            modelId=MODEL, messages=[{"role": "user", "content": [{"text": "x"}]}]
        )
    call = decode(SAMPLES["bedrock"])
    thought, answer, tool = got["output"]["message"]["content"]
    assert said(call) == [
        ("reasoning", thought["reasoningContent"]["reasoningText"]["text"]),
        ("text", answer["text"]),
        ("tool_call", tool["toolUse"]["input"]),
    ]
    assert (call.model_requested, call.provider) == (MODEL, "aws")
    assert (call.finish_reason, call.tool_calls) == (got["stopReason"], ["g"])
    assert call.usage == Usage(40, 9, cache_read_tokens=20, cache_write_tokens=10)
    assert got["usage"]["totalTokens"] == 40 + 9
    assert call.request_params == {"maxTokens": 100, "temperature": 0.5}
    kinds = [p["type"] for m in call.input_messages for p in m.parts]
    assert kinds == ["text", "text", "blob", "uri", "tool_call", "tool_call_response"]


def test_a_stream() -> None:
    with bedrock(200, "application/vnd.amazon.eventstream", samples.STREAM) as client:
        asked = [{"role": "user", "content": [{"text": "x"}]}]
        events = list(client.converse_stream(modelId=MODEL, messages=asked)["stream"])
    deltas = [e["contentBlockDelta"]["delta"] for e in events if "contentBlockDelta" in e]
    text = "".join(d["text"] for d in deltas if "text" in d)
    call = decode(SAMPLES["bedrock_stream"])
    assert said(call) == [("reasoning", "Hm."), ("text", text), ("tool_call", '{"b": 2}')]
    assert text == "Grüße!" and call.stream and call.stream_complete
    assert events[-1]["metadata"]["usage"]["outputTokens"] == call.usage.output_tokens == 9
    assert (call.finish_reason, call.chunks, call.usage_source) == ("tool_use", 7, "reported")


def test_an_exception_in_a_stream_and_an_error() -> None:
    call = decode(SAMPLES["bedrock_exception"])
    assert (call.error_type, call.error_message) == ("throttlingException", "Too many tokens")
    assert said(call) == [("reasoning", "Hm."), ("text", "Grüße!")]
    call = decode(SAMPLES["bedrock_error"])
    assert call.error_type == "ValidationException"
    assert call.error_message == "Malformed input request"


def test_any_cut_gives_a_beginning() -> None:
    whole = SAMPLES["bedrock_stream"]
    full = "".join(str(content) for _, content in said(decode(whole)))
    for cut in range(len(whole.response_body)):
        body = whole.response_body[:cut]
        call = decode(dataclasses.replace(whole, response_body=body, response_complete=False))
        got = "".join(str(c) for _, c in said(call)) if call.output_messages else ""
        assert full.startswith(got) and call.decode_error == ""


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/model/amazon.nova-pro-v1:0/converse", "amazon.nova-pro-v1:0"),
        (
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fx/converse",
            "arn:aws:bedrock:us-east-1:1:inference-profile/x",
        ),
    ],
)
def test_models_in_paths(path: str, model: str) -> None:
    call = decode(dataclasses.replace(SAMPLES["bedrock"], path=path))
    assert call.model_requested == model
