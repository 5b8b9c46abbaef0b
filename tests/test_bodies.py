import array
import gzip
import io
import mmap
import os
import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooltransport.bodies import CHUNK_SIZE, NO_BODY, RequestBody
from pooltransport.errors import InvalidRequest

of = RequestBody.of


def drain(body):
    return b"".join(body.chunks())


async def adrain(body):
    return b"".join([chunk async for chunk in body.achunks()])


def test_no_body():
    for content in (None, b"", "", bytearray(), memoryview(b"")):
        assert of(content) is NO_BODY
    assert drain(NO_BODY) == b""
    assert (NO_BODY.length, NO_BODY.rewindable, NO_BODY.started, NO_BODY.is_empty) == (0, True, False, True)
    NO_BODY.rewind()
    NO_BODY.close()


@pytest.mark.parametrize(
    "content",
    [b"caf\xc3\xa9", "café", bytearray(b"caf\xc3\xa9"), memoryview(b"caf\xc3\xa9"), array.array("B", b"caf\xc3\xa9")],
)
def test_bytes_and_text(content):
    body = of(content)
    assert (body.length, body.rewindable, body.is_async, body.is_file, body.is_empty) == (5, True, False, False, False)
    assert not body.started
    assert drain(body) == b"caf\xc3\xa9"
    assert body.started
    body.rewind()
    assert not body.started
    assert drain(body) == b"caf\xc3\xa9"


def test_what_can_change_is_copied():
    data = bytearray(b"abc")
    chunks = [bytearray(b"abc")]
    bodies = of(data), of(memoryview(data)), of(chunks)
    data[:] = chunks[0][:] = b"xyz"
    chunks.append(b"more")
    assert [drain(body) for body in bodies] == [b"abc"] * 3


def test_a_released_memoryview():
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(InvalidRequest, match="released"):
        of(view)


def test_a_memoryview_with_gaps_and_one_of_integers():
    assert drain(of(memoryview(b"abcdef")[::2])) == b"ace"
    assert of(memoryview(array.array("H", [1, 2]))).length == 4


class TestFiles:
    def test_from_where_it_stands(self):
        file = io.BytesIO(b"0123456789")
        file.seek(4)
        body = of(file)
        assert (body.length, body.rewindable, body.is_file) == (6, True, True)
        assert file.tell() == 4
        assert drain(body) == b"456789"
        assert body.started
        body.rewind()
        assert drain(body) == b"456789"
        body.close()
        assert not file.closed

    def test_behind_its_end(self):
        file = io.BytesIO(b"abc")
        file.seek(10)
        body = of(file)
        assert body.length == 0
        assert not body.is_empty  # the file was given: a length is announced
        assert drain(body) == b""

    def test_chunks_are_of_64_kib_and_read_tells_the_end_without_stopiteration(self):
        chunks = of(io.BytesIO(b"x" * (2 * CHUNK_SIZE + 1))).chunks()
        assert [len(chunk) for chunk in iter(chunks.read, b"")] == [CHUNK_SIZE, CHUNK_SIZE, 1]
        assert chunks.read() == b""

    def test_a_real_file_that_grows_is_sent_as_it_was(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"abc")
        with path.open("rb") as file:
            body = of(file)
            with path.open("ab") as more:
                more.write(b"def")
            assert drain(body) == b"abc"

    def test_a_file_that_shrinks_ends_early(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"abcdef")
        with path.open("rb") as file:
            body = of(file)
            os.truncate(path, 2)
            assert body.length == 6
            assert drain(body) == b"ab"

    def test_a_pipe(self):
        read, write = os.pipe()
        with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb") as writer:
            writer.write(b"abc")
            writer.close()
            body = of(reader)
            assert (body.length, body.rewindable) == (None, False)
            assert drain(body) == b"abc"
            with pytest.raises(InvalidRequest, match="used up"):
                body.rewind()
            with pytest.raises(InvalidRequest, match="used up"):
                body.chunks()

    def test_gzip_is_not_measured_by_its_compressed_size(self, tmp_path):
        path = tmp_path / "f.gz"
        with gzip.open(path, "wb") as file:
            file.write(b"x" * 100_000)
        with gzip.open(path, "rb") as file:
            body = of(file)
            assert body.length in (None, 100_000)  # newer Pythons can seek from its end
            for _ in range(2):
                assert drain(body) == b"x" * 100_000
                body.rewind()

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
    def test_a_file_that_claims_to_be_empty(self):
        with Path("/proc/self/status").open("rb") as file:
            body = of(file)
            assert body.length is None
            assert drain(body).startswith(b"Name:")

    def test_mmap(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"abc")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            body = of(mapped)
            assert (body.length, body.rewindable) == (3, True)
            assert drain(body) == b"abc"

    def test_text_mode(self, tmp_path):
        path = tmp_path / "f"
        path.write_text("abc")
        with path.open() as file, pytest.raises(InvalidRequest, match="'rb'"):
            of(file)
        with tempfile.NamedTemporaryFile("w+") as file, pytest.raises(InvalidRequest, match="'rb'"):
            of(file)
        with pytest.raises(InvalidRequest, match="'rb'"):
            of(io.StringIO("abc"))

    def test_write_only_and_closed(self, tmp_path):
        with (tmp_path / "f").open("wb") as file, pytest.raises(InvalidRequest, match="writing only"):
            of(file)
        with pytest.raises(InvalidRequest, match="closed"):
            of(file)

    def test_a_read_that_gives_something_else(self):
        class Odd:
            def __init__(self, answer):
                self.answer = answer

            def read(self, size):
                return self.answer

        with pytest.raises(InvalidRequest, match=r"file gave str .*'rb'"):
            drain(of(Odd("text")))
        with pytest.raises(InvalidRequest, match="non-blocking"):
            drain(of(Odd(None)))
        with pytest.raises(InvalidRequest, match="file gave int"):
            drain(of(Odd(5)))

    def test_an_upload_whose_read_is_asynchronous(self):
        class Upload:
            async def read(self, size=-1):
                return b""

        with pytest.raises(InvalidRequest, match="asynchronous"):
            of(Upload())

    def test_an_error_of_the_file_comes_through_as_it_is(self):
        file = io.BytesIO(b"abc")
        body = of(file)
        file.close()
        with pytest.raises(ValueError, match="closed file"):
            drain(body)


