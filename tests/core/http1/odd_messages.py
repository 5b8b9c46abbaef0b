"""Answers of odd shapes, by what is odd about them. What the codecs make of them is in test_disagreements.py."""

from __future__ import annotations

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"HTTP/1.1 200 OK\r\n\r\n"


def _with_status_line(line):
    return [line + b"\r\nContent-Length: 0\r\n\r\n"]


def _with_field(field):
    length = b"Content-Length: 2\r\n"
    return [OK + field + b"\r\n" + length + b"\r\nhi", OK + length + field + b"\r\n\r\nhi"]


def _with_length(value):
    both = b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    return [
        OK + b"Content-Length: " + value + b"\r\n\r\nhi",
        OK + b"content-length:" + value + b"\r\n\r\nhi",
        OK + b"Content-Length: " + value + b"\r\n" + both,
    ]


def _with_coding(value):
    rest = value + b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    return [
        OK + b"Transfer-Encoding: " + rest,
        OK + b"transfer-encoding:" + rest,
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: " + rest,
        b"HTTP/1.1 204 No\r\nTransfer-Encoding: " + rest,
    ]


def _with_chunk(chunk):
    return [CHUNKED + chunk + b"0\r\n\r\n", CHUNKED + b"3\r\nabc\r\n" + chunk + b"0\r\n\r\n" + NEXT]


def _with_end(end):
    return [CHUNKED + end, CHUNKED + b"2\r\nhi\r\n" + end + NEXT]


