import copy
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pooltransport import url as url_module
from pooltransport.errors import InvalidRequest
from pooltransport.url import URL, host_field, parse_url


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "host_header", "target"),
    [
        ("http://example.com", "http", "example.com", 80, b"example.com", b"/"),
        ("HTTPS://Example.COM/", "https", "example.com", 443, b"example.com", b"/"),  # not KEY-04
        ("http://h:80/a", "http", "h", 80, b"h", b"/a"),  # KEY-02
        ("http://h:443/a", "http", "h", 443, b"h:443", b"/a"),
        ("http://h:/a", "http", "h", 80, b"h", b"/a"),
        ("https://h:08443", "https", "h", 8443, b"h:8443", b"/"),
        ("http://h?x=1", "http", "h", 80, b"h", b"/?x=1"),
        ("http://h/?", "http", "h", 80, b"h", b"/?"),
        ("http://h/a#frag?x", "http", "h", 80, b"h", b"/a"),
        ("http://h#frag", "http", "h", 80, b"h", b"/"),
        ("http://h/a/../b//c/.", "http", "h", 80, b"h", b"/a/../b//c/."),
        ("http://h//x", "http", "h", 80, b"h", b"//x"),
        ("http://my_service.local./", "http", "my_service.local.", 80, b"my_service.local.", b"/"),
        ("http://[::1]:8080/", "http", "::1", 8080, b"[::1]:8080", b"/"),
        ("https://[FE80::A%25eth0]", "https", "fe80::a%eth0", 443, b"[fe80::a]", b"/"),  # WRITE-17
        ("http://[fe80::1%Eth0]:81", "http", "fe80::1%Eth0", 81, b"[fe80::1]:81", b"/"),
        ("http://127.0.0.1/", "http", "127.0.0.1", 80, b"127.0.0.1", b"/"),
        ("http://bücher.example/", "http", "xn--bcher-kva.example", 80, b"xn--bcher-kva.example", b"/"),  # KEY-03
        ("http://BÜCHER。example/", "http", "xn--bcher-kva.example", 80, b"xn--bcher-kva.example", b"/"),
        ("http://faß.example/", "http", "xn--fa-hia.example", 80, b"xn--fa-hia.example", b"/"),
    ],
)
def test_parts(text, scheme, host, port, host_header, target):
    url = parse_url(text)
    assert (url.scheme, url.host, url.port, url.host_header, url.target) == (scheme, host, port, host_header, target)
    assert str(url) == text


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/a b", b"/a%20b"),
        ("/ä?ö=ü", b"/%C3%A4?%C3%B6=%C3%BC"),
        ("/%41%zz%", b"/%41%25zz%25"),
        ('/"<>\\^`{|}', b"/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("/a[]=1?b[]=2", b"/a[]=1?b[]=2"),
        ("/~!$&'()*+,;=:@", b"/~!$&'()*+,;=:@"),
        ("?a=1?b=2/3", b"/?a=1?b=2/3"),
    ],
)
def test_targets_are_percent_encoded_where_they_must_be(path, target):
    assert parse_url("http://h" + path).target == target


def test_userinfo_is_decoded_and_masked():
    url = parse_url("https://us%C3%A9r:p%40ss%@h:8443/x?y#z")
    assert url.userinfo == ("usér", "p@ss%")
    assert str(url) == f"{url}" == "https://us%C3%A9r:***@h:8443/x?y#z"
    assert repr(url) == "URL('https://us%C3%A9r:***@h:8443/x?y#z')"
    assert url.redacted == "https://h:8443"
    assert url.origin == "https://h:8443"


def test_userinfo_without_password_and_without_user():
    assert parse_url("http://user@h/").userinfo == ("user", "")
    assert str(parse_url("http://user@h/")) == "http://user@h/"
    assert parse_url("http://:pw@h/").userinfo == ("", "pw")
    assert parse_url("http://h/").userinfo is None
    assert parse_url("http://a@b:c@h/").userinfo == ("a@b", "c")


