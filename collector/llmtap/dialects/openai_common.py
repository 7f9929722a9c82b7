"""What the OpenAI-style dialects share: request fields, facts of answers, stream reading."""

from __future__ import annotations

from llmtap.dialects.answers import expect_stream, read_request, stream_events, take_error
from llmtap.dialects.framing import Event
from llmtap.dialects.jsonish import JSON, clean, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Operation
from llmtap.dialects.usage import openai_usage, server_timings

PARAMETERS = frozenset(
    """temperature top_p top_k min_p n max_tokens max_completion_tokens min_tokens stop seed
    frequency_penalty presence_penalty repetition_penalty reasoning_effort reasoning thinking
    verbosity response_format tool_choice parallel_tool_calls logprobs top_logprobs service_tier
    stream_options modalities dimensions encoding_format suffix echo best_of""".split()  # noqa: SIM905
)


def begin(exchange: Exchange, name: str, operation: Operation) -> tuple[Call, JSON]:
    """A call with all that the request says, and the request's object."""
    call = Call(dialect=name, operation=operation, provider="openai")
    request = read_request(call, exchange)
    expect_stream(call, exchange, request.get("stream") is True)
    call.model_requested = text(request.get("model")) or _deployment(exchange.path)
    call.request_params = {key: request[key] for key in request if key in PARAMETERS}
    call.user_id = text(request.get("user") or request.get("safety_identifier"))
    call.tool_definitions = items(request.get("tools") or request.get("functions"))
    return call, request


def _deployment(path: str) -> str:
    """Azure's name of a model, in `/openai/deployments/NAME/…`."""
    return clean(path.partition("/deployments/")[2].partition("/")[0])


def facts(call: Call, answer: JSON) -> None:
    """Ids and names that responses and chunks carry alike; the first non-empty wins."""
    call.response_id = call.response_id or text(answer.get("id"))
    call.model_served = call.model_served or text(answer.get("model"))
    call.system_fingerprint = call.system_fingerprint or text(answer.get("system_fingerprint"))
    call.service_tier = text(answer.get("service_tier")) or call.service_tier


def usage(call: Call, answer: JSON) -> None:
    """Reported usage, else the server's timings."""
    openai_usage(call, obj(answer.get("usage")))
    server_timings(call, obj(answer.get("timings")))


def chunks(call: Call, exchange: Exchange) -> list[tuple[int, JSON]]:
    """The JSON events of an SSE body, each with its end. Takes what they say beside their choices.

    Usage is the last that is not null, never a sum: some servers repeat it on every chunk.
    """
    found: list[tuple[int, JSON]] = []
    done = False
    last: JSON = {}
    for event in stream_events(exchange):
        if event.data.startswith(b"[DONE]"):
            done = True
            continue
        chunk = parse_object(event.data)
        if not chunk:
            if event.data.strip():
                call.decode_error = call.decode_error or "a stream event is not a JSON object"
            continue
        if not (call.response_id and call.model_served):
            facts(call, chunk)
        if "error" in chunk or event.name or chunk.get("object") == "error":
            _error(call, event, chunk)
        if reported := chunk.get("usage") or obj(chunk.get("x_groq")).get("usage"):
            last["usage"] = reported
        if "timings" in chunk:
            last["timings"] = chunk["timings"]
        found.append((event.end, chunk))
    if found:
        facts(call, found[-1][1])
    call.stream = True
    call.stream_complete = done
    usage(call, last)
    return found


def _error(call: Call, event: Event, chunk: JSON) -> None:
    """An error in the middle of a stream, named by its event or by its shape."""
    bare = event.name == b"error" and not chunk.get("error")
    take_error(call, {"error": chunk} if bare else chunk, 0)
