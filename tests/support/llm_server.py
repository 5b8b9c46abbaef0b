"""A stand-in for the two APIs that their SDKs talk to: one answer, whole or as server-sent events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .responders import Responder, head

if TYPE_CHECKING:
    from .server import ServerConn, ServerRequest

WORDS = ["The", " pool", " is", " whole", "."]
TEXT = "".join(WORDS)


def _event(name: str | None, data: Any) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def _openai_whole() -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }


def _openai_events() -> list[bytes]:
    def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event(
            None, {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        )

    return [*(chunk({"content": word}) for word in WORDS), chunk({}, "stop"), _event(None, "[DONE]")]


def _anthropic_message(content: list[dict[str, str]], reason: str | None) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": len(content)}
    known = {"id": "m1", "type": "message", "role": "assistant", "model": "m"}
    return known | {"content": content, "stop_reason": reason, "stop_sequence": None, "usage": usage}


def _anthropic_whole() -> dict[str, Any]:
    return _anthropic_message([{"type": "text", "text": TEXT}], "end_turn")


def _anthropic_events() -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": _anthropic_message([], None)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]
    return [_event(event["type"], event) for event in events]


@Responder
def llm(conn: ServerConn, request: ServerRequest) -> None:
    """Answer a chat completion (OpenAI) or a message (Anthropic)."""
    openai = request.target.endswith("/chat/completions")
    if not openai and not request.target.endswith("/messages"):
        conn.send(head("404 Not Found", length=0))
    elif json.loads(request.body).get("stream"):
        conn.send(head("200 OK", ("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")))
        events = _openai_events() if openai else _anthropic_events()
        conn.send_pieces([b"%x\r\n%b\r\n" % (len(event), event) for event in [*events, *_PADDING]], 0.001)
        conn.send(b"0\r\n\r\n")
    else:
        body = json.dumps(_openai_whole() if openai else _anthropic_whole()).encode()
        conn.send(head("200 OK", ("Content-Type", "application/json"), length=len(body)) + body)


# A comment that is long enough for a stream left early not to be drained unseen.
_PADDING = [b": " + b"x" * 100_000 + b"\n\n"] * 4
