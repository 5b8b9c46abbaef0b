"""Options from environment variables and TOML: one checked configuration for every place where a program runs."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import certifi
import pytest

import pooltransport as pt
from pooltransport.options import TransportOptions


def from_env(**variables: str) -> TransportOptions:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return TransportOptions.from_env(environ={f"POOLTRANSPORT_{name}": text for name, text in variables.items()})


def refused(call, *args, **options) -> tuple[str, ...]:
    with pytest.raises(pt.ConfigError) as caught:
        call(*args, **options)
    return caught.value.problems


# Every option: a text, and the value it stands for; None for what cannot be a text.
TEXTS: dict[str, tuple[str, object] | None] = {
    "max_idle_conns": ("100", 100),
    "max_idle_conns_per_host": ("0", 0),
    "max_conns_per_host": ("20", 20),
    "max_conns": (" 50 ", 50),
    "max_waiting": ("none", None),
    "acquire_timeout": ("2.5", 2.5),
    "idle_conn_timeout": ("None", None),
    "max_conn_lifetime": ("6e2", 600.0),
    "honor_keep_alive_hint": ("no", False),
    "dial_timeout": ("5", 5),
    "tls_handshake_timeout": ("5", 5),
    "response_header_timeout": ("5", 5),
    "read_timeout": ("5", 5),
    "write_timeout": ("5", 5),
    "expect_continue_timeout": ("0", 0),
    "min_rate": ("1024, 30", (1024, 30)),
    "disable_keep_alives": ("off", False),
    "disable_compression": ("TRUE", True),
    "max_response_header_bytes": ("65536", 65536),
    "max_body_bytes": ("none", None),
    "max_decoded_bytes": ("1000", 1000),
    "drain_limit": ("0", 0),
    "drain_timeout": ("0.1", 0.1),
    "retry_stale": ("1", True),
    "proxy": ("http://user:p%40ss@proxy.example:3128", "http://user:p%40ss@proxy.example:3128"),
    "proxy_connect_headers": None,
    "ssl_context": ("truststore", "truststore"),
    "ca_file": (certifi.where(), certifi.where()),
    "client_cert": None,  # its own test, below: it wants files
    "server_hostname": ("internal.example", "internal.example"),
    "dial": None,
    "resolver": None,
    "allow_address": None,
    "allow_address_through_proxy": None,  # has no effect without the former, which is a callable
    "https_only": ("yes", True),
    "local_address": ("127.0.0.1, 0", ("127.0.0.1", 0)),
    "uds": ("/run/app.sock", "/run/app.sock"),
    "socket_options": None,
    "tcp_keepalive": ("15,15,9", (15, 15, 9)),
    "happy_eyeballs_delay": ("0.3", 0.3),
    "codec": ("h11", "h11"),
    "trace": None,
    "leak_detection": ("full", "full"),
    "lease_warn_after": ("30", 30),
    "lease_max": ("300", 300),
    "gc_on_exhaustion": ("auto", "auto"),
    "deadlock_check": ("yes", True),
    "ignore_modules": ("app.http, framework", ("app.http", "framework")),
    "show_paths": ("0", False),
    "name": ("billing", "billing"),
}
GIVEN = [(name, *row) for name, row in TEXTS.items() if row is not None]
IN_CODE = ["proxy_connect_headers", "dial", "resolver", "allow_address", "socket_options", "trace"]


def test_every_option_is_looked_at():
    assert list(TEXTS) == list(TransportOptions().as_dict())


class TestEnvironment:
    @pytest.mark.parametrize(("name", "text", "value"), GIVEN)
    def test_each_option_by_its_type(self, name, text, value):
        options = from_env(**{name.upper(): text})
        assert getattr(options, name) == value
        assert type(getattr(options, name)) is type(value)
        assert options.explicit == {name}

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("tcp_keepalive", "no", False),
            ("gc_on_exhaustion", "off", False),
            ("local_address", "::1", "::1"),
            ("proxy", "none", None),
            ("proxy", "environment", "environment"),
            ("ignore_modules", "app", ("app",)),
        ],
    )
    def test_other_forms(self, name, text, value):
        assert getattr(from_env(**{name.upper(): text}), name) == value

    @pytest.mark.parametrize("name", IN_CODE)
    def test_what_can_only_be_given_in_code(self, name):
        (problem,) = refused(from_env, **{name.upper(): "x"})
        assert (
            problem
            == f"POOLTRANSPORT_{name.upper()}: {name} can only be given in code: leave the variable out [PTC117]"
        )

    def test_a_certificate_with_its_key_and_password(self, tls_ca, tmp_path):
        cert = tls_ca.issue_cert("localhost")
        for name, blob in (("cert.pem", cert.cert_chain_pems[0]), ("key.pem", cert.private_key_pem)):
            blob.write_to_path(str(tmp_path / name))
        parts = (f"{tmp_path}/cert.pem", f"{tmp_path}/key.pem")
        assert from_env(CLIENT_CERT=", ".join(parts)).client_cert == parts
        options = from_env(CLIENT_CERT=",".join((*parts, "se,cret")))
        assert options.client_cert == (*parts, "se,cret")
        assert "cret" not in repr(options)
        assert from_env(CLIENT_CERT="").client_cert is None

    def test_all_problems_at_once_by_their_variables(self):
        problems = refused(
            from_env,
            MAX_CONNS="ten",
            READ_TIMEOUT="5s",
            WRITE_TIMEOUT="nan",
            RETRY_STALE="maybe",
            DIAL="x",
            MIN_RATE="1024",
            PROXY="ftp://user:secret@h",
            NAME="fine",
        )
        schemes = "use http, https, socks5 or socks5h"
        assert problems == (
            "POOLTRANSPORT_DIAL: dial can only be given in code: leave the variable out [PTC117]",
            "POOLTRANSPORT_MAX_CONNS='ten': must be None or a whole number of 1 or more (None is no limit) [PTC101]",
            "POOLTRANSPORT_READ_TIMEOUT='5s': must be None (no timeout) or a number of seconds above 0 [PTC104]",
            "POOLTRANSPORT_WRITE_TIMEOUT=nan: must be None (no timeout) or a number of seconds above 0 [PTC104]",
            "POOLTRANSPORT_MIN_RATE=(1024,): must be None or a pair (bytes_per_second, seconds), both above 0 [PTC110]",
            "POOLTRANSPORT_RETRY_STALE='maybe': must be True or False [PTC110]",
            f"POOLTRANSPORT_PROXY: proxies of the scheme 'ftp' are not known: {schemes} [PTC111]",
        )

    def test_combinations_are_named_by_their_variables(self):
        (problem,) = refused(from_env, MAX_CONNS_PER_HOST="50", MAX_CONNS="20")
        assert problem == "POOLTRANSPORT_MAX_CONNS_PER_HOST=50 can never be reached: max_conns=20 [PTC103]"

    def test_a_wrong_value_does_not_look_like_a_missing_one(self):
        # max_waiting without a limit is an error; here the limit is there, and wrong.
        (problem,) = refused(from_env, MAX_WAITING="5", MAX_CONNS="ten")
        assert problem.startswith("POOLTRANSPORT_MAX_CONNS='ten'")

    @pytest.mark.parametrize(
        "name",
        [
            *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTPS", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"),
            *("PORT_80_TCP_PORT", "PORT_80_TCP_PROTO", "PROXY_SERVICE_HOST", "PROXY_PORT", "DIAL_PORT", "NAME_PORT"),
            *("MAX_CONNS_SERVICE_HOST", "FULL", "SOAK", "VERSION", ""),
        ],
    )
    def test_names_of_others_are_ignored(self, name):
        assert from_env(**{name: "tcp://10.0.0.1:80"}).explicit == frozenset()

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("MAX_CONN", "MAX_CONNS"),
            ("MAX_CONNECTIONS", "MAX_CONNS"),
            ("MAX_IDLE_CONN_PER_HOST", "MAX_IDLE_CONNS_PER_HOST"),
            ("READTIMEOUT", "READ_TIMEOUT"),
            ("ACQUIRE_TIME_OUT", "ACQUIRE_TIMEOUT"),
        ],
    )
    def test_a_near_miss_is_warned_of(self, name, meant):
        with pytest.warns(pt.PoolConfigWarning, match=f"did you mean POOLTRANSPORT_{meant}") as told:
            options = TransportOptions.from_env(environ={f"POOLTRANSPORT_{name}": "5", "POOLTRANSPORT_NAME": "a"})
        assert told[0].filename == __file__
        assert told[0].message.code == "PTC215"
        assert options.explicit == {"name"}

    def test_another_prefix(self):
        options = TransportOptions.from_env("BILLING_HTTP_", {"BILLING_HTTP_MAX_CONNS": "5", "POOLTRANSPORT_NAME": "x"})
        assert options.explicit == {"max_conns"}

    def test_the_process_own_environment(self, monkeypatch):
        for name in [name for name in os.environ if name.startswith("POOLTRANSPORT_")]:
            monkeypatch.delenv(name)
        assert TransportOptions.from_env().explicit == frozenset()
        monkeypatch.setenv("POOLTRANSPORT_MAX_CONNS", "7")
        assert TransportOptions.from_env().max_conns == 7

    def test_suspicious_values_are_warned_of_where_it_is_called(self):
        with pytest.warns(pt.PoolConfigWarning, match=r"read_timeout=5000 is .*PTC109") as told:
            TransportOptions.from_env(environ={"POOLTRANSPORT_READ_TIMEOUT": "5000"})
        assert told[0].filename == __file__


@pytest.fixture
def write(tmp_path):
    """Write a TOML file and return its path."""

    def make(text: str):
        file = tmp_path / "app.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return make


BASE = """
[app]
max_conns = "not ours"

