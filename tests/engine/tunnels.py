"""Proxies and origins as peers of the fake network; the origin's TLS is real, over memory."""

from __future__ import annotations

import functools
import ssl

import trustme

from pooltransport.testing.fakes import END

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
HTTP_PROXY = "http://192.0.2.9:3128"
HTTPS_PROXY = "https://192.0.2.9:3129"
SOCKS_PROXY = "socks5://192.0.2.9"
SECURE = "https://192.0.2.1/"


@functools.cache
def authority():
    return trustme.CA()


@functools.cache
def client_context():
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


@functools.cache
def server_context(*names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*(names or ("192.0.2.1", "origin.test"))).configure_cert(context)
    return context


class Origin:
    """The server's side of TLS on a stream: `hear` takes what came, and answers each request with `answer`.

    `hold`: what the server says when the handshake is done, its session tickets, stays in `held`.
    """

    def __init__(self, stream, answer=OK, *, context=None, hold=False):
        self.stream = stream
        self.answer = answer
        self.requests = []
        self.held = b""
        self.names = []
        self._hold = hold
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = (context or server_context()).wrap_bio(self._in, self._out, server_side=True)
        self._ready = False

    def hear(self, data):
        self._in.write(data)
        try:
            self._go_on()
        except ssl.SSLWantReadError:
            if self.held:
                return
        except ssl.SSLError:
            self._flush()
            self.stream.end()
            return
        self._flush()

    def _go_on(self):
        if not self._ready:
            self._tls.do_handshake()
            self._ready = True
            if self._hold:
                self.held = self._out.read()
                raise ssl.SSLWantReadError
        while data := self._tls.read(65536):
            self.requests.append(data)
            self.say(self.answer)

    def say(self, text):
        """Send text, encrypted."""
        self._tls.write(text)
        self._flush()

    def goodbye(self):
        """Send close_notify, and nothing else."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            self._flush()

    def _flush(self):
        # In order: what was held back comes first.
        data, self.held = self.held + self._out.read(), b""
        if data:
            self.stream.feed(data)

    def release(self, size=None):
        """Send what was held back, or a part of it."""
        data, self.held = self.held[:size], self.held[len(self.held[:size]) :]
        self.stream.feed(data)


class Hop:
    """A proxy: answers the n-th thing it is sent with the n-th reply, and is a tunnel to an `Origin` afterwards,
    or to a plain server with ``tls=False``. A reply is what `FakeStream.play` takes; None is silence.
    """

    def __init__(self, *replies, tls=True, **origin):
        self.replies = replies
        self.asked = []  # by stream, what each reply answered
        self.origins = []
        self._tls = tls
        self._options = origin

    def __call__(self, dial):
        self.serve(dial.accept())

    def serve(self, stream):
        replies = list(self.replies)
        asked: list[bytes] = []
        self.asked.append(asked)
        origin = Origin(stream, **self._options) if self._tls else None
        self.origins.append(origin)
        seen = 0

        def on_sent(stream):
            nonlocal seen
            data = bytes(stream.sent[seen:])
            seen += len(data)
            if replies:
                asked.append(data)
                reply = replies.pop(0)
                if reply is not None:
                    stream.play(reply)
            elif origin is not None:
                origin.hear(data)
            else:
                stream.play(OK)

        stream.on_sent = on_sent


def connect(reply=ESTABLISHED, **origin):
    """Return a proxy that answers CONNECT."""
    return Hop(reply, **origin)


def socks(method=b"\x05\x00", *rest, **origin):
    """Return a SOCKS5 proxy."""
    return Hop(method, *(rest or (GRANTED,)), **origin)


__all__ = ["END", "ESTABLISHED", "GRANTED", "Hop", "Origin", "client_context", "connect", "server_context", "socks"]
