"""What a real nginx answers, and how it ends connections: reuse, bodies, limits of its own, restarts."""

from __future__ import annotations

import gzip
import hashlib
import random
import socket
import time

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.nginx import Nginx, client_sockets
from tests.support.responders import Responder, head

pytestmark = pytest.mark.peers

BIG = 10_000_000


@pytest.fixture(params=["http", "https"])
def base(request, nginx) -> str:
    """Give nginx's root over either scheme."""
    return nginx.https_url if request.param == "https" else nginx.url


@pytest.fixture(scope="module")
def big_file(nginx) -> tuple[str, str]:
    """Give the path of a file in which no two places look alike, and its hash."""
    data = random.Random(10).randbytes(BIG)
    path = nginx.prefix / "html" / "bytes" / "random"
    path.write_bytes(data)
    return "/bytes/random", hashlib.sha256(data).hexdigest()


class TestAnswers:
    def test_keep_alive(self, nginx, base, colour, client_ssl_context):
        mark = f"alive-{colour}-{base[:5]}"

        async def body(c):
            for number in range(20):
                response = await c.get(f"{base}/?{mark}")
                assert (response.status_code, response.reason, response.http_version) == (200, "OK", "HTTP/1.1")
                assert response.conn.reused is (number > 0)
                assert response.conn.requests_served == number
                assert await c.read(response) == b"hello"
            assert (c.transport.stats().dials, c.transport.stats().idle) == (1, 1)

        run_colour(colour, body, ssl_context=client_ssl_context)
        log = nginx.wait_for_log(20, mark)
        assert len({line.connection for line in log}) == 1
        assert sorted(line.nth for line in log) == list(range(log[0].nth, log[0].nth + 20))

    def test_a_big_download_in_pieces(self, base, colour, big_file, client_ssl_context):
        path, sha256 = big_file

        async def body(c):
            response = await c.get(f"{base}{path}")
            digest, size = hashlib.sha256(), 0
            async for piece in c.chunks(response):
                digest.update(piece)
                size += len(piece)
            assert (size, digest.hexdigest()) == (BIG, sha256)
            assert int(response.headers["content-length"]) == BIG
            assert response.is_closed
            assert c.transport.stats().idle == 1

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_big_downloads_at_once(self, base, colour, big_file, client_ssl_context):
        path, sha256 = big_file

        async def body(c):
            bodies = await c.gather(*[lambda: c.fetch(f"{base}{path}")] * 4)
            assert {hashlib.sha256(data).hexdigest() for data in bodies} == {sha256}

        run_colour(colour, body, max_conns_per_host=2, ssl_context=client_ssl_context)

    def test_a_chunked_body(self, base, colour, client_ssl_context):
        async def body(c):
            for _ in range(3):
                response = await c.get(f"{base}/chunked")
                assert response.headers["transfer-encoding"] == "chunked"
                assert await c.read(response) == b"x" * 200_000
            assert c.transport.stats().dials == 1

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_a_compressed_body(self, base, colour, client_ssl_context):
        async def body(c):
            response = await c.get(f"{base}/gzip", headers={"Accept-Encoding": "gzip"})
            assert response.headers["content-encoding"] == "gzip"
            iterate = response.iter_raw if c.sync else response.aiter_raw
            raw = b"".join(list(iterate()) if c.sync else [piece async for piece in iterate()])
            assert gzip.decompress(raw) == b"x" * 10_000
            assert c.transport.stats().idle == 1

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_head_has_no_body_and_keeps_its_connection(self, base, colour, client_ssl_context):
        async def body(c):
            for path, length in [("/bytes/1M", "1000000"), ("/", "5"), ("/bytes/missing", None)]:
                response = await c.request("HEAD", f"{base}{path}")
                assert response.status_code == (200 if length else 404)
                assert length is None or response.headers["content-length"] == length
                assert await c.read(response) == b""
                assert await c.fetch(f"{base}/") == b"hello"
            assert c.transport.stats().dials == 1

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_not_modified_has_no_body_and_keeps_its_connection(self, base, colour, client_ssl_context):
        async def body(c):
            first = await c.get(f"{base}/bytes/10k")
            assert len(await c.read(first)) == 10_000
            for name, value in [("If-Modified-Since", "last-modified"), ("If-None-Match", "etag")]:
                again = await c.get(f"{base}/bytes/10k", headers={name: first.headers[value]})
                assert (again.status_code, again.reason) == (304, "Not Modified")
                assert await c.read(again) == b""
                assert again.is_closed
            assert await c.fetch(f"{base}/") == b"hello"
            assert c.transport.stats().dials == 1

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_a_range(self, base, colour, client_ssl_context):
        async def body(c):
            response = await c.get(f"{base}/bytes/1M", headers={"Range": "bytes=10-19"})
            assert (response.status_code, response.headers["content-range"]) == (206, "bytes 10-19/1000000")
            assert await c.read(response) == b"x" * 10

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_the_errors_of_nginx_are_answers(self, base, colour, client_ssl_context):
        async def body(c):
            for path, status in [("/bytes/missing", 404), ("/bytes/%00", 400)]:
                response = await c.get(f"{base}{path}")
                assert response.status_code == status
                assert b"nginx" in await c.read(response)
            # The headers are larger than nginx's buffers: it answers, and closes.
            response = await c.get(f"{base}/", headers={"X-Big": "x" * 100_000})
            assert response.status_code == 400
            assert b"Too Large" in await c.read(response)
            assert await c.fetch(f"{base}/") == b"hello"

        run_colour(colour, body, ssl_context=client_ssl_context)

    def test_connection_close(self, nginx, base, colour, client_ssl_context):
        async def body(c):
            for number in range(1, 6):
                response = await c.get(f"{base}/close")
                assert response.headers["connection"] == "close"
                assert await c.read(response) == b"closing"
                stats = c.transport.stats()
                assert (stats.idle, stats.active, stats.dials) == (0, 0, number)
            await c.wait_until(lambda: nginx.active_connections() == 0)
            assert c.transport.stats().closed == {"server_close_header": 5}

        run_colour(colour, body, ssl_context=client_ssl_context)


