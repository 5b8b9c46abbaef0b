import copy
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooltransport.bodies import NO_BODY
from pooltransport.errors import ConfigError, InvalidRequest
from pooltransport.headers import Headers
from pooltransport.models import NO_TIMEOUT_SET, UNSET, Request, Timeout, Unset, parse_url

URL = "http://example.com/x"


def test_unset_is_one_falsy_object():
    assert repr(UNSET) == "UNSET"
    assert not UNSET
    assert pickle.loads(pickle.dumps(UNSET)) is copy.deepcopy(UNSET) is copy.copy(UNSET) is UNSET
    assert isinstance(UNSET, Unset)


class TestTimeout:
    def test_a_number_is_the_total(self):
        assert Timeout.of(5).total == Timeout(5).total == 5
        assert Timeout.of(0.5) == Timeout(total=0.5)
        assert Timeout.of(0.5).read is UNSET

    def test_none_is_no_total_and_unset_is_nothing(self):
        assert Timeout.of(None) == Timeout(total=None) != Timeout()
        assert Timeout.of(UNSET) is NO_TIMEOUT_SET
        assert Timeout() == NO_TIMEOUT_SET

    def test_of_a_timeout_is_itself(self):
        timeout = Timeout(read=1)
        assert Timeout.of(timeout) is timeout

    def test_over_fills_what_is_not_set(self):
        mine = Timeout(total=None, read=1.0)
        merged = mine.over(Timeout(total=9, read=9, write=2, acquire=None))
        assert merged == Timeout(total=None, read=1.0, write=2, acquire=None)
        assert mine.over(NO_TIMEOUT_SET) is mine
        assert NO_TIMEOUT_SET.over(mine) is mine
        assert mine.over(Timeout(total=9)) is mine
        assert mine.over(mine) is mine

    @pytest.mark.parametrize("value", [0, -1, 0.0, float("inf"), float("nan"), -float("inf")])
    def test_out_of_range(self, value):
        for make in (Timeout, Timeout.of, lambda v: Timeout(read=v)):
            with pytest.raises(ConfigError, match="use None for no timeout"):
                make(value)

    @pytest.mark.parametrize("value", [True, "5", b"5", [5], (1, 2), object()])
    def test_wrong_type(self, value):
        for make in (Timeout, Timeout.of, lambda v: Timeout(connect=v)):
            with pytest.raises(ConfigError, match="give a number of seconds"):
                make(value)

    def test_all_problems_are_listed_at_once(self):
        with pytest.raises(ConfigError) as caught:
            Timeout(0, read="x", write=-1)
        assert len(caught.value.problems) == 3

    def test_unknown_field(self):
        with pytest.raises(TypeError):
            Timeout(pool=5)
        with pytest.raises(TypeError):
            Timeout(5, 5)

    def test_it_is_a_value(self):
        timeout = Timeout(1, tls=None)
        assert hash(timeout) == hash(Timeout(1, tls=None))
        assert timeout != 1
        assert repr(timeout) == "Timeout(total=1, tls=None)"
        assert pickle.loads(pickle.dumps(timeout)) == copy.deepcopy(timeout) == timeout
        with pytest.raises(AttributeError):
            timeout.read = 5
        with pytest.raises(AttributeError):
            del timeout.read


