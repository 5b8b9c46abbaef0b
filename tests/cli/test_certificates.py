"""What is read from a certificate: names as RFC 6125 compares them, and how long it is good for."""

from __future__ import annotations

import time

import pytest

from pooltransport.cli import certificates
from pooltransport.cli.draw import facts
from pooltransport.cli.probe import Exchange

DAY = 86_400


def shown(*names: tuple[str, str], subject=((("commonName", "Leaf"),),), start=-DAY, end=100 * DAY) -> dict:
    """Make what a handshake shows, valid from and to so many seconds from now."""

    def moment(offset: float) -> str:
        return time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(time.time() + offset))

    issuer = ((("countryName", "XX"),), (("organizationName", "Some CA"),))
    return {
        "subject": subject,
        "issuer": issuer,
        "subjectAltName": names,
        "notBefore": moment(start),
        "notAfter": moment(end),
    }


@pytest.mark.parametrize(
    ("kind", "value", "asked_for", "fits"),
    [
        ("DNS", "a.example", "a.example", True),
        ("DNS", "A.Example", "a.eXample", True),
        ("DNS", "a.example.", "a.example", True),
        ("DNS", "b.example", "a.example", False),
        ("DNS", "*.example.org", "a.example.org", True),
        ("DNS", "*.example.org", "a.b.example.org", False),
        ("DNS", "*.example.org", "example.org", False),
        ("DNS", "*.example.org", "a.example.com", False),
        ("DNS", "*.org", "example.org", False),
        ("DNS", "a*.example.org", "ab.example.org", False),
        ("DNS", "127.0.0.1", "localhost", False),
        ("IP Address", "127.0.0.1", "127.0.0.1", True),
        ("IP Address", "127.0.0.1", "127.0.0.2", False),
        ("IP Address", "0:0:0:0:0:0:0:1", "::1", True),
        ("IP Address", "127.0.0.1", "localhost", False),
    ],
)
def test_names(kind, value, asked_for, fits):
    found = certificates.read([shown(("email", asked_for), (kind, value))], asked_for, verified=True)
    assert (found.name_matches, found.names) == (fits, (value,))


def test_who_is_who():
    found = certificates.read([shown(("DNS", "a"))], "a", verified=True)
    assert (found.subject, found.issuer) == ("Leaf", "XX, Some CA")
    assert certificates.read([shown(subject=())], "a", verified=True).subject == "(no name)"
    assert certificates.read([], "a", verified=True) is None


@pytest.mark.parametrize(
    ("start", "end", "said", "good"),
    [
        (-DAY, 100.5 * DAY, "100 days left", True),
        (-DAY, 13 * DAY, "13 days left", False),
        (-9 * DAY, -2 * DAY, "expired 2 days ago", False),
        (2 * DAY, 90 * DAY, "not valid yet", False),
    ],
)
def test_how_long(start, end, said, good):
    exchange = Exchange(1, None, tunnel=False)
    exchange.certificate = certificates.read([shown(("DNS", "a"), start=start, end=end)], "a", verified=True)
    told = {label: (text, fine) for label, text, fine in facts(exchange)}
    assert told["valid"][0].endswith(f", {said}")
    assert told["valid"][1] is good
    assert told["name"] == ("a fits: it is for a", True)


def test_many_names_are_cut():
    exchange = Exchange(1, None, tunnel=False)
    names = [("DNS", f"{number}.example") for number in range(7)]
    exchange.certificate = certificates.read([shown(*names)], "x", verified=None)
    told = {label: text for label, text, _ in facts(exchange)}
    assert told["name"].endswith("it is for 0.example, 1.example, 2.example, 3.example, 4.example and 2 more")
    assert told["trust"] == "not looked at (--insecure)"
