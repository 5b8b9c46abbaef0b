"""What the command line takes, and who does it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from pooltransport import __version__
from pooltransport.errors import Error, PoolConfigWarning
from pooltransport.url import URL

from . import endings
from .endings import sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "python -m pooltransport"
_STATUSES = """exit statuses: 0 answered; 1 failed in another way; 2 a wrong call; 3 the name does not resolve;
4 no connection; 5 TLS; 6 time ran out; 7 a status from 400 on, with --fail; 130 interrupted"""


class _Parser(argparse.ArgumentParser):
    """Helps who mistyped a command, or left it out before a URL."""

    commands: tuple[str, ...] = ()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        if given and not given[0].startswith("-") and given[0] not in self.commands:
            self._no_command(given[0])
        return super().parse_args(given, namespace)

    def _no_command(self, word: str) -> NoReturn:
        if "://" in word:
            self.error(f"a command comes before the address: {_NAME} get URL, or probe URL")
        import difflib  # noqa: PLC0415 - only a typo pays for it

        near = difflib.get_close_matches(word.lower(), self.commands, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(self.commands)}"
        self.error(f"no command {word!r}; {hint}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status (`endings`). Raises `SystemExit` as `argparse` does."""
    chosen = _parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    scheme = ""
    try:
        with warnings.catch_warnings():
            # What is asked for here is tried once, by who sees it.
            warnings.simplefilter("ignore", PoolConfigWarning)
            if chosen.command == "explain":
                return _explain(chosen.code)
            if chosen.command == "demo":
                from pooltransport.demo import run  # noqa: PLC0415 - it brings a server

                return run()
            url = URL(chosen.url)
            scheme = url.scheme
            return _request(chosen, url)
    except Error as error:
        _say(sentence(error, scheme))
        return endings.status_of(error)
    except KeyboardInterrupt:
        _say("interrupted")
        return endings.INTERRUPTED
    except BrokenPipeError:
        # Who reads has enough. Python would complain once more when it ends, and flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return endings.FAILED
    except OSError as error:
        _say(f"it cannot be written: {error}")
        return endings.FAILED


def _say(text: str) -> None:
    print(f"pooltransport: {text}", file=sys.stderr)


def _parser() -> _Parser:
    parser = _Parser(
        prog=_NAME,
        description="A pooled HTTP client for services, and what looks at one address from here.",
        epilog=f"{_NAME} COMMAND --help says more. {_STATUSES}",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pooltransport {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser
    )

    def add(name: str, words: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words, description=words, epilog=_STATUSES, allow_abbrev=False)

    get = add("get", "write the body of an answer to standard output")
    _common(get)
    get.add_argument("-o", "--output", metavar="FILE", help="write it to a file instead")
    get.add_argument("-i", "--include", action="store_true", help="status line and headers before the body")
    head = add("head", "print status line and headers of the answer to HEAD")
    _common(head)
    for command in (get, head):
        command.add_argument("--fail", action="store_true", help="a status from 400 on is a failure (7)")
        command.add_argument("--no-follow", action="store_true", help="show a redirect instead of following it")
    probe = add("probe", "look-up, each address, TLS, certificate, first byte, and whether the connection is pooled")
    _common(probe)
    probe.add_argument("-n", "--count", type=_count, default=1, metavar="N", help="so many requests, to see reuse")
    probe.add_argument("--method", choices=("GET", "HEAD", "OPTIONS"), default="GET", help="what to ask with")
    probe.add_argument("--json", action="store_true", help="for machines; docs/command-line.md describes it")
    probe.add_argument("--plain", action="store_true", help="plain text in a terminal too")
    add("demo", "six ways in which a pool runs dry, against a server on loopback")
    page = add("explain", "print the page of a code that an error or a warning ended with")
    page.add_argument("code", nargs="?", help="as PT-LEAK or PTC101; without one, all codes are listed")
    parser.commands = tuple(commands.choices)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for all of it (default: 30)")
    parser.add_argument(
        "-H", "--header", action="append", default=[], type=_header, metavar="'NAME: VALUE'", help="may come repeatedly"
    )
    parser.add_argument("--proxy", metavar="URL", help="or none; by default the environment decides")
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--ca-file", metavar="FILE", help="the authorities to trust, PEM")
    trust.add_argument("--insecure", action="store_true", help="verify nothing: anybody may be the server")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r}: write 'Name: value'")
    return name.strip(), value.strip()


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 1 to 1000")
    return int(text)


def _request(chosen: argparse.Namespace, url: URL) -> int:
    options: dict[str, Any] = {}
    if chosen.proxy is not None:
        options["proxy"] = None if chosen.proxy == "none" else chosen.proxy
    if chosen.ca_file is not None:
        options["ca_file"] = chosen.ca_file
    asked: dict[str, Any] = {"headers": chosen.header, "timeout": chosen.timeout, "options": options}
    if chosen.command == "probe":
        return _probe(chosen, url, asked)
    from . import fetch  # noqa: PLC0415 - only this command's

    if chosen.insecure:
        from .certificates import make_context  # noqa: PLC0415 - loads ssl

        options["ssl_context"] = make_context(None, insecure=True, told=lambda *_: None)
    asked |= {"follow": not chosen.no_follow, "fail": chosen.fail}
    if chosen.command == "get":
        return fetch.get(url, **asked, include=chosen.include, output=chosen.output)
    return fetch.head(url, **asked)


def _probe(chosen: argparse.Namespace, url: URL, asked: dict[str, Any]) -> int:
    from .draw import draw  # noqa: PLC0415 - only this command's
    from .probe import probe  # noqa: PLC0415 - as above

    report = probe(url, **asked, method=chosen.method, count=chosen.count, insecure=chosen.insecure)
    error = report.error
    if chosen.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        draw(report, sys.stdout, plain=chosen.plain)
        if error is not None:
            sys.stdout.flush()
            _say(sentence(error, url.scheme))
    return report.exit_status


def _explain(code: str | None) -> int:
    from pooltransport.explain import explain, titles  # noqa: PLC0415 - only who asks reads the pages

    if code is None:
        for name, words in titles().items():
            print(f"{name:<20}{words}")
        return endings.OK
    try:
        print(explain(code), end="")
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return endings.USAGE
    return endings.OK