class TestRequest:
    def test_the_plain_one(self):
        request = Request("get", URL)
        assert request.method == "GET"
        assert request.url is parse_url(URL)
        assert not request.headers
        assert request.content is None
        assert request.body is NO_BODY
        assert request.timeout is NO_TIMEOUT_SET
        assert request.trace is request.client_trace is request.retry_stale is request.trailers is None
        assert request.extensions == {}
        assert request.host_header == b"example.com"
        assert not request.chunked
        assert request.raw_header_items() == []
        assert request.raw_trailer_items() == []

    def test_headers_are_a_frozen_copy(self):
        mine = Headers({"A": "1"})
        request = Request("GET", URL, headers=mine)
        mine["A"] = "2"
        assert request.headers["a"] == "1"
        assert request.raw_header_items() == [(b"A", b"1")]
        with pytest.raises(TypeError):
            request.headers["a"] = "3"
        assert Request("GET", URL, headers=request.headers).headers is request.headers

    def test_a_peers_headers_are_validated(self):
        with pytest.raises(InvalidRequest):
            Request("GET", URL, headers=Headers._from_raw([(b"A", b"1\r\nEvil: 1")]))

    @pytest.mark.parametrize("name", ["method", "url", "headers", "content", "body", "trailers", "host_header"])
    def test_what_is_sent_cannot_be_replaced(self, name):
        with pytest.raises(AttributeError):
            setattr(Request("GET", URL), name, "x\r\ny")

    def test_host_of_the_caller(self):
        request = Request("GET", URL, headers={"host": "Other:8080"})
        assert request.host_header == b"Other:8080"
        assert request.url.host_header == b"example.com"

    @pytest.mark.parametrize(
        "headers", [{"Host": "go.dev X-Evil:evil"}, {"Host": ""}, [("Host", "a"), ("host", "a")], {"Host": "a/b"}]
    )
    def test_bad_hosts(self, headers):
        with pytest.raises(InvalidRequest, match="'Host'"):
            Request("GET", URL, headers=headers)

    @pytest.mark.parametrize(
        ("content", "headers", "length", "chunked"),
        [
            (b"abc", None, 3, False),
            ("é", None, 2, False),
            (b"", None, 0, False),
            (b"", {"Content-Length": "0"}, 0, False),
            (None, {"Content-Length": "0"}, 0, False),
            (b"abc", {"content-length": "3"}, 3, False),
            ([b"abc"], None, None, True),
            ([b"abc"], {"Content-Length": "3"}, 3, False),
            (b"abc", {"Transfer-Encoding": "Chunked"}, 3, True),
            (b"", {"Transfer-Encoding": "chunked"}, 0, True),
            ([b"abc"], {"Transfer-Encoding": "chunked"}, None, True),
        ],
    )
    def test_framing(self, content, headers, length, chunked):
        request = Request("POST", URL, content=content, headers=headers)
        assert request.body.length == length
        assert request.chunked is chunked

    @pytest.mark.parametrize(
        ("content", "headers", "said"),
        [
            (None, {"Content-Length": "5"}, "no body"),  # WRITE-10, here before anything is dialed
            (b"abc", {"Content-Length": "5"}, "a body of 3 bytes"),
            (b"abc", {"Content-Length": "+3"}, "in digits"),
            (b"abc", {"Content-Length": "3,3"}, "in digits"),
            (b"abc", {"Content-Length": ""}, "in digits"),
            ([b"abc"], {"Content-Length": "9" * 5000}, "in digits"),
            (b"abc", [("Content-Length", "3"), ("Content-Length", "3")], "one number"),
            (None, {"Transfer-Encoding": "chunked"}, "without a body"),
            (b"abc", {"Transfer-Encoding": "gzip, chunked"}, "only be 'chunked'"),
            (b"abc", {"Transfer-Encoding": "identity"}, "only be 'chunked'"),
            (b"abc", [("Transfer-Encoding", "chunked")] * 2, "only be 'chunked'"),
            (b"abc", {"Transfer-Encoding": "chunked", "Content-Length": "3"}, "exclude each other"),
        ],
    )
    def test_framing_that_contradicts_the_body(self, content, headers, said):
        with pytest.raises(InvalidRequest, match=said):
            Request("POST", URL, content=content, headers=headers)
        assert NO_BODY.length == 0

    def test_trailers_make_a_body_chunked_and_may_be_filled_while_it_is_read(self):  # unlike TRAIL-06
        request = Request("PUT", URL, content=b"abc", trailers={"X-Digest": ""})
        assert request.chunked
        request.trailers["X-Digest"] = "900150983cd24fb0"
        assert request.raw_trailer_items() == [(b"X-Digest", b"900150983cd24fb0")]
        assert not Request("PUT", URL, content=b"abc", trailers={}).chunked

    @pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Trailer", "Host", "Authorization"])
    def test_what_cannot_be_a_trailer(self, name):  # TRAIL-04
        with pytest.raises(InvalidRequest, match="cannot be a trailer"):
            Request("PUT", URL, content=b"abc", trailers={name: "1"})
        request = Request("PUT", URL, content=b"abc", trailers={"X": "1"})
        request.trailers.add(name, "1")
        with pytest.raises(InvalidRequest, match="cannot be a trailer"):
            request.raw_trailer_items()

    def test_trailers_that_cannot_be_sent(self):
        with pytest.raises(InvalidRequest, match="without a body"):
            Request("GET", URL, trailers={"X": "1"})
        with pytest.raises(InvalidRequest, match="Content-Length"):
            Request("PUT", URL, content=b"a", headers={"Content-Length": "1"}, trailers={"X": "1"})
        with pytest.raises(InvalidRequest, match="line break"):  # TRAIL-07
            Request("PUT", URL, content=b"a", trailers={"X": "1\n"})

    def test_with_headers_is_a_copy_that_shares_the_body(self):
        request = Request("POST", URL, headers={"X-Mine": "1"}, content=iter([b"abc"]), timeout=3)
        other = request.with_headers({"X-Other": "2"})
        assert (request.headers.multi_items(), other.headers.multi_items()) == ([("X-Mine", "1")], [("X-Other", "2")])
        assert other.headers.is_frozen
        assert (other.body is request.body, other.chunked, other.timeout, other.url) == (
            True,
            True,
            Timeout(3),
            request.url,
        )

    def test_with_defaults_leaves_the_original_alone(self):
        trace = object()
        request = Request("POST", URL, content=[b"a"], timeout=Timeout(read=1), headers={"A": "1"})
        other = request.with_defaults(Timeout(total=5, read=5), trace)
        assert other.timeout == Timeout(total=5, read=1)
        assert other.client_trace is trace
        assert (other.method, other.url, other.headers, other.body) == (
            "POST",
            request.url,
            request.headers,
            request.body,
        )
        assert request.timeout == Timeout(read=1)
        assert request.client_trace is None
        assert other.with_defaults(Timeout(total=9), object()) is other
        assert request.with_defaults(NO_TIMEOUT_SET, None) is request

    @pytest.mark.parametrize("timeout", [0, "5", True])
    def test_bad_timeouts(self, timeout):
        with pytest.raises(ConfigError):
            Request("GET", URL, timeout=timeout)

    def test_repr_shows_no_path_no_query_no_user(self):
        assert repr(Request("GET", "http://u:p@h:81/secret?x")) == "<Request GET http://h:81>"