def test_origin_has_its_port_and_redacted_has_not():
    assert parse_url("https://h/x").origin == "https://h:443"
    assert parse_url("https://h/x").redacted == "https://h"
    assert parse_url("http://[::1]/x").origin == "http://[::1]:80"
    assert parse_url("http://[fe80::1%25e0]/x").origin == "http://[fe80::1%e0]:80"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("faux://h", "unsupported protocol scheme 'faux': use http or https"),  # WRITE-15
        ("http://h:123foo/", "invalid port ':123foo' after host 'h'"),  # ERR-08
        ("http://h:0/", "invalid port ':0'"),
        ("http://h:65536/", "use 1 to 65535"),
        ("http://h:-1/", "invalid port"),
        ("http://h:٨٠/", "invalid port"),
        ("http://h:" + "1" * 5000, "invalid port"),
        ("", "is empty"),
        ("example.com/x", "has no scheme"),
        ("/x", "has no scheme"),
        ("localhost:8080/x", "has no scheme"),
        ("http:/h", "no '//'"),
        ("://h", "has no scheme"),
        ("http://", "has no host"),
        ("http:///x", "has no host"),
        ("http://:80/x", "has no host"),
        ("http://user@/x", "has no host"),
        ("http://a b/", "' ' cannot be in a host name"),
        ("http://a%41/", "'%' cannot be"),
        ("http://a<b/", "cannot be in a host name"),
        ("http://a..b/", "a label has 1 to 63"),
        ("http://.a/", "a label has 1 to 63"),
        ("http://" + "a" * 64 + "/", "a label has 1 to 63"),
        ("http://" + "a." * 127 + "a/", "a name 253"),
        ("http://good.example\\@evil.example/", "backslash"),
        ("http:\\\\h/", "no '//'"),
        ("http://::1/", "in brackets"),
        ("http://[::1/", "broken IPv6"),
        ("http://[::1]80/", "broken IPv6"),
        ("http://[::g]/", "invalid IPv6"),
        ("http://[127.0.0.1]/", "invalid IPv6"),
        ("http://[v1.x]/", "invalid IPv6"),
        ("http://[fe80::1%25]/", "invalid zone"),
        ("http://[fe80::1%25a%20b]/", "invalid zone"),
        ("http://h/\n", "control character"),
        ("http://h\r\nEvil/", "control character"),
        ("http://h/a\0b", "at position 10"),
        (" http://h/", "white space"),
        ("http://h/ ", "white space"),
        ("http://℀.example/", "IDNA"),
        ("http://☃.example/", "IDNA"),
        ("http://h/\ud800", "lone surrogate"),
        ("http://\ud800/", "IDNA"),
        ("http://u%0d%0a@h/", "control character in its user name"),
        ("http://u:p%00@h/", "control character in its user name"),
        ("http://u%ff@h/", "not UTF-8"),
        (5, "must be str or URL, not int"),
        (b"http://h/", "must be str or URL, not bytes"),
        (None, "not NoneType"),
    ],
)
def test_what_is_refused(text, said):
    with pytest.raises(InvalidRequest) as caught:
        parse_url(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:s3cret/x@host/",
        "http://user:s3cret@ho st/",
        "http://user:s3cret@host:x/",
        "http://user:s3cret?@host/",
        "http://user:s3c:r#et@host/",
        "http://user:s3cret@[::1/",
        "faux://user:s3cret@host/",
        "user:s3cret@host/",
        "http://host:x/?key=s3cret",
        "http://ho st/s3cret",
        "http://user:s3cret@host/\n",
    ],
)
def test_errors_show_no_credentials_path_or_query(text):
    with pytest.raises(InvalidRequest) as caught:
        parse_url(text)
    assert "s3c" not in str(caught.value)


def test_equality_and_hash():
    assert parse_url("http://H:80/a#x") == parse_url("http://h/a")
    assert hash(parse_url("http://H:80/a#x")) == hash(parse_url("http://h/a"))
    assert parse_url("http://h/a") != parse_url("http://h/b")
    assert parse_url("http://u@h/a") != parse_url("http://h/a")
    assert parse_url("http://h/a") != "http://h/a"
    assert URL("http://h/") == parse_url("http://h/")


def test_a_url_does_not_change():
    url = parse_url("http://h/")
    with pytest.raises(AttributeError):
        url.target = b"/\r\nEvil: 1"
    with pytest.raises(AttributeError):
        del url.host
    assert URL(url) == url
    assert parse_url(url) is url


def test_pickle_and_copy():
    url = parse_url("http://u:p@h/x")
    assert pickle.loads(pickle.dumps(url)) == copy.deepcopy(url) == copy.copy(url) == url


def test_the_cache_is_bounded_and_holds_no_long_texts():
    for number in range(3000):
        parse_url(f"http://h/{number}")
    assert len(url_module._cache) <= url_module._CACHE_SIZE
    text = "http://h/" + "a" * 5000
    parse_url(text)
    assert text not in url_module._cache
    assert parse_url("http://cached/") is parse_url("http://cached/")