class Repeatable:
    def __init__(self):
        self.closed = 0

    def __iter__(self):
        try:
            yield b"a"
            yield b""
            yield memoryview(b"b")
            yield bytearray(b"c")
        finally:
            self.closed += 1


class TestIterables:
    @pytest.mark.parametrize("content", [[b"a", b"", b"bc"], (b"a", bytearray(b"bc")), {b"abc"}, Repeatable()])
    def test_repeatable(self, content):
        body = of(content)
        assert (body.length, body.rewindable, body.is_async, body.is_file) == (None, True, False, False)
        for _ in range(2):
            chunks = list(body.chunks())
            assert b"".join(chunks) == b"abc"
            assert all(type(chunk) is bytes and chunk for chunk in chunks)
            body.rewind()

    def test_a_generator_is_sent_once(self):
        body = of(chunk for chunk in (b"a", b"b"))
        assert not body.rewindable
        body.rewind()  # nothing was taken yet
        chunks = body.chunks()
        assert next(chunks) == b"a"
        with pytest.raises(InvalidRequest, match="once"):
            body.rewind()
        with pytest.raises(InvalidRequest, match="once"):
            body.chunks()

    @pytest.mark.parametrize("steps", [0, 1, 9])
    def test_a_generator_is_closed_once(self, steps):  # WRITE-12
        source = Repeatable()
        content = iter(source)
        body = of(content)
        chunks = body.chunks()
        for _ in range(steps):
            next(chunks, None)
        body.close()
        body.close()
        assert source.closed == (1 if steps else 0)  # an unstarted generator runs no finally
        assert next(content, None) is None
        assert body.started

    def test_a_generator_is_closed_even_if_nobody_asked_for_it(self):
        content = (chunk for chunk in [b"a"])
        of(content).close()
        assert next(content, None) is None

    def test_a_repeatable_iterables_generator_is_closed_and_can_be_repeated(self):
        source = Repeatable()
        body = of(source)
        one, other = body.chunks(), body.chunks()
        next(one)
        next(other)
        body.close()
        assert source.closed == 0  # which of the two it should be, the body cannot know
        one.close()
        assert source.closed == 1
        next(other)
        other.close()
        assert source.closed == 2

    @pytest.mark.parametrize("item", ["text", 5, None, [b"a"], {}])
    def test_an_item_that_is_not_bytes(self, item):
        body = of(value for value in (b"a", item))
        chunks = body.chunks()
        assert next(chunks) == b"a"
        with pytest.raises(InvalidRequest, match=f"gave {type(item).__name__}"):
            next(chunks)
        with pytest.raises(InvalidRequest, match=f"gave {type(item).__name__}"):
            of([b"a", item])  # a list shows what is in it before anything is dialed

    def test_an_error_of_the_generator_comes_through_as_it_is(self):
        error = OSError("mine")

        def broken():
            yield b"a"
            raise error

        with pytest.raises(OSError) as caught:  # WRITE-13
            drain(of(broken()))
        assert caught.value is error

    @pytest.mark.parametrize("content", [5, 1.5, True, object(), object, {"a": 1}, {}, len])
    def test_what_cannot_be_a_body(self, content):
        with pytest.raises(InvalidRequest, match="body"):
            of(content)

    def test_a_mapping_hints_at_json_and_data(self):
        with pytest.raises(InvalidRequest, match="json= or data="):
            of({"a": 1})

    def test_text_with_a_lone_surrogate(self):
        with pytest.raises(InvalidRequest, match="surrogate"):
            of("\ud800")


