"""What is said of a configuration: errors with codes, warnings once a line, advice to who asks (contract 5.9)."""

from __future__ import annotations

import ast
import asyncio
import copy
import logging
import math
import pickle
import re
import ssl
import subprocess
import sys
import warnings
from pathlib import Path

import certifi
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pooltransport as pt
from tests.support.responders import ok

ROOT = Path(__file__).parent.parent
# The guide's: 100 idle, 20 idle and 50 in all for each host, 90 s.
GUIDE = {"max_idle_conns": 100, "max_idle_conns_per_host": 20, "max_conns_per_host": 50, "idle_conn_timeout": 90}


def warned(make, *args, **options) -> list[str]:
    """Return the codes of the warnings that `make` gives."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = make(*args, **options)
    assert all(isinstance(warning.message, pt.PoolConfigWarning) for warning in told)
    del made
    return [warning.message.code for warning in told]


def advised(*, client=None, **options) -> list[tuple[str, str]]:
    """Return code and level of what check() finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pt.PoolConfigWarning)
        made = pt.TransportOptions(**options)
    return [(found.code, found.level) for found in made.check(**client or {})]


def refused(make, *args, **options) -> pt.ConfigError:
    with pytest.raises(pt.ConfigError) as caught:
        make(*args, **options)
    return caught.value