[pooltransport]
max_conns_per_host = 20
acquire_timeout = 5
idle_conn_timeout = "none"
min_rate = [1024, 30.0]
tcp_keepalive = [15, 15, 9]
ignore_modules = ["app.http"]
socket_options = [[1, 9, 1]]
proxy = "none"
proxy_connect_headers = { X-Team = "billing" }

[pooltransport.profile.development]
name = "dev"

[pooltransport.profile.production]
max_conns_per_host = 200
proxy = "http://user:secret@proxy.example:3128"
"""


class TestToml:
    def test_profiles_stand_over_the_table(self, write):
        file = write(BASE.replace('proxy_connect_headers = { X-Team = "billing" }\n', ""))
        base = TransportOptions.from_toml(file)
        assert (
            base.as_dict()
            == TransportOptions(
                max_conns_per_host=20,
                acquire_timeout=5,
                idle_conn_timeout=None,
                min_rate=(1024, 30.0),
                tcp_keepalive=(15, 15, 9),
                ignore_modules=("app.http",),
                socket_options=[(1, 9, 1)],
                proxy=None,
            ).as_dict()
        )
        assert TransportOptions.from_toml(str(file), profile="development").name == "dev"
        production = TransportOptions.from_toml(file, "production")
        assert production.max_conns_per_host == 200
        assert production.acquire_timeout == 5
        assert production.explicit == base.explicit

    def test_can_be_shown_without_secrets(self, write):
        shown = repr(TransportOptions.from_toml(write(BASE), "production"))
        assert "max_conns_per_host=200" in shown
        assert "proxy='http://proxy.example:3128'" in shown
        assert "secret" not in shown
        assert "billing" not in shown

    @pytest.mark.parametrize("name", [name for name, _, value in GIVEN if value is not None])
    def test_each_option_as_toml_has_it(self, write, name):
        value = next(value for given, _, value in GIVEN if given == name)
        shown = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
        shown = shown or (str(list(value)) if isinstance(value, tuple) else repr(value))
        assert getattr(TransportOptions.from_toml(write(f"[pooltransport]\n{name} = {shown}\n")), name) == value

    def test_all_problems_at_once_by_their_keys(self, write):
        file = write(
            '[pooltransport]\nmax_conns = "50"\nmax_connections = 5\ndial = "app:dial"\n'
            "[pooltransport.profile.staging]\nread_timeout = 0\nMaxIdleConns = 3\n"
            "[pooltransport.profile.production]\nretry_stale = 1\nwrite_timeot = 3\n"
        )
        staging, production = (f"{file}: [pooltransport.profile.{name}]" for name in ("staging", "production"))
        there = "must be None or a whole number of 1 or more (None is no limit) [PTC101]"
        assert refused(TransportOptions.from_toml, file, "staging") == (
            f"{file}: [pooltransport] max_connections: unknown option; did you mean max_conns? [PTC108]",
            f"{staging} MaxIdleConns: unknown option; did you mean max_idle_conns? [PTC108]",
            f"{production} write_timeot: unknown option; did you mean write_timeout? [PTC108]",
            f"{file}: [pooltransport] max_conns='50': {there}",
            f"{staging} read_timeout=0: must be None (no timeout) or a number of seconds above 0 [PTC104]",
            f"{file}: [pooltransport] dial: must be None or a callable, not str [PTC110]",
        )

    def test_combinations_are_named_by_their_keys(self, write):
        file = write("[pooltransport]\nmax_conns = 20\n[pooltransport.profile.big]\nmax_conns_per_host = 50\n")
        (problem,) = refused(TransportOptions.from_toml, file, "big")
        assert problem == (
            f"{file}: [pooltransport.profile.big] max_conns_per_host=50 can never be reached: max_conns=20 [PTC103]"
        )

    @pytest.mark.parametrize(
        ("text", "profile", "said"),
        [
            ("", None, "there is no table [pooltransport]"),
            ("pooltransport = 5", None, "there is no table [pooltransport]"),
            ("[pooltransport]\nname = ?", None, "is no TOML: Invalid value (at line 2"),
            ("[pooltransport]", "production", "no [pooltransport.profile.production]; there is none"),
            (BASE, "prod", "no [pooltransport.profile.prod]; there are development, production"),
            ("[pooltransport]\nprofile = 'production'", None, "profile must be tables"),
            ("[pooltransport.profile]\nproduction = 5", None, "[pooltransport.profile.production] must be a table"),
        ],
    )
    def test_a_file_that_cannot_be_used(self, write, text, profile, said):
        file = write(text)
        (problem,) = refused(TransportOptions.from_toml, file, profile)
        assert problem.startswith(f"{file}: ")
        assert said in problem
        assert problem.endswith(" [PTC118]")

    def test_no_file_and_no_text(self, tmp_path):
        assert "app.toml: cannot be read: No such file" in refused(TransportOptions.from_toml, tmp_path / "app.toml")[0]
        (tmp_path / "app.toml").write_bytes(b"[pooltransport]\nname = '\xff'\n")
        assert "is no TOML" in refused(TransportOptions.from_toml, tmp_path / "app.toml")[0]

    def test_paths_begin_at_the_file(self, write, tmp_path, monkeypatch):
        monkeypatch.chdir("/")
        (tmp_path / "ca.pem").write_bytes(Path(certifi.where()).read_bytes())
        options = TransportOptions.from_toml(write('[pooltransport]\nca_file = "ca.pem"\nuds = "app.sock"\n'))
        assert (options.ca_file, options.uds) == (f"{tmp_path}/ca.pem", f"{tmp_path}/app.sock")
        options = TransportOptions.from_toml(write('[pooltransport]\nuds = "/run/app.sock"\n'))
        assert options.uds == "/run/app.sock"
        problems = refused(
            TransportOptions.from_toml, write('[pooltransport]\nclient_cert = ["c.pem", "k.pem", "x"]\n')
        )
        assert f"'{tmp_path}/c.pem' cannot be read" in problems[0]
        (problem,) = refused(TransportOptions.from_toml, write("[pooltransport]\nclient_cert = 5\n"))
        assert problem.endswith("[PTC112]")

    def test_suspicious_values_are_warned_of_where_it_is_called(self, write):
        with pytest.warns(pt.PoolConfigWarning, match="PTC201") as told:
            TransportOptions.from_toml(write("[pooltransport]\nmax_idle_conns_per_host = 2\n"))
        assert told[0].filename == __file__


def test_neither_is_loaded_by_who_does_not_ask():
    code = (
        "import sys, pooltransport as pt; pt.TransportOptions(max_conns=5); "
        "print([n for n in ('tomllib', 'difflib', 'resource', 'pooltransport.option_sources', "
        "'pooltransport.config_advice', 'logging') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "['resource']"  # a limit was given: the process' own one is asked