HOSTILE = st.one_of(st.text(max_size=8), st.sampled_from(["a\r\nEvil: 1", "a\nb", "a\rb", "a\0b", "x", "é"]))


@given(
    method=st.one_of(st.just("POST"), HOSTILE),
    path=HOSTILE,
    host=st.one_of(st.just("h"), HOSTILE),
    userinfo=st.one_of(st.just(""), HOSTILE.map("{}@".format)),
    name=st.one_of(st.sampled_from(["X", "Host", "Content-Length", "Transfer-Encoding"]), HOSTILE),
    value=HOSTILE,
    trailer=HOSTILE,
)
def test_no_argument_brings_a_line_break_to_the_wire(method, path, host, userinfo, name, value, trailer):
    try:
        request = Request(
            method, f"http://{userinfo}{host}/{path}", headers={name: value}, content=b"x", trailers={"T": trailer}
        )
    except InvalidRequest:
        return
    parts = [request.method.encode("ascii"), request.url.target, request.host_header, request.url.host.encode()]
    parts += [part for item in request.raw_header_items() + request.raw_trailer_items() for part in item]
    for part in parts:
        assert not set(part) & set(b"\r\n\0")
    for part in (request.method.encode("ascii"), request.url.target, request.host_header):
        assert b" " not in part


def test_importing_the_models_loads_nothing_heavy():
    heavy = "asyncio anyio ssl email http.client http.cookiejar logging inspect urllib.request h11 certifi idna"
    # From the file's own directory: the package's __init__ is tested elsewhere.
    code = f"import sys, pooltransport.models; print([name for name in {heavy.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