class AsyncRepeatable:
    def __init__(self):
        self.closed = 0

    async def __aiter__(self):
        try:
            yield b"a"
            yield b""
            yield bytearray(b"bc")
        finally:
            self.closed += 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestAsyncIterables:
    def test_repeatable(self, backend):
        async def main():
            body = of(AsyncRepeatable())
            assert (body.length, body.rewindable, body.is_async) == (None, True, True)
            for _ in range(2):
                assert await adrain(body) == b"abc"
                body.rewind()
            await body.aclose()

        anyio.run(main, backend=backend)

    def test_a_generator_is_sent_once_and_closed_once(self, backend):
        async def main():
            source = AsyncRepeatable()
            generator = source.__aiter__()
            body = of(generator)
            assert not body.rewindable
            chunks = body.achunks()
            assert await anext(chunks) == b"a"
            with pytest.raises(InvalidRequest, match="once"):
                body.rewind()
            await body.aclose()
            await body.aclose()
            assert source.closed == 1
            with pytest.raises(StopAsyncIteration):
                await anext(generator)

        anyio.run(main, backend=backend)

    def test_an_item_that_is_not_bytes(self, backend):
        async def text():
            yield "text"

        async def main():
            body = of(text())
            with pytest.raises(InvalidRequest, match="gave str"):
                await adrain(body)
            await body.aclose()

        anyio.run(main, backend=backend)

    def test_a_synchronous_request_refuses_it(self, backend):
        with pytest.raises(InvalidRequest, match="AsyncClient"):
            of(AsyncRepeatable()).chunks()

    def test_an_asynchronous_file_is_iterated(self, backend, tmp_path):
        (tmp_path / "f").write_bytes(b"a\nb\n")

        async def main():
            async with await anyio.open_file(tmp_path / "f", "rb") as file:
                body = of(file)
                assert body.is_async
                assert not body.rewindable  # it would go on from where it stands
                assert await adrain(body) == b"a\nb\n"
            async with await anyio.open_file(tmp_path / "f") as text:
                with pytest.raises(InvalidRequest, match="'rb'"):
                    of(text)

        anyio.run(main, backend=backend)

    def test_aclose_of_other_bodies_closes_them(self, backend):
        async def main():
            source = Repeatable()
            body = of(source)
            next(body.chunks())
            await body.aclose()
            assert source.closed == 1
            with pytest.raises(InvalidRequest, match="not an asynchronous"):
                body.achunks()

        anyio.run(main, backend=backend)


@given(st.lists(st.binary(max_size=5), max_size=6), st.integers(0, 8))
def test_every_kind_gives_the_same_bytes(chunks, skip):
    whole = b"".join(chunks)
    file = io.BytesIO(whole)
    file.seek(min(skip, len(whole)))
    assert drain(of(whole)) == drain(of(bytearray(whole))) == drain(of(chunks)) == drain(of(iter(chunks))) == whole
    body = of(file)
    rest = whole[min(skip, len(whole)) :]
    assert drain(body) == rest
    assert body.length == len(rest)