class TestUploads:
    def test_nginx_takes_an_upload_and_keeps_the_connection(self, base, colour, client_ssl_context):
        """nginx answers at once and reads the rest afterwards."""

        async def body(c):
            for content in (b"x" * BIG, [b"x" * 100_000] * 20, b""):
                response = await c.request("POST", f"{base}/post", content=content)
                assert (response.status_code, await c.read(response)) == (200, b"posted")
                assert await c.fetch(f"{base}/") == b"hello"
            stats = c.transport.stats()
            assert (stats.active, stats.leases) == (0, 0)

        run_colour(colour, body, ssl_context=client_ssl_context)

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_every_byte_of_an_upload_arrives(
        self, scheme, framing, colour, server_factory, server_ssl_context, client_ssl_context
    ):
        @Responder
        def hash_it(conn, request):
            digest = hashlib.sha256(request.body).hexdigest().encode()
            conn.send(head(length=len(digest)) + digest)

        server = server_factory(hash_it, tls=server_ssl_context if scheme == "https" else None)
        data = random.Random(11).randbytes(BIG // 2)
        pieces = [data[start : start + 77_777] for start in range(0, len(data), 77_777)]

        async def body(c):
            for _ in range(2):
                response = await c.request("PUT", server.url, content=data if framing == "length" else pieces)
                assert await c.read(response) == hashlib.sha256(data).hexdigest().encode()
            assert c.transport.stats().dials == 1

        run_colour(colour, body, ssl_context=client_ssl_context)
        expected = ("content-length", str(len(data))) if framing == "length" else ("transfer-encoding", "chunked")
        assert expected in server.log[0].headers


class TestEnds:
    def test_connections_that_nginx_closed_are_noticed(self, nginx, colour):
        """field-pains: CLOSE_WAIT without traffic. Loops are told by the kernel, threads look each second."""
        bound = {"threads": 2.0, "asyncio": 1.0, "trio": 2.0}[colour]

        async def body(c):
            responses = [await c.get(f"{nginx.url}/brief") for _ in range(5)]
            for response in responses:
                assert await c.read(response) == b"brief"
            assert c.transport.stats().idle == 5
            await c.wait_until(lambda: nginx.active_connections() == 0)
            closed_at = time.monotonic()
            await c.wait_until(lambda: client_sockets(nginx.port)["close_wait"] == 0)
            took = time.monotonic() - closed_at
            stats = c.transport.stats()
            assert (stats.open, stats.closed) == (0, {"server_closed_idle": 5})
            assert took < bound, f"it took {took:.2f} s"
            assert await c.fetch(f"{nginx.url}/") == b"hello"

        nginx.wait_for_active(0)
        run_colour(colour, body)

    def test_a_connection_closed_a_moment_ago_fails_no_request(self, nginx, colour):
        """Each request comes just when nginx closes: a stale connection is redone, GET and POST alike."""

        async def body(c):
            for number in range(10):
                assert await c.fetch(f"{nginx.url}/brief") == b"brief"
                await c.sleep(0.196 + number * 0.001)
                assert await c.fetch(f"{nginx.url}/echo?{number}") == str(number).encode()

        run_colour(colour, body)

    def test_a_reload_fails_no_get(self, tmp_path, colour):
        """The old worker closes what is idle under the client's hands; GETs are redone."""
        (tmp_path / "nginx").mkdir()
        with Nginx(tmp_path / "nginx") as own:

            async def body(c):
                ended = False
                done = 0

                async def work():
                    nonlocal done
                    while not ended:
                        assert await c.fetch(f"{own.url}/echo?{done}")
                        done += 1

                workers = [await c.start(work) for _ in range(10)]
                for _ in range(5):
                    before = done
                    await c.wait_until(lambda before=before: done > before + 50)
                    own.reload()
                    await c.wait_until(lambda before=before: done > before + 200)
                ended = True
                for worker in workers:
                    await c.wait(worker)
                stats = c.transport.stats()
                assert (stats.active, stats.waiting, stats.leases) == (0, 0, 0)
                assert stats.open <= 5

            run_colour(colour, body, max_conns_per_host=5)

    def test_a_restart(self, tmp_path, colour):
        """While nginx is down requests fail as they should; when it is back everything works again."""
        (tmp_path / "nginx").mkdir()
        with Nginx(tmp_path / "nginx") as own:

            async def body(c):
                failures = []
                ended = False
                done = 0

                async def work():
                    nonlocal done
                    while not ended:
                        try:
                            assert await c.fetch(f"{own.url}/bytes/10k")
                            done += 1
                        except pt.TransportError as exc:
                            failures.append(exc)
                            await c.sleep(0.01)

                workers = [await c.start(work) for _ in range(10)]
                for _ in range(2):
                    await c.wait_until(lambda before=done: done > before + 100)
                    own.halt()
                    seen = len(failures)
                    await c.wait_until(lambda seen=seen: len(failures) > seen + 20)
                    own.resume()
                    await c.wait_until(lambda before=done: done > before + 100)
                ended = True
                for worker in workers:
                    await c.wait(worker)
                refused = [exc for exc in failures if isinstance(exc, pt.ConnectError)]
                assert refused
                assert "refused" in str(refused[-1])
                assert f"127.0.0.1:{own.port}" in str(refused[-1])
                kinds = (pt.ConnectError, pt.ReadError, pt.WriteError, pt.IncompleteBody)
                assert all(isinstance(exc, kinds) for exc in failures), {type(exc) for exc in failures}
                stats = c.transport.stats()
                assert (stats.active, stats.dialing, stats.waiting, stats.leases) == (0, 0, 0, 0)
                assert stats.open <= 5
                assert await c.gather(*[lambda: c.fetch(f"{own.url}/")] * 10) == [b"hello"] * 10

            run_colour(colour, body, max_conns_per_host=5)

    def test_a_port_where_nobody_listens(self, colour):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and not listening
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/"

            async def body(c):
                with pytest.raises(pt.ConnectError, match="refused") as caught:
                    await c.get(url)
                assert isinstance(caught.value, ConnectionError)
                assert not caught.value.may_have_been_processed
                assert c.transport.stats().open == c.transport.stats().dialing == 0

            run_colour(colour, body)