STATUS_LINES = r"""
HTTP/1.1 200|HTTP/1.1 200 |HTTP/1.1  200 OK|HTTP/1.1 200  OK|HTTP/1.1 200 OK |HTTP/1.1 200 O\tK|HTTP/1.1 200 \tOK
HTTP/1.1\t200 OK|HTTP/1.1 000 OK|HTTP/1.1 099 OK|HTTP/1.1 99 OK|HTTP/1.1 999 OK|HTTP/1.1 1000 OK|HTTP/1.1 +20 OK
HTTP/1.1 200OK|HTTP/1.2 200 OK|HTTP/2.0 200 OK|HTTP/9.9 200 OK|HTTP/0.9 200 OK|HTTP/1 200 OK|HTTP/11.1 200 OK
HTTP/1.10 200 OK|http/1.1 200 OK|ICY 200 OK| HTTP/1.1 200 OK|\r\nHTTP/1.1 200 OK|\nHTTP/1.1 200 OK|RTSP/1.0 200 OK
\r\n\r\nHTTP/1.1 200 OK|HTTP/1.1 200 \xe9t\xe9|HTTP/1.1 200 a\x00b|HTTP/1.1 200 a\x01b|HTTP/1.1 200 a\x7fb
HTTP/1.1 200 a\rb|HTTP/1.1 200 a\x0bb|HTTP/1.1 200 a\x85b|HTTP/1.1 200 OK\r|HTTP/1.1 200\r|HTTP/1.1 204 No
HTTP/1.1 304 No|ICE/1.0 200 OK|HTTP/1.1 \xb2\xb2\xb2 OK|HTTP/1.0 200 OK|HTTP/1.0 200
"""
FIELDS = r"""
X:1|X:  1|X:\t1|X: 1 |X: 1\t|X:|X: |X:   |X : 1| X: 1|\tX: 1|: 1|X||X: a\x00b|X: a\x0bb|X: a\x0cb|X: a\rb|X: a\nb
X: a\r\n b|X: a\r\n\tb|X: a\r\n   b  |X:\r\n b|X: a\r\n |X: a\n b|X: \xe9|X: \x80\xff|X\xe9: 1|X(y): 1|X_y.z: 1
X/y: 1|X\x00: 1|X: a\tb|X: a  b|X: a:b:c|X: \x85|X: \xa0a\xa0|X: a\r|X: a\r\r|\x01X: 1|X: "a\\\"b"|Connection: close
Connection: upgrade\r\nUpgrade: h2c|Keep-Alive: timeout=5|Proxy-Connection: keep-alive|Trailer: X|Connection:
Connection: ,,|Upgrade: x|X: 1\n|Set-Cookie: a=b; c|Host: a\r\nHost: b
"""
LENGTHS = r"""
2| 2|2 |\t2\t|02|+2|-2|2, 2|2,2|2,3|2,|,2|| |0x2|2_0|2.0|2 2|2;|00000000000000000002|000000000000000000002
9999999999999999999|99999999999999999999|999999999999999999999|18446744073709551615|18446744073709551616|9223372036854775807|\xb2
9223372036854775808|2\r\nContent-Length: 2|2\r\nContent-Length: 3|2\r\ncontent-length:2|2\r\nContent-Length: 02
2\r\nContent-Length:|2\r\n 2|\r\n 2
"""
CODINGS = r"""
chunked|Chunked|CHUNKED| chunked |gzip, chunked|gzip,chunked|gzip|identity|chunked, identity|chunked, chunked||chunked,
chunked\r\nTransfer-Encoding: chunked|gzip\r\nTransfer-Encoding: chunked|identity\r\nTransfer-Encoding: chunked
,chunked|chunked;q=1|xchunked|chunkedx|"chunked"|chun\r\n ked|\r\n chunked|\x0bchunked|chunked\r\nContent-Length: 5
trailers|deflate|chunked\r\nX: chunked|cow\r\nX: chunked|Chunked\r\nX: chunked
"""
CHUNKS = r"""
3\r\n\r\n0\r\n2 ;x\r\nhi\r\n|3\r\n\r\n0\r\n0a\r\n0123456789\r\n2\t;x\r\nhi\r\n|5\r\n\r\n0\r\n\r\n
2\r\nhi\r\n|02\r\nhi\r\n|2 \r\nhi\r\n|2\t\r\nhi\r\n|2    \r\nhi\r\n| 2\r\nhi\r\n|2 ;x\r\nhi\r\n|2\t;x\r\nhi\r\n
2;x\r\nhi\r\n|2;x=1\r\nhi\r\n|2;x="a"\r\nhi\r\n|2;x="a;b"\r\nhi\r\n|2;x="a\\\"b"\r\nhi\r\n|2;x="a\nb"\r\nhi\r\n
2;x;y=z;w\r\nhi\r\n|2;a\nb\r\nhi\r\n|2x\r\nhi\r\n|0x2\r\nhi\r\n|+2\r\nhi\r\n|-2\r\nhi\r\n|2_0\r\nhi\r\n|\r\nhi\r\n
2\nhi\r\n|2\r\nhi\n|2\r\nhi|2\r\nhi\r|2\r\nhi\r\r\n|2\r\nhi\r\n\r\n|2\r\nhi \r\n|2\r\nhij\r\n|2\rhi\r\n|2\r\rhi\r\n
A\r\n0123456789\r\n|a\r\n0123456789\r\n|g\r\nhi\r\n|00000000000000000002\r\nhi\r\n|000000000000000000002\r\nhi\r\n
00000000000000000000000000000002\r\nhi\r\n|FFFFFFFFFFFFFFFF\r\nhi|100000000000000000000\r\nhi|2\r\nhi\r\n00000;x\r\n
4\r\n\r\n\r\n\r\n|9\r\n\r\n\r\n\r\n\r\n0\r\n|1c\r\n\r\n000000000000000000000000\r\n\r\n|\xb2\r\nhi\r\n
7\r\n\r\n1 ;x\r\r\n|2                      ;x\r\nhi\r\n|2 \t \t;x\r\nhi\r\n
"""
ENDS = r"""
0\r\nContent-Length: 5\r\n\r\n
0\r\n\r\n|00\r\n\r\n|000000\r\n\r\n|000000000000000000000\r\n\r\n|0 \r\n\r\n|0;x\r\n\r\n|0\n\r\n|0\r\n\r\n\r\n
0\r\n\r\n\n|0\r\n\r\nX|0\r\nX: y\r\n\r\n|0\r\nX:y\r\n\r\n|0\r\nX: y \r\n\r\n|0\r\nX:  y\t\r\n\r\n|0\r\nX:\r\n\r\n
0\r\nX: a\r\nY: b\r\n\r\nrest|0\r\n X: a\r\n\r\n|0\r\nX : a\r\n\r\n|0\r\n: a\r\n\r\n|0\r\nX\r\n\r\n
0\r\nX: a\x00\r\n\r\n|0\r\nX: a\rb\r\n\r\n|0\r\nContent-Length: x\r\n\r\n|0\r\n\rX: y\r\n\r\n|0\r\nX: \xe9\r\n\r\n
0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n|0\r\nTransfer-Encoding: chunked\r\n\r\n|0\r\nX\xe9: a\r\n\r\n
0\r\nTransfer-Encoding: gzip\r\n\r\n|0\r\nTransfer-Encoding: Chunked\r\n\r\n|0\r\nConnection: close\r\n\r\n
0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n
"""
OTHERS = r"""
HTTP/1.1 200 OK\r\n\r\n\r\n|HTTP/1.1 200 OK\nContent-Length: 2\n\nhi|HTTP/1.1 200 OK\r\nContent-Length: 2\n\nhi
HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nhi|HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nhi|HTTP/1.1 200 OK\n\n
HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nhi|HTTP/1.1 200 OK\r\n\n|HTTP/1.1 200 OK\r\rContent-Length: 2\r\r\r\n\r\nhi
HTTP/1.1 100 C\r\n\r\nHTTP/1.1 204 N\r\n\r\n|HTTP/1.1 100\r\n\r\nHTTP/1.1 204 N\r\n\r\n|SSH-2.0-x\r\n\r\n
HTTP/1.1 100 C\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 N\r\n\r\n|HTTP/1.1 100 C\r\n\r\n\r\nHTTP/1.1 204 N\r\n\r\n
HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 204 N\r\n\r\n|HTTP/1.1 101 S\r\n\r\nrest|<html>\r\n\r\n
HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nrest|HTTP/1.1 101 S\r\nContent-Length: 3\r\n\r\nrest
HTTP/1.1 101 S\r\nTransfer-Encoding: chunked\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nrest|\x16\x03\x01\x02\r\n\r\n
HTTP/1.1 100 C\n\nHTTP/1.1 200 OK\nContent-Length: 0\n\n|HTTP/1.0 100 C\r\n\r\nHTTP/1.1 204 N\r\n\r\n|\x00\x00\x12\x04
\r|HTTP/1.1 426 U\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi|\x15\x03\x03
"""


