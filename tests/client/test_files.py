"""`files=`: what another parser reads out of it, streamed, measured, and sent again."""

from __future__ import annotations

import email.parser
import email.policy
import io
import tempfile

import pytest

import pooltransport as pt
from pooltransport.client.multipart import encode_files
from tests.support.colours import run_colour
from tests.support.responders import echo
from tests.support.routes import routes


def parsed(request):
    """Read the form as the standard library does: (name, filename, content type, content) of each part."""
    text = f"Content-Type: {request.header('content-type')}\r\n\r\n".encode() + request.body
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(text)
    assert message.is_multipart()
    assert not message.defects
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get("content-type"),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    ]


class TestParts:
    def test_of_every_kind(self, colour, server_factory, tmp_path):
        server = server_factory(echo)
        path = tmp_path / "photo.png"
        path.write_bytes(b"PNG\r\n--x\r\n" * 10_000)

        async def body(c):
            client = c.make_client()
            with path.open("rb") as file, tempfile.TemporaryFile() as nameless:
                nameless.write(b"skipped, rest")
                nameless.seek(9)
                files = [
                    ("file", file),
                    ("bytes", b"\x00\xff"),
                    ("named", ("a.txt", "text ä")),
                    ("typed", ("b", io.BytesIO(b"b"), "application/x-own")),
                    ("more", ("c", b"c", None, {"X-Part": "1", "Content-Type": "x/y"})),
                    ("nofile", (None, '{"a": 1}', "application/json")),
                    ("rest", nameless),
                    ("iterable", ("d.bin", [b"1", b"", b"2"])),
                ]
                data = {"first": "1", "many": ["x", "y"], "flag": True, "none": None, "bytes": b"raw"}
                await c.call(client.post, server.url, files=files, data=data)

        run_colour(colour, body)
        (request,) = server.log
        assert parsed(request) == [
            ("first", None, None, b"1"),
            ("many", None, None, b"x"),
            ("many", None, None, b"y"),
            ("flag", None, None, b"true"),
            ("bytes", None, None, b"raw"),
            ("file", "photo.png", "image/png", path.read_bytes()),
            ("bytes", "bytes", "application/octet-stream", b"\x00\xff"),
            ("named", "a.txt", "text/plain", "text ä".encode()),
            ("typed", "b", "application/x-own", b"b"),
            ("more", "c", "x/y", b"c"),
            ("nofile", None, None, b'{"a": 1}'),
            ("rest", "rest", "application/octet-stream", b"rest"),
            ("iterable", "d.bin", "application/octet-stream", b"12"),
        ]
        assert b"X-Part: 1\r\n" in request.body
        assert request.header("transfer-encoding") == "chunked"  # the iterable cannot be measured

    def test_a_length_where_all_can_tell(self, colour, server_factory, tmp_path):
        server = server_factory(echo)
        path = tmp_path / "file"
        path.write_bytes(b"x" * 1_000_000)

        async def body(c):
            with path.open("rb") as file:
                await c.call(c.make_client().post, server.url, files={"file": file}, data={"a": "b"})
            await c.call(
                c.make_client().post, server.url, files={"file": b"x"}, headers={"Content-Type": "multipart/own"}
            )

        run_colour(colour, body)
        first, second = server.log
        assert int(first.header("content-length")) == len(first.body) > 1_000_000
        assert second.header("content-type") == "multipart/own"

    def test_names_are_escaped_as_browsers_do(self):
        made, _ = encode_files({'a"\r\nb': ('c"\r\nX: y', b"")}, {"d\r\n\r\ne": "f"})
        sent = b"".join(made.chunks())
        assert b'name="d%0D%0A%0D%0Ae"\r\n' in sent
        assert b'name="a%22%0D%0Ab"; filename="c%22%0D%0AX: y"\r\n' in sent
        assert len(sent) == made.length

    def test_sent_again_on_a_redirect(self, colour, server_factory, tmp_path):
        table = {"/a": (307, {"Location": "/b"}, b""), "/b": (200, {}, b"")}
        server = server_factory(routes(table))
        path = tmp_path / "file"
        path.write_bytes(b"x" * 100_000)

        async def body(c):
            with path.open("rb") as file:
                response = await c.call(c.make_client().post, server.url + "/a", files={"file": file})
                assert response.status_code == 200
                once = await c.call(c.make_client().post, server.url + "/a", files={"f": iter([b"once"])})
                assert once.status_code == 307

        run_colour(colour, body)
        assert [parsed(request)[0][3] for request in server.log] == [path.read_bytes()] * 2 + [b"once"]

    def test_memory_stays_flat(self, server_factory):
        """Streamed: a file of 64 MB is never whole in memory; counted as what `read` was asked for."""

        class Endless(io.RawIOBase):
            left = 64_000_000
            most = 0

            def readable(self):
                return True

            def read(self, size=-1):
                type(self).most = max(self.most, size if size >= 0 else self.left)
                size = min(size, self.left)
                type(self).left -= size
                return b"x" * size

        made, _ = encode_files({"file": Endless()}, None)
        assert sum(map(len, made.chunks())) > 64_000_000
        assert Endless.most <= 65_536


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"files": {"a": io.StringIO("x")}}, "open in text mode"),
        ({"files": {"a": 1}}, "cannot be a body"),
        ({"files": {"a": ("n", b"x", "t", {}, 5)}}, r"files\['a'\]: give the file"),
        ({"files": {"a": (1, b"x")}}, r"files\['a'\]: give the file"),
        ({"files": {"a": ("n", b"x", "text/\r\nplain")}}, "header"),
        ({"files": {}}, "files= is empty"),
        ({"files": {"\udc80": b"x"}}, "lone surrogate"),
        ({"files": "text"}, "must be a mapping"),
        ({"files": {"a": b""}, "data": {"x": object()}}, "data has a object in it"),
        ({"files": {"a": b""}, "data": b"raw"}, "data beside files= must be"),
        ({"files": {"a": b""}, "json": {}}, "a request has one body"),
        ({"files": {"a": b""}, "content": b""}, "a request has one body"),
    ],
)
def test_what_cannot_be_sent(options, text):
    with pytest.raises(pt.InvalidRequest, match=text):
        pt.Client().build_request("POST", "http://a.test/", **options)


def test_an_asynchronous_file_is_refused():
    async def chunks():
        yield b""

    with pytest.raises(pt.InvalidRequest, match="is an asynchronous iterable"):
        pt.AsyncClient().build_request("POST", "http://a.test/", files={"a": chunks()})
