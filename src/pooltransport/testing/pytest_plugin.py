"""The part of the pytest plugin that is loaded with pytest: settings, the marker, the fixture. Nothing of the engine.

What looks at tests is `pytest_leaks.LeakPlugin`. It is loaded and registered when the ini setting or the option asks
for it, or when a test that was collected has the marker or the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .offline import no_network as NoNetwork  # noqa: N812 - the fixture has its name
    from .pytest_leaks import LeakPlugin, PoolLeaks

MODES = ("error", "warn", "off")
SCOPES = ("function", "session", "ignore")
MARKER = "allow_pool_leaks"
FIXTURE = "pool_leaks"
NAME = "pooltransport-leaks"


class PoolLeakWarning(pytest.PytestWarning):
    """What a test left open, where ``pooltransport_leaks = warn``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare what can be set."""
    parser.addini(
        "pooltransport_leaks",
        "what becomes of a test that leaves responses or transports of pooltransport open: error, warn or off "
        "(default: error for tests with the fixture pool_leaks or the marker allow_pool_leaks, else off)",
        default="",
    )
    parser.addini(
        "pooltransport_clients_scope",
        "until when transports must be closed: the end of the test that made them (function), of the session "
        "(session), or never (ignore)",
        default="function",
    )
    group = parser.getgroup("pooltransport")
    group.addoption(
        "--pooltransport-leaks",
        choices=MODES,
        default=None,
        help="stands over the ini setting pooltransport_leaks",
    )


def mode_of(config: pytest.Config) -> str:
    """Return what is set, ``""`` if nothing is."""
    return config.getoption("--pooltransport-leaks") or str(config.getini("pooltransport_leaks"))


def pytest_configure(config: pytest.Config) -> None:
    """Check the settings, and begin to look if they say so."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(max=0, reason=None): the test may leave so many responses of pooltransport unclosed",
    )
    mode, scope = mode_of(config), str(config.getini("pooltransport_clients_scope"))
    if mode not in {"", *MODES}:
        raise pytest.UsageError(f"pooltransport_leaks = {mode}: must be one of {', '.join(MODES)}")
    if scope not in SCOPES:
        raise pytest.UsageError(f"pooltransport_clients_scope = {scope}: must be one of {', '.join(SCOPES)}")
    if mode in {"error", "warn"}:
        load(config)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to look if a test asks for it."""
    config = session.config
    if mode_of(config) == "" and any(wants(item) for item in session.items):
        load(config)


def wants(item: pytest.Item) -> bool:
    """Report whether a test asks for the check by itself."""
    return FIXTURE in getattr(item, "fixturenames", ()) or item.get_closest_marker(MARKER) is not None


def load(config: pytest.Config) -> LeakPlugin:
    """Return the part that looks; register it if it is not yet."""
    plugin = config.pluginmanager.get_plugin(NAME)
    if plugin is None:
        from .pytest_leaks import LeakPlugin  # noqa: PLC0415 - loads the engine

        plugin = LeakPlugin(config)
        config.pluginmanager.register(plugin, NAME)
    return plugin


@pytest.fixture
def pool_leaks(request: pytest.FixtureRequest) -> PoolLeaks:
    """Have the test checked, and give it a `PoolLeaks` to ask about what is open."""
    return load(request.config).leaks_of(request.node)


@pytest.fixture
def no_network() -> Iterator[NoNetwork]:
    """Refuse every request of the test to a host that it does not ``no_network.allow(...)``; see there."""
    from .offline import no_network as block  # noqa: PLC0415 - loads the engine

    with block() as refusing:
        yield refusing
