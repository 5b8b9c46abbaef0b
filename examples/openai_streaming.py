"""Chat completions, streamed through the pool: `python examples/openai_streaming.py`; with ``--sdk`` by OpenAI's SDK.

A stand-in on loopback answers as the API does. Four conversations at once share two connections; each answer is read
inside of a `with`, and one is left early.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2

import pooltransport as pt
from pooltransport.adapters.httpx2 import HTTPTransport


class StandIn(BaseHTTPRequestHandler):
    """Answers each question with its own words, as server-sent events."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        known = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
        for word in ["You", " said:", *(f" {word}" for word in asked["messages"][-1]["content"].split())]:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            self.send(f"data: {json.dumps(known | {'choices': [choice]})}\n\n")
        self.send("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def send(self, event):
        self.wfile.write(f"{len(event):x}\r\n{event}\r\n".encode())

    def log_message(self, *args):
        """Say nothing."""


@contextmanager
def stand_in():
    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def by_hand(http, url):
    """Return a function that yields the pieces of an answer, with httpx2 alone."""

    def ask(question, most=None):
        asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": question}]}
        with http.stream("POST", f"{url}/chat/completions", json=asked) as response:
            for count, line in enumerate(line for line in response.iter_lines() if line.startswith("data: {")):
                if count == most:
                    return  # the `with` closes it
                yield json.loads(line.removeprefix("data: "))["choices"][0]["delta"]["content"]

    return ask


def by_sdk(http, url):
    """The same, with OpenAI's SDK over that client."""
    import openai  # noqa: PLC0415 - only with --sdk

    client = openai.OpenAI(api_key="none", base_url=url, http_client=http)

    def ask(question, most=None):
        messages = [{"role": "user", "content": question}]
        with client.chat.completions.create(model="m", stream=True, messages=messages) as stream:
            for count, event in enumerate(stream):
                if count == most:
                    return
                yield event.choices[0].delta.content

    return ask


def main():
    with stand_in() as url, pt.Transport(max_conns_per_host=2) as transport:
        with httpx2.Client(transport=HTTPTransport(transport), timeout=httpx2.Timeout(10.0)) as http:
            ask = (by_sdk if "--sdk" in sys.argv else by_hand)(http, url)
            questions = ["one", "two words", "three more words", "and these are four"]
            with ThreadPoolExecutor(len(questions)) as pool:
                for answer in pool.map(lambda question: "".join(ask(question)), questions):
                    print(answer)
            print("".join(ask("a long story that nobody reads", most=3)), "...")
        stats = transport.stats()
        print(f"{stats.dials} connections for 5 answers, {stats.active} still held, {stats.leaks} leaked")


if __name__ == "__main__":
    main()