def _unpack(text, make=lambda message: [message]):
    """Return the messages of a table, whose cells are as in a bytes literal. None has a bar in it."""
    cells = [cell for line in text.strip("\n").split("\n") for cell in line.split("|")]
    return [message for cell in cells for message in make(cell.encode().decode("unicode_escape").encode("latin-1"))]


# Both refuse these, or both accept them with one result.
ALIKE = [
    *_unpack(STATUS_LINES, _with_status_line),
    *_unpack(FIELDS, _with_field),
    *_with_field(b"X: " + b"a" * 60_000),
    *_with_field(b"X" * 5000 + b": 1"),
    *_unpack(LENGTHS, _with_length),
    *_unpack(CODINGS, _with_coding),
    *_unpack(CHUNKS, _with_chunk),
    *_with_chunk(b"2;" + b"a" * 300 + b"\r\nhi\r\n"),
    *_with_chunk(b"2" + b" " * 31 + b"\r\nhi\r\n"),
    *_unpack(ENDS, _with_end),
    *_with_end(b"0\r\n" + b"0" * 21 + b": y\r\n\r\n"),
    *_unpack(OTHERS),
]

# h11 accepts these, and llhttp does not: by what is in them.
STRICTER = {
    "a control character in a value": [
        message for char in (b"\x01", b"\x1f", b"\x7f") for message in _with_field(b"X: a" + char + b"b")
    ],
    "a chunk extension that is none": [
        message
        for extension in (b"; x", b";", b";x y", b";x = y", b";x=1 ", b';x="a', b";\xe9", b";a\x00b", b";a\rb", b";;")
        for message in _with_chunk(b"2" + extension + b"\r\nhi\r\n")
    ],
    "a chunk of 2**64 bytes and more": _with_chunk(b"F" * 17 + b"\r\nhi"),
    "more than 31 blanks behind a chunk's size": _with_chunk(b"2" + b" " * 32 + b"\r\nhi\r\n"),
    "a line of the trailers that ends with LF": [
        message
        for end in (b"0\r\n\n", b"0\r\nX: y\n\n", b"0\r\nX: y\n\r\n", b"0\r\nX: y\r\n\n")
        for message in _with_end(end)
    ],
    "a folded line in the trailers": _with_end(b"0\r\nX: a\r\n b\r\n\r\n"),
    "a control character in the trailers": _with_end(b"0\r\nX: a\x01b\r\n\r\n"),
    "Content-Length twice in the trailers": _with_end(b"0\r\n" + b"Content-Length: 5\r\n" * 2 + b"\r\n"),
}
