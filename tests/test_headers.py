import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooltransport.errors import InvalidRequest
from pooltransport.headers import EMPTY_HEADERS, Headers, check_method

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_order_case_and_repetition_are_kept():
    headers = Headers([("X-b", "1"), (b"x-A", b"2"), ("x-B", "3")])
    assert headers.raw == ((b"X-b", b"1"), (b"x-A", b"2"), (b"x-B", b"3"))
    assert headers.multi_items() == [("X-b", "1"), ("x-A", "2"), ("x-B", "3")]
    assert headers["X-B"] == headers[b"x-b"] == "1, 3"
    assert headers.get_list("x-b") == ["1", "3"]
    assert list(headers) == ["x-b", "x-a"]
    assert len(headers) == 2
    assert dict(headers) == {"x-b": "1, 3", "x-a": "2"}


def test_lookup_of_what_is_not_there():
    headers = Headers({"a": "1"})
    assert headers.get("b") is None
    assert headers.get("b", "x") == "x"
    assert headers.get_list("b") == []
    assert "b" not in headers
    assert "ж" not in headers
    assert 5 not in headers
    with pytest.raises(KeyError):
        headers["b"]
    with pytest.raises(KeyError):
        del headers["b"]


def test_changing():
    headers = Headers({"A": "1"})
    headers.add("a", "2")
    headers["B"] = "3"
    assert headers.raw == ((b"A", b"1"), (b"a", b"2"), (b"B", b"3"))
    headers["a"] = "4"
    assert headers.raw == ((b"a", b"4"), (b"B", b"3"))
    del headers["b"]
    assert headers.raw == ((b"a", b"4"),)
    assert headers.setdefault("c", "5") == "5"
    assert headers.pop("A") == "4"
    headers.update({"C": "6"})
    assert headers.raw == ((b"C", b"6"),)
    headers.clear()
    assert not headers


def test_a_lookup_sees_a_later_change():
    headers = Headers({"A": "1"})
    assert headers["a"] == "1"
    headers.add("A", "2")
    assert headers["a"] == "1, 2"


def test_a_copy_is_independent_and_never_frozen():
    original = Headers({"A": "1"}).freeze()
    other = original.copy()
    other["A"] = "2"
    assert original["a"] == "1"
    assert not other.is_frozen


@pytest.mark.parametrize(
    "change",
    [
        lambda headers: headers.add("b", "1"),
        lambda headers: headers.set("a", "2"),
        lambda headers: headers.__setitem__("a", "2"),
        lambda headers: headers.__delitem__("a"),
        lambda headers: headers.clear(),
        lambda headers: headers.update(b="2"),
    ],
)
def test_frozen_headers_do_not_change(change):
    headers = Headers({"A": "1"}).freeze()
    with pytest.raises(TypeError, match="new Request"):
        change(headers)
    assert headers.raw == ((b"A", b"1"),)


def test_the_shared_empty_headers_are_frozen():
    assert EMPTY_HEADERS.is_frozen
    assert not EMPTY_HEADERS


def test_equality_ignores_case_of_names_and_order_of_names():
    assert Headers([("A", "1"), ("b", "2")]) == Headers([("B", "2"), ("a", "1")])
    assert Headers([("A", "1"), ("A", "2")]) != Headers([("A", "2"), ("A", "1")])
    assert Headers({"A": "1"}) == {"a": "1"}
    assert Headers({"A": "1"}) != {"a b": "1"}
    assert Headers({"A": "1"}) != 5
    with pytest.raises(TypeError):
        hash(Headers())


def test_repr_masks_credentials():
    names = ["Authorization", "proxy-authorization", "COOKIE", "Set-Cookie"]
    shown = repr(Headers([(name, "s3cret") for name in names] + [("Accept", "*/*")]))
    assert "s3cret" not in shown
    assert "*/*" in shown


def test_blanks_around_a_value_are_cut_off():
    assert Headers({"a": " \tx y\t "}).raw == ((b"a", b"x y"),)
    assert Headers({"a": ""})["a"] == ""


