import base64
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooltransport.client.build import basic_auth, encode_body, encode_pairs, merge_headers
from pooltransport.errors import InvalidRequest
from pooltransport.headers import Headers

DEFAULTS = Headers([("User-Agent", "ours"), ("X-A", "1"), ("x-a", "2")]).freeze()


class TestMergeHeaders:
    def test_nothing_given_is_the_defaults_themselves(self):
        assert merge_headers(DEFAULTS, None) is DEFAULTS
        assert merge_headers(Headers({"a": "1"}), None).is_frozen

    @pytest.mark.parametrize(
        ("given", "merged"),
        [
            ({"X-B": "3"}, [("User-Agent", "ours"), ("X-A", "1"), ("x-a", "2"), ("X-B", "3")]),
            ({"x-A": "3"}, [("User-Agent", "ours"), ("x-A", "3")]),
            ([("x-a", "3"), ("X-A", "4")], [("User-Agent", "ours"), ("x-a", "3"), ("X-A", "4")]),
            ({"user-agent": None}, [("X-A", "1"), ("x-a", "2")]),
            ({"user-agent": None, "x-a": None, "b": "1"}, [("b", "1")]),
            ({b"x-a": b"3"}, [("User-Agent", "ours"), ("x-a", "3")]),
            (Headers({"x-a": "3"}), [("User-Agent", "ours"), ("x-a", "3")]),
            ({}, [("User-Agent", "ours"), ("X-A", "1"), ("x-a", "2")]),
        ],
    )
    def test_what_is_given_replaces_by_name(self, given, merged):
        result = merge_headers(DEFAULTS, given)
        assert result.multi_items() == merged
        assert result.is_frozen

    def test_extras_give_way(self):
        extra = [(b"X-A", b"9"), (b"X-C", b"9"), (b"X-D", b"9"), (b"X-E", b"9")]
        result = merge_headers(DEFAULTS, {"x-c": "1", "X-D": None}, extra)
        assert result.multi_items() == [("User-Agent", "ours"), ("X-A", "1"), ("x-a", "2"), ("X-E", "9"), ("x-c", "1")]

    @pytest.mark.parametrize("given", [{"a b": None}, {"a": "b\r\n"}, {"a": 5}, 5, "a"])
    def test_bad_headers(self, given):
        with pytest.raises(InvalidRequest):
            merge_headers(DEFAULTS, given)


class TestEncodePairs:
    @pytest.mark.parametrize(
        ("pairs", "encoded"),
        [
            (None, ""),
            ("a=1&b", "a=1&b"),
            ({}, ""),
            ({"a": "b c&d", "é": "ü"}, "a=b+c%26d&%C3%A9=%C3%BC"),
            ([("a", 1), ("a", 2.5)], "a=1&a=2.5"),
            ({"a": ["x", 2], "b": ("y",), "c": []}, "a=x&a=2&b=y"),
            ({"t": True, "f": False, "n": None}, "t=true&f=false"),
            ({"a": b"\xff"}, "a=%FF"),
            ({"a": "\r\n\0#?"}, "a=%0D%0A%00%23%3F"),
        ],
    )
    def test_encoding(self, pairs, encoded):
        assert encode_pairs(pairs, "params") == encoded

    @pytest.mark.parametrize("pairs", [5, b"a=1", ["a"], [("a",)], {"a": object()}, {"a": {"b": 1}}, {"a": "\ud800"}])
    def test_what_is_refused(self, pairs):
        with pytest.raises(InvalidRequest, match="params"):
            encode_pairs(pairs, "params")

    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
            )
        )
    )
    def test_it_can_be_decoded_again(self, pairs):
        encoded = encode_pairs(pairs, "data")
        assert urllib.parse.parse_qsl(encoded, keep_blank_values=True) == pairs
        assert not set(encoded) & set("\r\n\0 #")


class TestEncodeBody:
    def test_json(self):
        body, kind = encode_body(None, None, {"a": [1, "é"]})
        assert (body, kind) == ('{"a":[1,"é"]}'.encode(), b"application/json")
        assert encode_body(None, None, False)[0] == b"false"
        assert encode_body(None, None, [])[0] == b"[]"

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"x", {"a": "\ud800"}, {(1,): 2}])
    def test_what_json_cannot_say(self, value):
        with pytest.raises(InvalidRequest, match="json="):
            encode_body(None, None, value)

    def test_json_in_a_circle(self):
        circle = []
        circle.append(circle)
        with pytest.raises(InvalidRequest, match="json="):
            encode_body(None, None, circle)

    def test_data(self):
        form = b"application/x-www-form-urlencoded"
        assert encode_body(None, {"a": "1 2"}, None) == ("a=1+2", form)
        assert encode_body(None, [("a", "1")], None) == ("a=1", form)
        assert encode_body(None, {}, None) == ("", form)
        assert encode_body(None, b"raw", None) == (b"raw", None)
        assert encode_body(None, "raw", None) == ("raw", None)

    def test_content_is_not_looked_at(self):
        content = object()
        assert encode_body(content, None, None) == (content, None)
        assert encode_body(None, None, None) == (None, None)

    @pytest.mark.parametrize("args", [(b"", {}, None), (b"", None, 0), (None, "", []), (b"", "", 1)])
    def test_two_bodies(self, args):
        with pytest.raises(InvalidRequest, match="one body"):
            encode_body(*args)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
            max_leaves=5,
        )
    )
    def test_json_round_trip(self, value):
        body, _ = encode_body(None, None, value)
        assert value is None or json.loads(body) == value


def test_basic_auth():
    scheme, _, token = basic_auth("usér", "p:w" * 40).partition(b" ")
    assert scheme == b"Basic"
    assert base64.b64decode(token).decode() == "usér:" + "p:w" * 40
    with pytest.raises(InvalidRequest, match="colon"):
        basic_auth("a:b", "c")
