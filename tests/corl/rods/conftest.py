"""A local HTTP server that speaks the OpenAI chat format and answers, refuses and fails as a test tells it to."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from corl.data.items import Item

THOUGHT = (
    "The findings point to a disorder of copper handling, and the low serum value fits it. Another option shares the "
    "tremor but would not explain the corneal ring, so it is unlikely. I assume that no drug explains the finding."
)


@dataclass
class Chat:
    """A running server. `reply(body, count)` gives a text, or (status, headers, body); `count` is how often this very
    request came before. `bodies` holds every request in the order it came."""

    reply: Callable[[dict[str, Any], int], Any]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    answered: int = 0
    counts: Counter = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def repeated(self) -> int:
        """Requests that came although an equal one had come."""
        return sum(count - 1 for count in self.counts.values())


def completion(text: str, prompt_tokens: int = 50, completion_tokens: int = 20) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    usage["total_tokens"] = prompt_tokens + completion_tokens
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def _handler(chat: Chat) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802 (the name that the base class calls)
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            body = json.loads(raw)
            with chat.lock:
                count = chat.counts[raw]
                chat.counts[raw] += 1
                chat.bodies.append(body)
                chat.at_once += 1
                chat.most_at_once = max(chat.most_at_once, chat.at_once)
            try:
                made = chat.reply(body, count)
                if isinstance(made, str):
                    made = (200, {}, completion(made))
                status, headers, content = made
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                with chat.lock:
                    chat.answered += status == 200
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with chat.lock:
                    chat.at_once -= 1

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def serve_chat() -> Iterator[Callable[..., Chat]]:
    """serve_chat(reply): a server of its own on a free port of this machine, until the test ends."""
    servers: list[ThreadingHTTPServer] = []

    def serve(reply: Callable[[dict[str, Any], int], Any]) -> Chat:
        chat = Chat(reply)
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(chat))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        return chat

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def chat_reply() -> Callable[..., dict[str, Any]]:
    """chat_reply(text, prompt_tokens, completion_tokens): the body of an answer."""
    return completion


@pytest.fixture(scope="session")
def wilson_items() -> Callable[[int], list[Item]]:
    """wilson_items(n): n questions of four options, golds A, B, C, D in turn."""

    def make(n: int) -> list[Item]:
        names = ("Wilson disease", "essential tremor", "Huntington disease", "hemochromatosis")
        items = []
        for k in range(n):
            shift = k % 4
            options = {letter: names[(place - shift) % 4] for place, letter in enumerate("ABCD")}
            question = f"Case {k}: tremor, a brown corneal ring and a low ceruloplasmin. Which diagnosis?"
            items.append(Item(f"case:{k}", "invented", "en", None, question, options, "ABCD"[shift], None, {}))
        return items

    return make


@pytest.fixture(scope="session")
def written() -> Callable[..., str]:
    """written(letter, thought): a completion in the format."""

    def write(letter: str, thought: str = THOUGHT) -> str:
        return f"<think>{thought}</think>\n<answer>{letter}</answer>"

    return write


@pytest.fixture(scope="session")
def item_of() -> Callable[[dict[str, Any], list[Item]], Item]:
    """item_of(body, items): the item that a request asks."""

    def find(body: dict[str, Any], items: list[Item]) -> Item:
        asked = body["messages"][1]["content"]
        return next(item for item in items if item.question in asked)

    return find