class TestConfigError:
    def test_every_problem_ends_with_its_code(self):
        error = refused(pt.TransportOptions, max_conns=-1, read_timeout=math.nan, retry_stale=1, max_idle_per_host=2)
        assert error.codes == ("PTC108", "PTC101", "PTC104", "PTC110")
        assert len(error.problems) == 4
        for problem, code in zip(error.problems, error.codes, strict=True):
            assert problem.endswith(f" [{code}]")
        assert str(error) == "\n".join(error.problems)

    @pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
    def test_can_be_copied_and_pickled(self, again):
        error = refused(pt.TransportOptions, max_conns=0, name="")
        same = again(error)
        assert (same.problems, same.codes, str(same)) == (error.problems, error.codes, str(error))

    def test_a_text_keeps_its_own_code(self):
        assert pt.ConfigError(["a [PTC101]", "b"], "PTC110").codes == ("PTC101", "PTC110")
        assert pt.ConfigError("somebody else's").codes == ("",)
        assert pt.ConfigError("ends with [1, 2]").codes == ("",)

    @pytest.mark.parametrize(
        ("make", "code"),
        [
            (lambda: pt.TransportOptions(max_conns_per_host=20, max_idle_conns_per_host=50), "PTC102"),
            (lambda: pt.TransportOptions(max_conns_per_host=20, max_conns=10), "PTC103"),
            (lambda: pt.Timeout(read=0), "PTC104"),
            (lambda: pt.Client(timeout="soon"), "PTC104"),
            (lambda: pt.TransportOptions(disable_keep_alives=True, idle_conn_timeout=3), "PTC106"),
            (lambda: pt.TransportOptions(max_waiting=5), "PTC107"),
            (lambda: pt.TransportOptions(maxidleconns=5), "PTC108"),
            (lambda: pt.TransportOptions(min_rate=5), "PTC110"),
            (lambda: pt.TransportOptions(proxy="ftp://h"), "PTC111"),
            (lambda: pt.TransportOptions(proxy_connect_headers={"Trailer": "x"}), "PTC111"),
            (lambda: pt.TransportOptions(client_cert=1), "PTC112"),
            (lambda: pt.TransportOptions(uds="/x", local_address="127.0.0.1"), "PTC113"),
            (lambda: pt.TransportOptions(ssl_context=ssl.create_default_context(), client_cert="/x"), "PTC112"),
            (lambda: pt.TransportOptions(uds="/x", resolver=print), "PTC114"),
            (lambda: pt.Client(object()), "PTC115"),
            (lambda: pt.set_default_transport(5), "PTC115"),
            (lambda: pt.Transport().warm("https://127.0.0.1", 0), "PTC101"),
        ],
    )
    def test_codes(self, make, code):
        assert refused(make).codes == (code,)

    def test_a_context_of_ones_own_and_a_certificate(self, tls_ca, tmp_path):
        tls_ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
        context = ssl.create_default_context()
        error = refused(pt.TransportOptions, ssl_context=context, client_cert=tmp_path / "both.pem")
        assert error.codes == ("PTC113",)

    def test_everything_that_is_raised_has_a_code(self):
        bare = []
        for path in sorted((ROOT / "src").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ConfigError":
                    text = ast.unparse(node.args[0])
                    listed = isinstance(node.args[0], (ast.Name, ast.List, ast.ListComp))  # made of coded texts
                    if not (len(node.args) == 2 or listed or re.search(r"\[PTC\d{3}\]['\"]+$|_timeout_problem", text)):
                        bare.append(f"{path.name}:{node.lineno}")
        assert bare == []

    def test_a_number_beyond_every_float_is_refused_as_any_other(self):
        assert refused(pt.TransportOptions, read_timeout=10**400).codes == ("PTC104",)
        assert refused(pt.TransportOptions, min_rate=(10**400, 1)).codes == ("PTC110",)
        assert refused(pt.Timeout, 10**400).codes == ("PTC104",)

    @pytest.mark.parametrize("seconds", [1e9 + 1, 1e10, 1e300])
    def test_seconds_that_no_clock_can_count(self, seconds):
        names = [name for name, kind in OPTIONS.items() if kind is SECONDS]
        assert len(names) == 13
        error = refused(pt.TransportOptions, **dict.fromkeys(names, seconds))
        assert error.codes == ("PTC104",) * len(names)
        assert all("at most 1e9" in problem for problem in error.problems)
        assert "at most 1e9" in str(refused(pt.Client, timeout=seconds))

    def test_the_most_seconds_can_be_counted(self, colour, server_factory):
        server = server_factory(ok(b"there"))
        options = {name: 1e9 for name, kind in OPTIONS.items() if kind is SECONDS} | {"max_conns": 1}
        if colour == "threads":
            with pt.Transport(**options) as transport:
                assert pt.Client(transport, timeout=1e9).get(server.url).content == b"there"
            return

        async def get():
            async with pt.AsyncTransport(**options) as transport:
                assert (await pt.AsyncClient(transport, timeout=1e9).get(server.url)).content == b"there"

        run = asyncio.run if colour == "asyncio" else trio.run
        run(get() if colour == "asyncio" else get)

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("MaxIdleConnsPerHost", "max_idle_conns_per_host"),
            ("max_connections", "max_conns"),
            ("max-conns-per-host", "max_conns_per_host"),
            ("IdleConnTimeout", "idle_conn_timeout"),
            ("read_timout", "read_timeout"),
        ],
    )
    def test_an_unknown_name_names_the_nearest(self, name, meant):
        assert f"did you mean {meant}?" in str(refused(pt.TransportOptions, **{name: 1}))


class TestNothingToSay:
    def test_the_defaults(self):
        assert warned(pt.TransportOptions) == []
        assert pt.TransportOptions().check() == []

    def test_what_is_the_default(self):
        values = {name: value for name, value in pt.TransportOptions().as_dict().items() if name != "ignore_modules"}
        assert warned(pt.TransportOptions, **values) == []

    @pytest.mark.parametrize("kind", [pt.TransportOptions, pt.Transport, pt.AsyncTransport])
    def test_the_guide(self, kind):
        assert warned(kind, **GUIDE) == []
        assert advised(**GUIDE, client={"timeout": 10}) == []
        step_3 = {"max_idle_conns_per_host": 20, "idle_conn_timeout": 90.0}
        assert warned(kind, **step_3) == []

    def test_every_configuration_of_the_pages(self):
        found = {}
        pages = {ROOT / "README.md", *(ROOT / "docs").glob("*.md")} - {ROOT / "docs" / "configuration.md"}
        for page in pages:
            for block in re.findall(
                r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
            ):
                for name, options in calls_in(block):
                    found[f"{page.name}: {name}({options})"] = (warned(getattr(pt, name), **options), options)
        assert len(found) >= 4
        assert {name: codes for name, (codes, _) in found.items() if codes} == {}
        readme = [options for name, (_, options) in found.items() if name.startswith("README") and "Client" not in name]
        assert {"max_idle_conns": 100, **GUIDE} in readme
        assert [advised(**options) for options in readme] == [[]] * len(readme)


