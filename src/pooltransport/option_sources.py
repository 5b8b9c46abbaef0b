"""Options from environment variables and TOML files.

Only reading is done here: a text that is no number stays a text, and the option's own check says what is wrong
with it. A problem names the variable or the key, and never shows a value that the option's check would not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from . import option_checks as checks
from .config_checks import near_variable, nearest_option, unknown_option
from .errors import ConfigError
from .proxy_url import connect_headers_problem
from .trust_files import check_client_cert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .config_checks import ConfigFinding
    from .options import Option

_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_PATHS = ("ca_file", "client_cert", "uds")
_LIKENESS = 0.8  # of a variable to an option, from which it is a typo; those of Kubernetes are far below


class Source(NamedTuple):
    """What was read. `labels`: option to the variable or key that gave it. `findings`: warnings."""

    values: dict[str, Any]
    labels: dict[str, str]
    problems: list[str]
    findings: list[ConfigFinding]

    def relabel(self, problem: str) -> str:
        """Return `problem` with the variable or key in place of the option that it begins with."""
        for name, label in self.labels.items():
            if problem.startswith((f"{name}=", f"{name}:", f"{name} ")):
                return label + problem[len(name) :]
        return problem


# -- the environment ----------------------------------------------------------------------------


def read_environment(table: Mapping[str, Option], prefix: str, environ: Mapping[str, str] | None) -> Source:
    """Read the variables that begin with `prefix`."""
    source = Source({}, {}, [], [])
    variables = os.environ if environ is None else environ
    names = {f"{prefix}{name.upper()}": name for name in table}
    for variable in sorted(variables):
        text = variables[variable].strip()
        if not variable.startswith(prefix) or not text:
            continue
        name = names.get(variable)
        if name is None:
            near = nearest_option(variable[len(prefix) :], table, _LIKENESS)
            if near is not None and not _is_injected(variable):
                source.findings.append(near_variable(variable, f"{prefix}{near.upper()}"))
            continue
        parse = _parser_of(table[name])
        if parse is None:
            source.problems.append(f"{variable}: {name} can only be given in code: leave the variable out [PTC117]")
        else:
            source.values[name] = None if text.lower() == "none" else parse(text)
            source.labels[name] = variable
    return source


def _is_injected(variable: str) -> bool:
    """Report whether Kubernetes sets such a variable for a service, by itself."""
    return variable.endswith(("_SERVICE_HOST", "_SERVICE_PORT", "_PORT", "_ADDR", "_PROTO", "_TCP", "_UDP"))


def _integer(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        return text


def _number(text: str) -> object:
    try:
        return float(text) if any(c in text for c in ".eEnN") else int(text)
    except ValueError:
        return text


def _flag(text: str) -> object:
    return _FLAGS.get(text.lower(), text)


def _text(text: str) -> object:
    return text


def _parts(text: str, most: int = -1) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",", most))


def _numbers(text: str) -> object:
    return tuple(map(_number, _parts(text)))


def _flag_or_numbers(text: str) -> object:
    flag = _flag(text)
    return _numbers(text) if isinstance(flag, str) and "," in text else flag


def _text_and_number(text: str) -> object:
    host, comma, port = text.partition(",")
    return (host.strip(), _integer(port.strip())) if comma else text


def _certificate(text: str) -> object:
    parts = _parts(text, 2)  # a password may have commas
    return parts if len(parts) > 1 else text


# By an option's check: how its text is read; None if it cannot be a text.
_PARSERS: dict[Callable[[str, object], str | None], Callable[[str], object] | None] = {
    checks.idle_limit: _integer,
    checks.limit: _integer,
    checks.waiting_limit: _integer,
    checks.size: _integer,
    checks.header_size: _integer,
    checks.size_or_none: _integer,
    checks.seconds_or_none: _number,
    checks.seconds: _number,
    checks.delay: _number,
    checks.flag: _flag,
    checks.auto_or_flag: _flag,
    checks.rate: _numbers,
    checks.keepalive: _flag_or_numbers,
    checks.modules: _parts,
    checks.local_address: _text_and_number,
    check_client_cert: _certificate,
    checks.callable_or_none: None,
    checks.judge_or_none: None,
    checks.trace: None,
    checks.socket_options: None,
    connect_headers_problem: None,
}


def _parser_of(option: Option) -> Callable[[str], object] | None:
    return _PARSERS.get(option.check, _text)


# -- TOML ---------------------------------------------------------------------------------------


def read_toml(table: Mapping[str, Option], path: str | os.PathLike[str], profile: str | None) -> Source:
    """Read the table ``[pooltransport]`` of a file, and that of a profile over it."""
    file = os.fsdecode(path)
    base, profiles = _tables(file)
    source = Source({}, {}, [], [])
    if profile is not None and profile not in profiles:
        there = f"there are {', '.join(profiles)}" if profiles else "there is none"
        source.problems.append(f"{file}: no [pooltransport.profile.{profile}]; {there} [PTC118]")
    for title, rows, is_used in _sections(base, profiles, profile):
        where = f"{file}: [{title}] "
        if not isinstance(rows, dict):
            source.problems.append(f"{where}must be a table [PTC118]")
            continue
        for name, value in rows.items():
            if name not in table:
                source.problems.append(where + unknown_option(name, table))
            elif is_used:
                source.values[name] = _from_toml(table[name], value)
                source.labels[name] = where + name
    folder = os.path.dirname(file)
    for name in _PATHS:
        if name in source.values:
            source.values[name] = _beside(folder, source.values[name])
    return source


def _tables(file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the table ``[pooltransport]`` and its profiles."""
    import tomllib  # noqa: PLC0415 - only who reads a file pays for it

    try:
        with open(file, "rb") as opened:
            document = tomllib.load(opened)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}", "PTC118") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is no TOML: {error}", "PTC118") from error
    base = document.get("pooltransport")
    if not isinstance(base, dict):
        raise ConfigError(f"{file}: there is no table [pooltransport]", "PTC118")
    profiles = base.pop("profile", {})
    if not isinstance(profiles, dict):
        raise ConfigError(f"{file}: profile must be tables, as [pooltransport.profile.production]", "PTC118")
    return base, profiles


def _sections(base: dict[str, Any], profiles: dict[str, Any], profile: str | None) -> Iterator[tuple[str, Any, bool]]:
    """Yield title, rows, and whether they are used: a typo in another profile is found before that is deployed."""
    yield "pooltransport", base, True
    for name, rows in profiles.items():
        yield f"pooltransport.profile.{name}", rows, name == profile


def _from_toml(option: Option, value: object) -> object:
    """Return what Python wants: None for "none", tuples for arrays."""
    if value == "none":
        return None
    if option.check is checks.socket_options and isinstance(value, list):
        return [tuple(row) if isinstance(row, list) else row for row in value]
    return tuple(value) if isinstance(value, list) else value


def _beside(folder: str, value: object) -> object:
    """Return a path, or the paths of a certificate and its key, that begin at the file's folder."""
    if isinstance(value, str) and value:
        return os.path.join(folder, value)
    if isinstance(value, tuple):  # certificate, key, password
        return (*(_beside(folder, part) for part in value[:2]), *value[2:])
    return value