@pytest.mark.parametrize(
    ("base", "reference", "joined"),
    [
        ("https://h/api/", "users", "https://h/api/users"),
        ("https://h/api", "users", "https://h/api/users"),
        ("https://h/api", "/users", "https://h/api/users"),
        ("https://h", "users?a=1#f", "https://h/users?a=1#f"),
        ("https://h", "/users", "https://h/users"),
        ("https://h/api", "", "https://h/api"),
        ("https://h/api", "?a=1", "https://h/api?a=1"),
        ("https://h/api", "../x", "https://h/api/../x"),
        ("https://h/api", "a:b", "https://h/api/a:b"),
        ("https://h/api", "r?to=http://x/", "https://h/api/r?to=http://x/"),
        ("https://h/api", "http://other/x", "http://other/x"),
        ("https://u:p@h/api", "x", "https://u:***@h/api/x"),
    ],
)
def test_join_appends(base, reference, joined):
    assert str(parse_url(base).join(reference)) == joined


def test_join_takes_a_url_as_it_is():
    other = parse_url("http://other/")
    assert parse_url("https://h/api").join(other) is other


@pytest.mark.parametrize(
    ("base", "reference"),
    [
        ("https://h", "//evil/x"),
        ("https://h?a=1", "x"),
        ("https://h#f", "x"),
        ("https://h", "ftp://x"),
        ("https://h", "http:x"),
        ("https://h", "a\r\nb"),
        ("https://h", 5),
    ],
)
def test_join_refuses(base, reference):
    with pytest.raises(InvalidRequest):
        parse_url(base).join(reference)


@pytest.mark.parametrize(
    ("text", "query", "target"),
    [
        ("http://h", "a=1", b"/?a=1"),
        ("http://h/x#f", "a=1", b"/x?a=1"),
        ("http://h/x?b=2", "a=1", b"/x?b=2&a=1"),
        ("http://h/x?", "a=1", b"/x?a=1"),
        ("http://h/x?b&", "a=1", b"/x?b&a=1"),
        ("http://h/x", "a=#1", b"/x?a=%231"),
        ("http://h/x", "", b"/x"),
    ],
)
def test_with_query_appends(text, query, target):
    assert parse_url(text).with_query(query).target == target


@pytest.mark.parametrize("value", [b"h", b"H.example:8080", b"[::1]", b"[::1]:80", b"127.0.0.1"])
def test_host_fields(value):
    assert host_field(value) == value


@pytest.mark.parametrize(
    "value", [b"", b"a b", b"u@h", b"h/x", b"h:x", b"::1", b"[::1%eth0]", b"\xe9", b"go.dev X-Evil:evil", b"h?", b":80"]
)
def test_bad_host_fields(value):
    with pytest.raises(InvalidRequest):
        host_field(value)


@given(st.text(max_size=30), st.sampled_from(["http://", "http://h/", "http://u:p@h/", "https://h?", "http://[", ""]))
@example("a\r\nb", "http://")
@example("ﬀ\u2028", "http://")
def test_nothing_that_is_accepted_can_break_a_line(text, prefix):
    try:
        url = parse_url(prefix + text)
    except InvalidRequest:
        return
    for part in (url.target, url.host_header, url.host.encode("ascii"), url.scheme.encode(), url.origin.encode()):
        assert part
        assert all(0x21 <= code < 0x7F for code in part)
    for part in url.userinfo or ():
        assert not {"\r", "\n", "\0"} & set(part)
    assert url.target.startswith(b"/")
    assert b"#" not in url.target
    assert 0 < url.port < 65536
    assert parse_url(f"{url.scheme}://{url.host_header.decode()}{url.target.decode()}").target == url.target


@given(st.text("abc/?#:@[]\\%. ", max_size=20), st.text("abc/?#:@[]\\%. ", max_size=20))
def test_parsing_what_was_parsed_gives_the_same_server(left, right):
    try:
        url = parse_url(f"http://{left}@{right}")
    except InvalidRequest:
        return
    again = parse_url(f"http://{url.host_header.decode()}{url.target.decode()}")
    assert (again.host, again.port, again.target) == (url.host, url.port, url.target)


class TestWithTarget:
    def test_the_same_place(self):
        url = URL("http://u:p@h:81/a?b#c").with_target(b"*")
        assert (url.target, url.origin, url.user, url.host_header) == (b"*", "http://h:81", "u", b"h:81")
        assert url != URL("http://u:p@h:81/a?b#c")
        assert URL("http://h/").with_target(b"http://other/x").target == b"http://other/x"

    @pytest.mark.parametrize("target", [b"", b"a b", b"/\r\nX: y", b"/\x00", "/ä".encode(), b"/\x7f"])
    def test_what_cannot_be_sent(self, target):
        with pytest.raises(InvalidRequest, match="request target"):
            URL("http://h/").with_target(target)
