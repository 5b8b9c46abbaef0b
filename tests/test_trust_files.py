"""`ca_file`, `client_cert`, `ssl_context`: what is refused at once, and in which words."""

from __future__ import annotations

import ssl
import sys

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

import pooltransport as pt

AUTHORITY = trustme.CA()
IDENTITY = AUTHORITY.issue_cert("client@example.org")


@pytest.fixture
def files(tmp_path):
    """Give a directory with one file of each kind."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    IDENTITY.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    IDENTITY.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    IDENTITY.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    key = load_pem_private_key(IDENTITY.private_key_pem.bytes(), None)
    for name, form in (("locked.pem", PrivateFormat.PKCS8), ("locked-old.pem", PrivateFormat.TraditionalOpenSSL)):
        locked = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
        (tmp_path / name).write_bytes(locked)
    (tmp_path / "text.pem").write_text("nothing of use\n")
    return tmp_path


def refused(**options) -> str:
    with pytest.raises(pt.ConfigError) as caught:
        pt.TransportOptions(**options)
    assert len(caught.value.problems) == 1
    return str(caught.value)


def test_what_is_accepted(files):
    context = ssl.create_default_context()
    for options in (
        {"ca_file": str(files / "ca.pem")},
        {"ca_file": files / "ca.pem"},
        {"client_cert": str(files / "both.pem")},
        {"client_cert": (files / "both.pem",)},
        {"client_cert": (files / "cert.pem", files / "key.pem")},
        {"client_cert": (files / "cert.pem", files / "locked.pem", "secret")},
        {"client_cert": files / "both.pem", "ca_file": files / "ca.pem"},
        {"ssl_context": context},
        {"ssl_context": None, "ca_file": None, "client_cert": None},
    ):
        pt.TransportOptions(**options)


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("ca_file", "gone.pem", "ca_file: '{}/gone.pem' cannot be read: No such file or directory"),
        ("ca_file", "", "ca_file: '{}/' cannot be read: Is a directory"),
        ("ca_file", "text.pem", "there is no certificate in it"),
        ("ca_file", "key.pem", "there is no certificate in it"),
        ("client_cert", "gone.pem", "client_cert: '{}/gone.pem' cannot be read: No such file or directory"),
        ("client_cert", ("cert.pem", "gone.pem"), "client_cert: '{}/gone.pem' cannot be read"),
        ("client_cert", "key.pem", "there is no certificate in '{}/key.pem'"),
        ("client_cert", "cert.pem", "no private key in '{}/cert.pem'; give (certificate, key)"),
        ("client_cert", ("cert.pem", "text.pem"), "there is no private key in '{}/text.pem'"),
        ("client_cert", ("cert.pem", "locked.pem"), "'{}/locked.pem' is encrypted: give (certificate, key, password)"),
        ("client_cert", ("cert.pem", "locked-old.pem"), "'{}/locked-old.pem' is encrypted"),
    ],
)
def test_a_file_that_cannot_be_used(files, option, value, text):
    paths = tuple(f"{files}/{name}" for name in value) if isinstance(value, tuple) else f"{files}/{value}"
    assert text.format(files) in refused(**{option: paths})


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("ca_file", 7, "ca_file=7: must be None or the path of a PEM file"),
        ("ca_file", "", "must be None or the path of a PEM file"),
        ("ca_file", b"/ca.pem", "must be None or the path of a PEM file"),
        ("client_cert", 7, "(certificate, key, password)"),
        ("client_cert", (), "(certificate, key, password)"),
        ("client_cert", ("a", "b", "c", "d"), "(certificate, key, password)"),
        ("client_cert", ("a", "b", None), "(certificate, key, password)"),
        ("client_cert", ["a", "b"], "(certificate, key, password)"),
        ("ssl_context", True, "not bool"),
        ("ssl_context", "system", "not 'system'"),
        ("ssl_context", ssl.SSLContext, "not "),
    ],
)
def test_a_wrong_type(option, value, text):
    assert text in refused(**{option: value})


def test_what_excludes_each_other(files):
    context = ssl.create_default_context()
    assert "ssl_context and ca_file exclude" in refused(ssl_context=context, ca_file=files / "ca.pem")
    assert "client_cert and ssl_context exclude" in refused(ssl_context=context, client_cert=files / "both.pem")


def test_truststore_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "truststore", None)
    assert refused(ssl_context="truststore") == (
        'ssl_context="truststore" needs an extra: pip install "pooltransport[truststore]" [PTC116]'
    )


def test_a_password_is_shown_nowhere(files):
    options = pt.TransportOptions(client_cert=(f"{files}/cert.pem", f"{files}/locked.pem", "secret"))
    assert "secret" not in repr(options)
    assert "locked.pem', '***'" in repr(options)
    assert "secret" not in refused(client_cert=(f"{files}/cert.pem", f"{files}/text.pem", "secret"))
    assert "secret" not in refused(client_cert=(f"{files}/cert.pem", 7, "secret"))