def test_values_are_latin_1():
    assert Headers({"a": "é"}).raw == ((b"a", b"\xe9"),)
    assert Headers({"a": b"\xff"})["a"] == "ÿ"
    with pytest.raises(InvalidRequest, match=r"'a' has the character U\+20AC .* pass bytes"):
        Headers({"a": "secret €"})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a b", "'a b' has a space"),
        ("", "is empty"),
        ("a\r\nEvil", "has a line break"),
        ("a\0", "has a NUL"),
        ("é", "non-ASCII"),
        (b"\xff", "non-ASCII"),
        ("a\x7f", "0x7f"),
        ("a(", r"has a '\('"),
        (5, "not int"),
        (None, "not NoneType"),
    ],
)
def test_bad_names(name, said):
    with pytest.raises(InvalidRequest, match=said):
        Headers([(name, "x")])


def test_a_name_with_a_colon_does_not_show_what_follows():
    with pytest.raises(InvalidRequest, match="colon") as caught:
        Headers({"Authorization: Bearer s3cret": ""})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("value", ["s3cret\n", "s3cret\r\nEvil: 1", "s3cret\0", b"s3cret\x1f", "s3cret\x7f"])
def test_bad_values_are_refused_and_not_shown(value):
    with pytest.raises(InvalidRequest, match=r"'Authorization' has .* at position 6") as caught:
        Headers({"Authorization": value})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("value", [5, None, ["a"], 1.5, True])
def test_values_of_other_types_are_refused(value):
    with pytest.raises(InvalidRequest, match="must be str or bytes"):
        Headers({"a": value})


@pytest.mark.parametrize("headers", [5, "a: b", b"ab", ["ab"], [("a",)], [("a", "b", "c")], [5]])
def test_what_is_no_mapping_and_no_pairs_is_refused(headers):
    with pytest.raises(InvalidRequest, match="pairs"):
        Headers(headers)


def test_what_a_peer_sent_is_taken_as_it_is():
    raw = [(b"X", b"a\r\nb"), (b"x", b"")]
    headers = Headers._from_raw(raw)
    assert headers.raw == tuple(raw)
    assert headers.get_list("X") == ["a\r\nb", ""]
    assert headers.raw_values(b"x") == [b"a\r\nb", b""]


def test_what_a_peer_sent_is_validated_before_it_is_sent_on():
    evil = Headers._from_raw([(b"X", b"a\r\nb")])
    for use in (Headers, Headers.copy, Headers.freeze, copy.copy, lambda h: pickle.loads(pickle.dumps(h)).copy()):
        with pytest.raises(InvalidRequest):
            Headers(use(evil))


def test_pickle_and_deepcopy():
    headers = Headers({"A": "1"}).freeze()
    for other in (pickle.loads(pickle.dumps(headers)), copy.deepcopy(headers)):
        assert other == headers
        assert other.is_frozen


@given(
    st.lists(
        st.tuples(
            st.one_of(st.text(max_size=5), st.binary(max_size=5), st.text(TOKEN, min_size=1, max_size=5)),
            st.one_of(st.text(max_size=8), st.binary(max_size=8)),
        ),
        max_size=4,
    )
)
def test_nothing_that_is_accepted_can_break_a_line(pairs):
    try:
        headers = Headers(pairs)
    except InvalidRequest:
        return
    for name, value in headers.raw:
        assert set(name.decode()) <= set(TOKEN)
        assert not set(value) & (set(range(0x20)) - {0x09} | {0x7F})


@given(st.lists(st.tuples(st.sampled_from(["a", "A", "b", "Set-Cookie"]), st.text(TOKEN, max_size=3)), max_size=8))
def test_look_ups_agree_with_a_plain_list(pairs):
    headers = Headers(pairs)
    for name in ("a", "b", "set-cookie"):
        values = [value for key, value in pairs if key.lower() == name]
        assert headers.get_list(name) == values
        assert headers.get(name) == (", ".join(values) if values else None)
    assert headers.multi_items() == pairs


@pytest.mark.parametrize(
    ("method", "sent"),
    [("GET", "GET"), ("get", "GET"), ("Patch", "PATCH"), ("PROPFIND", "PROPFIND"), ("purge", "purge")],
)
def test_known_methods_go_out_in_upper_case(method, sent):
    assert check_method(method) == sent


@pytest.mark.parametrize("method", ["", " ", "GET /evil HTTP/1.1\r\n", "GÉT", "G:T", b"GET", None, 5])
def test_bad_methods(method):
    with pytest.raises(InvalidRequest, match="method"):
        check_method(method)


@given(st.text(max_size=6))
def test_every_accepted_method_is_a_token(text):
    try:
        method = check_method(text)
    except InvalidRequest:
        return
    assert method
    assert set(method) <= set(TOKEN)
