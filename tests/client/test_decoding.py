"""Content codings of a client's answers: each alone and several in a row, however cut, bounded, and broken."""

from __future__ import annotations

import gzip
import random
import sys
import tracemalloc
import zlib

import brotli
import pytest

import pooltransport as pt
from pooltransport.codings import known_codings
from pooltransport.decoding import ContentDecoder
from tests.support.colours import run_colour
from tests.support.responders import Responder, head
from tests.support.routes import routes

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RANDOM = random.Random(5)
TEXT = b"".join(b"%d pooltransport " % RANDOM.randrange(1000) for _ in range(20_000))


def bare_deflate(data):
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


def decoded(data, *codings, size=None, most=None):
    decoder = ContentDecoder(tuple(coding.encode() for coding in codings), most)
    out = []
    pieces = [data[i : i + size] for i in range(0, len(data), size)] if size else [data]
    for piece in [*pieces, b""]:
        while got := decoder.take():
            out.append(got)
        decoder.put(piece)
    assert not decoder.take()
    return b"".join(out)


class TestCodings:
    @pytest.mark.parametrize("size", [1, 7, 1000, None])
    @pytest.mark.parametrize("coding", ENCODERS)
    def test_each_however_cut(self, coding, size):
        data = TEXT if size != 1 else TEXT[:5_000]
        assert decoded(ENCODERS[coding](data), coding, size=size) == data
        assert decoded(ENCODERS[coding](b""), coding, size=size) == b""
        assert decoded(b"", coding) == b""

    @pytest.mark.parametrize("size", [1, 1000])
    def test_deflate_without_its_wrapper(self, size):
        data = TEXT if size != 1 else TEXT[:5_000]
        assert decoded(bare_deflate(data), "deflate", size=size) == data

    @pytest.mark.parametrize("size", [1, 7, 1000, None])
    def test_several_in_a_row(self, size):
        data = TEXT[:5_000]
        for _ in range(5):
            names = [RANDOM.choice(list(ENCODERS)) for _ in range(RANDOM.randrange(2, 6))]
            wire = data
            for name in names:
                wire = ENCODERS[name](wire)
            assert decoded(wire, *names, size=size) == data

    @pytest.mark.parametrize("size", [1, 100, None])
    @pytest.mark.parametrize("coding", ["gzip", "zstd"])
    def test_members_and_frames(self, coding, size):
        encode = ENCODERS[coding]
        assert decoded(encode(b"one") + encode(b"") + encode(b"two"), coding, size=size) == b"onetwo"

    @pytest.mark.parametrize("size", [1, None])
    def test_what_stands_behind_the_end(self, size):
        """Of deflate, some servers send a line's end there: browsers, curl and requests read on all the same."""
        assert decoded(zlib.compress(b"whole") + b"\r\nrest", "deflate", size=size) == b"whole"
        for coding in ("gzip", "br", "zstd"):
            with pytest.raises(pt.DecodingError, match=f"broken {coding}"):
                decoded(ENCODERS[coding](b"whole") + b"rest of another", coding, size=size)

    @pytest.mark.parametrize("coding", ENCODERS)
    def test_cut_off(self, coding):
        wire = ENCODERS[coding](TEXT)
        for end in (1, 2, 5, len(wire) // 2, len(wire) - 1):
            with pytest.raises(
                pt.DecodingError, match=f"the {coding} stream ended too early, after {end} bytes"
            ) as caught:
                decoded(wire[:end], coding)
            assert caught.value.offset == end

    @pytest.mark.parametrize("coding", ENCODERS)
    def test_nonsense(self, coding):
        wire = ENCODERS[coding](TEXT)
        broken = wire[:100] + bytes(255 - byte for byte in wire[100:300]) + wire[300:]
        with pytest.raises(pt.DecodingError, match=f"{coding}") as caught:
            decoded(broken, coding, size=50)
        assert 0 < caught.value.offset <= len(wire)
        with pytest.raises(pt.DecodingError):
            decoded(b"\xffno such thing at all", coding)

    def test_a_zstd_window_that_is_too_large(self):
        """RFC 9659: 8 MiB, or a few bytes make us hold gigabytes."""
        parameters = {zstd.CompressionParameter.window_log: 24}
        made = zstd.ZstdCompressor(options=parameters)
        wire = made.compress(b"x" * 20_000_000) + made.flush()
        with pytest.raises(pt.DecodingError, match="broken zstd"):
            decoded(wire, "zstd")

    def test_all_are_known_here(self):
        assert set(known_codings()) == {name.encode() for name in ENCODERS}


def bomb(coding, step=1_000_000, steps=60):
    """60 MB of zeros, made a megabyte at a time."""
    if coding in ("gzip", "deflate"):
        made = zlib.compressobj(9, wbits=31 if coding == "gzip" else 15)
        return b"".join([*(made.compress(bytes(step)) for _ in range(steps)), made.flush()])
    if coding == "br":
        made = brotli.Compressor(quality=5)
        return b"".join([*(made.process(bytes(step)) for _ in range(steps)), made.finish()])
    made = zstd.ZstdCompressor()
    return b"".join([*(made.compress(bytes(step)) for _ in range(steps)), made.flush()])


class TestBounds:
    @pytest.mark.parametrize("coding", ENCODERS)
    def test_a_bomb_stops_at_the_limit_with_flat_memory(self, coding):
        """Done-when 4, with 60 MB in place of 10 GB: `test_ten_gigabytes` has the rest."""
        wire = bomb(coding)
        decoder = ContentDecoder((coding.encode(),), 40_000_000)
        decoder.put(wire)
        given = 0
        tracemalloc.start()
        try:
            with pytest.raises(pt.DecodingError, match=r"grew to \d+ bytes out of \d+ \(max_decoded_bytes: 40000000\)"):
                while piece := decoder.take():
                    given += len(piece)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()
        assert 39_000_000 < given <= 40_000_000

    @pytest.mark.parametrize("coding", ENCODERS)
    def test_one_within_the_limit_comes_whole(self, coding):
        decoder = ContentDecoder((coding.encode(),), 60_000_000)
        decoder.put(bomb(coding))
        given = 0
        while piece := decoder.take():
            given += len(piece)
        decoder.put(b"")
        assert given == 60_000_000

    def test_one_inside_another(self):
        """The limit is each coding's: a body that ends small may have been large on its way."""
        wire = gzip.compress(b"".join([gzip.compress(b"")] * 50_000))
        with pytest.raises(pt.DecodingError, match="max_decoded_bytes: 100000"):
            decoded(wire, "gzip", "gzip", most=100_000)

    @pytest.mark.full
    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
    def test_ten_gigabytes(self, coding):
        """Decoded to its end where the limit allows it, a megabyte at a time."""
        decoder = ContentDecoder((coding.encode(),), 20_000_000_000)
        wire = bomb(coding, steps=1_000)
        tracemalloc.start()
        given = 0
        try:
            for _ in range(10 if coding != "br" else 1):
                if coding == "br":
                    decoder = ContentDecoder((b"br",), 20_000_000_000)
                decoder.put(wire)
                while piece := decoder.take():
                    given += len(piece)
            assert tracemalloc.get_traced_memory()[1] < 30_000_000
        finally:
            tracemalloc.stop()
        assert given == (10_000_000_000 if coding != "br" else 1_000_000_000)


class TestClient:
    @pytest.mark.parametrize("coding", [*ENCODERS, "gzip, br", "identity", "x-gzip"])
    def test_what_comes_is_decoded(self, colour, server_factory, coding):
        names = [name for name in coding.replace("x-gzip", "gzip").split(", ") if name != "identity"]
        wire = TEXT
        for name in names:
            wire = ENCODERS[name](wire)
        server = server_factory(routes({"/": (200, {"Content-Encoding": coding, "Content-Type": "text/plain"}, wire)}))

        async def body(c):
            client = c.make_client()
            response = await c.call(client.get, server.url)
            assert response.content == TEXT
            assert response.text == TEXT.decode()
            assert response.headers["content-encoding"] == coding
            assert response.headers["content-length"] == str(len(wire))
            assert response.decoded is bool(names)
            streamed = await c.call(client.send, client.build_request("GET", server.url), stream=True)
            assert b"".join([piece async for piece in c.chunks(streamed, 10_000)]) == TEXT
            raw = await c.call(client.send, client.build_request("GET", server.url), stream=True)
            pieces = list(raw.iter_raw()) if c.sync else [piece async for piece in raw.aiter_raw()]
            assert b"".join(pieces) == wire

        run_colour(colour, body)
        assert server.accepted == 1
        assert server.log[0].header("accept-encoding") == "gzip, deflate, br, zstd"

    def test_an_unknown_one_is_the_callers(self, colour, server_factory):
        server = server_factory(routes({"/": (200, {"Content-Encoding": "gzip, own"}, b"as it is")}))

        async def body(c):
            response = await c.call(c.make_client().get, server.url)
            assert (response.content, response.decoded) == (b"as it is", False)

        run_colour(colour, body)

    def test_what_the_caller_asks_for(self, colour, server_factory):
        server = server_factory(routes({"/": (200, {"Content-Encoding": "gzip"}, gzip.compress(b"x"))}))

        async def body(c):
            client = c.make_client()
            response = await c.call(client.get, server.url, headers={"Accept-Encoding": "identity"})
            assert response.content == b"x"  # what comes is still decoded
            await c.call(client.get, server.url, headers={"Range": "bytes=0-"})
            await c.call(client.head, server.url)

        run_colour(colour, body)
        assert [request.header("accept-encoding") for request in server.log] == ["identity", None, None]

    def test_a_broken_one_gives_the_slot_back(self, colour, server_factory):
        wire = ENCODERS["zstd"](TEXT)[:-5]

        @Responder
        def respond(conn, request):
            conn.send(head("200 OK", ("Content-Encoding", "zstd"), length=len(wire)) + wire)

        server = server_factory(respond)

        async def body(c):
            with pytest.raises(pt.DecodingError, match="the zstd stream ended too early") as caught:
                await c.call(c.make_client().get, server.url)
            assert not isinstance(caught.value, pt.TransportError)
            assert c.transport.stats().leases == 0

        run_colour(colour, body)

    def test_a_bomb_closes_the_connection(self, colour, server_factory):
        wire = bomb("br")
        server = server_factory(routes({"/": (200, {"Content-Encoding": "br"}, wire)}))

        async def body(c):
            with pytest.raises(pt.DecodingError, match="max_decoded_bytes: 1000000"):
                await c.call(c.make_client().get, server.url)
            assert c.transport.stats().leases == 0

        run_colour(colour, body, max_decoded_bytes=1_000_000)