def calls_in(block: str) -> list[tuple[str, dict[str, object]]]:
    """Return the transports, options and clients that a program makes, with those of its keywords that are literals."""
    rows = []
    for node in ast.walk(ast.parse(block)):
        name = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
        if name in {"Transport", "AsyncTransport", "TransportOptions", "Client", "AsyncClient"}:
            literal = [word for word in node.keywords if word.arg and isinstance(word.value, ast.Constant)]
            rows.append((name, {word.arg: word.value.value for word in literal}))
    return rows


NO_VERIFICATION = ssl.create_default_context()
NO_VERIFICATION.check_hostname = False
NO_NAMES = ssl.create_default_context()
NO_NAMES.check_hostname = False
NO_VERIFICATION.verify_mode = ssl.CERT_NONE


class TestWarnings:
    @pytest.mark.parametrize(
        ("options", "code", "option"),
        [
            ({"read_timeout": 5000}, "PTC109", "read_timeout"),
            ({"idle_conn_timeout": 90_000}, "PTC109", "idle_conn_timeout"),
            ({"happy_eyeballs_delay": 250}, "PTC109", "happy_eyeballs_delay"),
            ({"max_conn_lifetime": 600_000}, "PTC109", "max_conn_lifetime"),
            ({"max_idle_conns_per_host": 2, "max_conns_per_host": 20}, "PTC201", "max_idle_conns_per_host"),
            ({"max_idle_conns_per_host": 2}, "PTC201", "max_idle_conns_per_host"),
            ({"max_conns": 2_000_000_000, "uds": "/x"}, "PTC203", "max_conns"),
            ({"read_timeout": None}, "PTC204", "read_timeout"),
            ({"read_timeout": None, "min_rate": (1, 1), "response_header_timeout": None}, "PTC204", "read_timeout"),
            ({"max_conn_lifetime": 5}, "PTC207", "max_conn_lifetime"),
            ({"max_conn_lifetime": 60, "idle_conn_timeout": 61}, "PTC207", "max_conn_lifetime"),
            ({"lease_warn_after": 1}, "PTC208", "lease_warn_after"),
            ({"lease_warn_after": 60, "read_timeout": 5}, "PTC208", "lease_warn_after"),
            ({"drain_limit": 2**20 + 1}, "PTC209", "drain_limit"),
            ({"drain_timeout": 50}, "PTC209", "drain_timeout"),
            ({"ssl_context": NO_VERIFICATION}, "PTC210", "ssl_context"),
        ],
    )
    def test_suspicious(self, options, code, option):
        assert warned(pt.TransportOptions, **options) == [code]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = [row for row in pt.TransportOptions(**options).check() if row.level == "warning"]
        assert [(row.code, row.option) for row in found] == [(code, option)]
        assert str(found[0]) == f"{found[0].text} [{code}]"
        assert found[0].text.startswith(option)

    @pytest.mark.parametrize(
        "options",
        [
            {"read_timeout": 999},
            {"max_conn_lifetime": 3600},
            {"lease_max": 3600},
            {"happy_eyeballs_delay": 2},
            {"max_idle_conns_per_host": 2, "max_conns_per_host": 8},
            {"max_idle_conns_per_host": 0, "max_conns_per_host": 20},
            {"max_conns": 100},
            {"read_timeout": None, "lease_max": 300},
            {"read_timeout": None, "min_rate": (1024, 30)},
            {"response_header_timeout": None},  # read_timeout runs meanwhile
            {"max_conn_lifetime": 60},  # the default idle timeout is nobody's word
            {"max_conn_lifetime": 60, "idle_conn_timeout": 60},
            {"lease_warn_after": 0},
            {"lease_warn_after": 600},
            {"drain_limit": 2**20, "drain_timeout": 1},
            {"ssl_context": NO_NAMES},
            {"ca_file": certifi.where()},
        ],
    )
    def test_in_order(self, options):
        assert warned(pt.TransportOptions, **options) == []

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells its range of ports")
    def test_more_connections_than_ports(self):
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        assert "PTC211" in warned(pt.TransportOptions, max_conns_per_host=high - low + 2)
        assert "PTC211" not in warned(pt.TransportOptions, max_conns_per_host=high - low + 1)
        assert "PTC211" not in warned(pt.TransportOptions, max_conns_per_host=high - low + 2, uds="/x")

    def test_files(self):
        code = (
            "import resource, warnings, pooltransport as pt; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard)); warnings.simplefilter('always');"
            "pt.TransportOptions(max_conns=136); pt.TransportOptions(max_conns=137)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        assert done.stderr.count("PTC203") == 1
        assert "max_conns=137: this process may have 200 files open" in done.stderr
        assert "set 136 or less" in done.stderr

    def test_milliseconds_are_shown_as_what_they_are(self):
        with pytest.warns(
            pt.PoolConfigWarning, match=r"read_timeout=5000 is 83\.3 minutes; seconds are expected: 5 if"
        ):
            pt.TransportOptions(read_timeout=5000)


class TestTelling:
    def test_at_the_line_of_the_caller(self):
        with pytest.warns(pt.PoolConfigWarning) as told:
            pt.Transport(read_timeout=None)
        here = told[0]
        assert (here.filename, here.lineno) == (__file__, TestTelling.line_of("pt.Transport(read_timeout=None)"))

    @staticmethod
    def line_of(text: str) -> int:
        lines = Path(__file__).read_text(encoding="utf-8").splitlines()
        return next(number for number, line in enumerate(lines, 1) if line.strip() == text)

    def test_once_for_each_line(self):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("default")
            for _ in range(3):
                pt.TransportOptions(read_timeout=None)
            pt.TransportOptions(read_timeout=None)
        assert len(told) == 2

    def test_can_be_filtered_by_code(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*PTC204", category=pt.PoolConfigWarning)
            pt.TransportOptions(read_timeout=None)
            with pytest.raises(pt.PoolConfigWarning) as caught:
                pt.TransportOptions(lease_warn_after=1, read_timeout=None)
        assert caught.value.code == "PTC208"

    @pytest.mark.parametrize("kind", [pt.Transport, pt.AsyncTransport])
    def test_an_error_by_filter_leaves_nothing_behind(self, kind):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(pt.PoolConfigWarning):
                kind(read_timeout=None)

    def test_a_transport_of_options_that_spoke_is_silent(self):
        with pytest.warns(pt.PoolConfigWarning):
            options = pt.TransportOptions(read_timeout=None)
        assert warned(pt.Transport.from_options, options) == []
        assert warned(pt.AsyncTransport.from_options, options) == []
        assert warned(options.replace, name="other") == ["PTC204"]

    def test_modules_that_are_not_to_blame(self, tmp_path, monkeypatch):
        (tmp_path / "ourframework.py").write_text(
            "import pooltransport as pt\ndef make(**o): return pt.Transport(**o)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        import ourframework

        with pytest.warns(pt.PoolConfigWarning) as told:
            ourframework.make(read_timeout=None)
        assert told[0].filename == str(tmp_path / "ourframework.py")
        with pytest.warns(pt.PoolConfigWarning) as told:
            ourframework.make(read_timeout=None, ignore_modules=["ourframework"])
        assert told[0].filename == __file__

    def test_to_the_logger_once_for_each_line(self, caplog):
        caplog.set_level(logging.WARNING)
        for _ in range(2):
            pt.TransportOptions(read_timeout=None, lease_warn_after=1)
        site = f"{__file__}:{TestTelling.line_of('pt.TransportOptions(read_timeout=None, lease_warn_after=1)')}"
        told = [
            (record.levelname, record.code, record.option, record.site)
            for record in caplog.records
            if record.name == "pooltransport.config"
        ]
        assert told == [
            ("WARNING", "PTC204", "read_timeout", site),
            ("WARNING", "PTC208", "lease_warn_after", site),
        ]

    @pytest.mark.parametrize(("logs", "words"), [("", 1), ("import logging; logging.basicConfig(); ", 2)])
    def test_is_not_on_standard_error_twice_without_logging(self, logs, words):
        code = f"{logs}import logging, pooltransport as pt\nfor _ in range(3): pt.TransportOptions(read_timeout=None)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        assert done.stderr.count("[PTC204]") == words
        assert done.stderr.count("WARNING:pooltransport.config:read_timeout=None") == words - 1


class TestAdvice:
    @pytest.mark.parametrize(
        ("options", "code"),
        [
            ({"max_idle_conns": 50}, "PTC202"),
            ({"max_conns": None}, "PTC202"),
            ({"acquire_timeout": 5}, "PTC202"),
            ({"max_conns": 50, "acquire_timeout": None}, "PTC205"),
            ({"idle_conn_timeout": 60}, "PTC206"),
            ({"idle_conn_timeout": None}, "PTC206"),
            ({"ssl_context": NO_NAMES}, "PTC210"),
            ({"proxy": "http://user:secret@proxy.example:3128"}, "PTC214"),
        ],
    )
    def test_is_given_to_who_asks(self, options, code):
        assert warned(pt.TransportOptions, **options) == []
        assert advised(**options) == [(code, "advice")]
        (found,) = pt.TransportOptions(**options).check()
        assert "secret" not in found.text

    @pytest.mark.parametrize(
        "options",
        [
            {"name": "billing"},
            {"max_conns": 50},
            {"max_conns": 50, "acquire_timeout": 5},
            {"idle_conn_timeout": 59},
            {"proxy": "http://proxy.example:3128"},
        ],
    )
    def test_in_order(self, options):
        assert advised(**options) == []

    def test_a_proxy_of_the_environment(self, monkeypatch):
        monkeypatch.setenv("https_proxy", "http://user:secret@proxy.example:3128")
        (found,) = pt.TransportOptions(max_conns_per_host=20).check()
        assert (found.code, found.level) == ("PTC213", "advice")
        assert "https_proxy" in found.text
        assert "max_conns_per_host=20" in found.text
        assert "secret" not in found.text
        assert pt.TransportOptions(proxy=None).check() == []
        assert pt.TransportOptions(uds="/x").check() == []

    @pytest.mark.parametrize(
        ("client", "found"),
        [
            ({"timeout": 10}, []),
            ({"timeout": pt.Timeout(5, acquire=10)}, [("PTC105", "error")]),
            ({"timeout": 2}, [("PTC105", "warning")]),
            ({"timeout": pt.Timeout(2, acquire=1)}, []),
            ({"timeout": pt.Timeout(2, acquire=None)}, []),
            ({"timeout": 30_000}, [("PTC109", "warning")]),
            ({"timeout": "10"}, [("PTC104", "error")]),
            ({"base_url": "https://api.example.com"}, []),
            ({"base_url": "http://api.example.com"}, [("PTC210", "advice")]),
            ({"base_url": "http://127.0.0.1:8080"}, []),
            ({"base_url": "http://localhost"}, []),
            ({"base_url": "http://[::1]"}, []),
            ({"base_url": "https://user:secret@api.example.com"}, [("PTC214", "warning")]),
            ({"base_url": "api.example.com"}, [("PTC110", "error")]),
            ({"base_url": 5}, [("PTC110", "error")]),
        ],
    )
    def test_with_a_client(self, client, found):
        assert advised(acquire_timeout=3, max_conns=20, client=client) == found

    def test_errors_that_came_later_and_their_order(self, tmp_path):
        file = tmp_path / "ca.pem"
        file.write_bytes(Path(certifi.where()).read_bytes())
        with pytest.warns(pt.PoolConfigWarning):
            options = pt.TransportOptions(ca_file=file, read_timeout=None, max_idle_conns=5)
        file.unlink()
        found = options.check()
        assert [(row.code, row.level, row.option) for row in found] == [
            ("PTC112", "error", "ca_file"),
            ("PTC204", "warning", "read_timeout"),
            ("PTC202", "advice", "max_conns_per_host"),
        ]

    def test_a_missing_extra(self, monkeypatch):
        options = pt.TransportOptions(proxy="socks5://127.0.0.1")
        assert options.check() == []
        monkeypatch.setitem(sys.modules, "socksio", None)
        assert [(row.code, row.level) for row in options.check()] == [("PTC116", "error")]


class TestClient:
    @pytest.mark.parametrize("kind", [pt.Client, pt.AsyncClient])
    def test_an_own_wait_beyond_the_total_cannot_work(self, kind):
        error = refused(kind, timeout=pt.Timeout(5, acquire=10))
        assert error.codes == ("PTC105",)
        assert "acquire=10 can never fire: the total is 5" in str(error)

    @pytest.mark.parametrize(("kind", "of"), [(pt.Client, pt.Transport), (pt.AsyncClient, pt.AsyncTransport)])
    def test_a_wait_of_the_transport_beyond_the_total_is_suspicious(self, kind, of):
        transport = of(max_conns=5, acquire_timeout=10)
        assert warned(kind, transport, timeout=5) == ["PTC105"]
        assert warned(kind, transport, timeout=10) == []
        assert warned(kind, transport) == []
        assert warned(kind, of(max_conns=5), timeout=5) == []

    @pytest.mark.parametrize(
        ("options", "codes"),
        [
            ({"timeout": 30_000}, ["PTC109"]),
            ({"timeout": pt.Timeout(read=5000)}, ["PTC109"]),
            ({"timeout": 600}, []),
            ({"base_url": "https://user:secret@api.example.com"}, ["PTC214"]),
            ({"base_url": "https://user@api.example.com"}, []),
            ({"base_url": "http://api.example.com"}, []),
        ],
    )
    def test_suspicious(self, options, codes):
        assert warned(pt.Client, **options) == codes

    def test_no_password_in_the_words(self):
        with pytest.warns(pt.PoolConfigWarning) as told:
            pt.Client(base_url="https://user:secret@api.example.com")
        assert "secret" not in str(told[0].message)


# -- anything that can be given -----------------------------------------------------------------


def _dial(request):
    raise OSError


async def _dial_on_a_loop(request):
    raise OSError


SECONDS = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 10**6), st.floats(), st.sampled_from([10**400, 1e9, 1e300, "5"])
)
COUNTS = st.one_of(st.none(), st.booleans(), st.integers(-2, 300), st.sampled_from([2**40, 2.5, "5"]))
FLAGS = st.sampled_from([True, False, None, 1, "auto"])
VALUES: dict[str, st.SearchStrategy] = {
    "min_rate": st.one_of(st.none(), st.tuples(SECONDS, SECONDS)),
    "proxy": st.sampled_from([None, "environment", "http://h:1", "http://u:p@h", "socks5://h", "h:1", 5, _dial]),
    "proxy_connect_headers": st.sampled_from([None, {"X-A": "b"}, {"Trailer": "x"}, [("a", "b")]]),
    "ssl_context": st.sampled_from([None, "truststore", "system", NO_VERIFICATION, NO_NAMES, ssl.SSLContext]),
    "ca_file": st.sampled_from([None, certifi.where(), "/nowhere", __file__, ""]),
    "client_cert": st.sampled_from([None, "/nowhere", ("a", "b"), ()]),
    "server_hostname": st.sampled_from([None, "a.example", "", 5]),
    "dial": st.sampled_from([None, _dial, _dial_on_a_loop, "x"]),
    "resolver": st.sampled_from([None, _dial, _dial_on_a_loop, "x"]),
    "allow_address": st.sampled_from([None, pt.public_only, _dial, _dial_on_a_loop, 5]),
    "local_address": st.sampled_from([None, "127.0.0.1", ("::1", 0), ("127.0.0.1", 70_000), "here"]),
    "uds": st.sampled_from([None, "/run/x.sock", ""]),
    "socket_options": st.sampled_from([None, [], [(1, 2, 3)], [(1, 2)], 5]),
    "tcp_keepalive": st.sampled_from([True, False, None, (1, 2, 3), (0, 0, 0)]),
    "codec": st.sampled_from(["auto", "h11", "httptools", "curl"]),
    "trace": st.sampled_from([None, pt.ClientTrace(), 5]),
    "leak_detection": st.sampled_from(["off", "site", "full", None]),
    "ignore_modules": st.sampled_from([(), ["a.b"], "a", None]),
    "name": st.sampled_from([None, "billing", "", "\n"]),
    "nonsense": st.none(),
}


def strategy(name: str, default: object) -> st.SearchStrategy:
    if name in VALUES:
        return VALUES[name]
    if isinstance(default, bool) or default == "auto":
        return FLAGS
    return SECONDS if name.endswith(("timeout", "_delay", "_after", "_max", "_lifetime")) else COUNTS


OPTIONS = {name: strategy(name, default) for name, default in pt.TransportOptions().as_dict().items()}
ANY_OPTIONS = st.lists(st.sampled_from([*OPTIONS, "nonsense"]), max_size=6, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: OPTIONS.get(name, st.none()) for name in names})
)
ANY_CLIENT = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.one_of(SECONDS, st.builds(lambda *v: pt.Timeout(v[0], acquire=v[1]), *[st.floats(1, 9e3)] * 2)),
        "base_url": st.one_of(
            st.text(max_size=20), st.sampled_from(["http://a:b@x.example", "https://x", "http://::1"])
        ),
    },
)


def accept(options: dict[str, object]) -> tuple[pt.TransportOptions | None, tuple[str, ...]]:
    """Return the options, or why they were refused."""
    try:
        return pt.TransportOptions(**options), ()
    except pt.ConfigError as error:
        return None, error.codes


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY_OPTIONS, ANY_CLIENT)
def test_check_never_raises_and_what_is_accepted_is_built(options, client):
    accepted, codes = accept(options)
    if accepted is None:
        assert codes
        assert all(re.fullmatch(r"PTC1\d\d", code) for code in codes)
        return
    for found in accepted.check(**client):
        assert isinstance(found, pt.ConfigFinding)
        assert re.fullmatch(r"PTC[12]\d\d", found.code)
        assert found.level in ("error", "warning", "advice")
        assert found.text
        assert "[PTC" not in found.text
    loops_only = _dial_on_a_loop in (options.get("dial"), options.get("resolver"))
    if loops_only:
        assert refused(pt.Transport, **options).codes in (("PTC115",), ("PTC115", "PTC115"))
    else:
        pt.Transport.from_options(accepted).close()
    built = pt.AsyncTransport.from_options(accepted)
    assert built.options.as_dict() == accepted.as_dict()
