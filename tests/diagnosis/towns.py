"""Services at work, in manual time: a server with a speed, and callers that behave well or badly.

What takes minutes in a service takes milliseconds here, and the numbers are the same each time.
"""

from __future__ import annotations

import re

from pooltransport import Request, Timeout
from pooltransport.errors import TransportError
from pooltransport.testing.fakes import END, FakeRuntime, FakeTransport

URL = "http://192.0.2.1/"


def body(size):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


class Town:
    """One transport and its server. `wait`: s until an answer; `answer`: what is sent; `drip`: (pieces, pause)."""

    def __init__(self, *, wait=0.05, answer=None, drip=None, refuse=None, then_end=False, **options):
        self.wait = wait
        self.answer = answer or body(100)
        self.drip = drip
        self.refuse = refuse
        self.then_end = then_end
        self.runtime = FakeRuntime(self._dial)
        self.transport = FakeTransport(self.runtime, **options)
        self.kept = []
        self.errors = []

    # -- the server -------------------------------------------------------------------------------

    def _dial(self, dial):
        if self.refuse is not None:
            dial.refuse(self.refuse)
            return
        stream = dial.accept()
        stream.on_sent = self._on_sent
        stream.seen = 0

    def _on_sent(self, stream):
        whole = stream.sent.count(b"\r\n\r\n")
        if whole > stream.seen:
            stream.seen = whole
            self.runtime.start(self._answer(stream), "server")

    async def _answer(self, stream):
        await self.runtime.sleep(self.wait)
        if self.drip is None:
            stream.feed(self.answer)
        else:
            pieces, pause = self.drip
            stream.feed(self.answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            rest = self.answer.partition(b"\r\n\r\n")[2]
            for number in range(pieces):
                await self.runtime.sleep(pause)
                size = -(-len(rest) // pieces)
                stream.feed(rest[number * size : (number + 1) * size])
        if self.then_end:
            stream.play(END)

    # -- the callers ------------------------------------------------------------------------------

    async def get(self, *, read=True, keep=False, close=True, acquire=5.0, path="", pause=0.0, stream=False):
        """Make one request. `pause`: seconds between two pieces that are read."""
        try:
            response = await self.transport.round_trip(Request("GET", URL + path, timeout=Timeout(acquire=acquire)))
        except TransportError as error:
            self.errors.append(error)
            return
        if stream:
            response.long_lived()
        if keep:
            self.kept.append(response)
        elif pause:
            async for _ in response.aiter_bytes():
                await self.runtime.sleep(pause)
        elif read:
            await response.aread()
        if close and not keep:
            await response.aclose()

    def at(self, seconds, **how):
        """Start a request when `seconds` from now have passed."""

        async def later():
            await self.runtime.sleep(seconds)
            await self.get(**how)

        self.runtime.start(later(), "caller")

    def steady(self, rate, seconds, **how):
        """Start `rate` requests each second for so long, and let that time pass."""
        for number in range(int(rate * seconds)):
            self.at(number / rate, **how)
        self.go(seconds)

    def bursts(self, size, every, seconds, **how):
        """Start `size` requests at once, `every` so many seconds, and let the time pass."""
        for number in range(int(seconds / every)):
            for _ in range(size):
                self.at(number * every, **how)
        self.go(seconds)

    def go(self, seconds):
        self.runtime.advance(seconds)

    # -- what is said -----------------------------------------------------------------------------

    @property
    def findings(self):
        """What is said of this town: R3 speaks of the whole process, and so of what other tests have made."""
        return tuple(finding for finding in self.transport.stats().findings if finding.id != "R3")

    def said(self):
        """Return what is said: rule and confidence."""
        return [(finding.id, finding.confidence) for finding in self.findings]

    def numbers(self, rule):
        """Return all numbers in the evidence of a rule."""
        (finding,) = [finding for finding in self.findings if finding.id == rule]
        return [float(text) for text in re.findall(r"\d+(?:\.\d+)?", " ".join(finding.evidence))]

    def end(self):
        self.kept.clear()
        self.runtime.run(self.transport.aclose())
        self.transport.check()
