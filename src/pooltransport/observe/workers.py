"""One scrape for several processes: each leaves its numbers in a file of a shared directory.

Rules:

1. Whatever a scrape has shown is in a file: who is scraped writes its own numbers before it reads those of the others.
   So a sum over processes never goes down, whoever is asked next, and whoever is killed.
2. A process lives as long as it holds the lock on its ``.lock`` file. The system lets go of it however the process
   ends; numbers of processes are not used for this, they come back.
3. What a dead process counted is added to ``pooltransport-gone.json`` and its file removed; its gauges are gone. The
   file names whom it includes, so that a crash in between counts nobody twice.
4. Everything but writing one's own file happens under the lock on ``pooltransport.lock``.
5. A child process has nothing of its parent's: it begins with a file of its own when it has something to say.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import logging
import os
import secrets
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from pooltransport import observers
from pooltransport.observers import Observer

from .forks import ProcessLock
from .hosts import OTHER
from .table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pooltransport.models import Request
    from pooltransport.observers import Recorder

    from .table import Labels

_logger = logging.LoggerAdapter(logging.getLogger("pooltransport.pool"), {"pool_name": None})
_PREFIX = "pooltransport-"
_GONE = "pooltransport-gone.json"
_LOCK = "pooltransport.lock"
_PAUSE = 1.0  # between two looks whether something changed, in seconds
_SHARE = 0.02  # of a processor's time at most, with however many hosts
_PATIENCE = 2.0  # for the lock, in seconds
_MOST_HOSTS = 256  # with labels of their own, of processes that are gone


class Directory:
    """This process's part of a shared directory. `live` returns its numbers as they are now."""

    def __init__(self, path: str, live: Callable[[], Table]) -> None:
        self.path = path
        self._live = live
        self._guard = ProcessLock(self._after_fork)
        self._others: tuple[Table, Table] = (Table(), Table())
        self._closed = threading.Event()
        self._begin()
        os.register_at_fork(after_in_child=_Weakly(self._notice_fork))
        self._at_exit = _Weakly(self.publish)
        atexit.register(self._at_exit)
        self._first = _FirstRequest(_Weakly(self._start))
        observers.add(self._first)

    def _begin(self) -> None:
        self._stem = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._fd: int | None = None  # holds the lock of this process
        self._written: Table | None = None
        self._thread: threading.Thread | None = None

    def _notice_fork(self) -> None:
        with self._guard:
            pass  # entering it is what matters; where a fork runs no hooks (uWSGI), the first to enter does it

    def _after_fork(self) -> None:
        """In a child: a file of its own, the parent's lock left to the parent."""
        if self._fd is not None:
            os.close(self._fd)
        closed, self._closed = self._closed.is_set(), threading.Event()
        self._begin()
        if closed:
            self._closed.set()
        else:
            observers.add(self._first)

    def _start(self) -> None:
        """There is something to say: look each second from now on. Not before, a process that forks has no threads."""
        observers.remove(self._first)
        with self._guard:
            if self._thread is None and not self._closed.is_set():
                thread = threading.Thread(target=_run, args=(weakref.ref(self), self._closed), daemon=True)
                thread.name = "pooltransport-metrics"
                self._thread = thread
                thread.start()

    def close(self) -> None:
        """Write for the last time, and leave the gauges to nobody."""
        if self._closed.is_set():
            return
        observers.remove(self._first)
        self.publish()
        self._closed.set()
        atexit.unregister(self._at_exit)
        with self._guard:
            thread, self._thread = self._thread, None
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
        if thread is not None and thread is not threading.current_thread():
            thread.join(10.0)

    # -- writing ----------------------------------------------------------------------------------

    def publish(self) -> None:
        """Write this process's numbers if they have changed. Never raises."""
        if self._closed.is_set():
            return
        try:
            self._write(self._live())
        except Exception as error:  # noqa: BLE001 - a full disk must not end the thread, or the program's exit
            _logger.warning("cannot write metrics to %s: %r", self.path, error)

    def _write(self, table: Table) -> None:
        with self._guard:
            if table == self._written or (self._fd is None and not _says_something(table)):
                return
            if self._fd is None:
                self._enter()
            _replace(os.path.join(self.path, f"{self._stem}.json"), table.as_plain())
            self._written = table

    def _enter(self) -> None:
        """Take the lock that says that this process lives, and tidy up after those that do not."""
        with self._locked():
            fd = os.open(os.path.join(self.path, f"{self._stem}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fd = fd
            self._read_others()

    # -- reading ----------------------------------------------------------------------------------

    def gather(self, own: Table) -> Table:
        """Return the sum of `own`, this process's numbers now, and everybody else's."""
        try:
            self._write(own)
            with self._guard, self._locked():
                self._others = self._read_others()
        except (OSError, TimeoutError) as error:
            # What was read last: leaving the others out would make every counter go down.
            _logger.warning("cannot read the metrics of other processes in %s: %r", self.path, error)
        whole = Table()
        for table in (own, *self._others):
            whole.merge(table)
        return whole

    def _read_others(self) -> tuple[Table, Table]:
        """Return what the living say, and what is left of the dead. The lock must be held."""
        living = Table()
        gone, included = self._read_gone()
        dead = []
        for name in sorted(self._tidied(os.listdir(self.path))):
            stem, extension = os.path.splitext(name)
            if extension != ".json" or not stem.startswith(_PREFIX) or name == _GONE or stem == self._stem:
                continue
            if stem not in included:
                table = _read_table(os.path.join(self.path, name))
                if _is_alive(os.path.join(self.path, f"{stem}.lock")):
                    living.merge(table)
                    continue
                _add_to_gone(gone, table)
            dead.append(stem)
        if dead:
            _replace(os.path.join(self.path, _GONE), {"included": dead, "table": gone.as_plain()})
            for stem in dead:
                for extension in (".json", ".lock"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(self.path, stem + extension))
        return living, gone

    def _tidied(self, names: list[str]) -> set[str]:
        """Remove what processes left that were killed while they wrote; return the names of the rest."""
        kept = set(names)
        for name in names:
            stem, _, rest = name.partition(".")
            unfinished = rest.endswith(".tmp") or (rest == "lock" and f"{stem}.json" not in kept)
            if not name.startswith(_PREFIX) or stem == self._stem or not unfinished:
                continue
            if not _is_alive(os.path.join(self.path, f"{stem}.lock")):
                kept.discard(name)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))
        return kept

    def _read_gone(self) -> tuple[Table, set[str]]:
        try:
            with open(os.path.join(self.path, _GONE), encoding="utf-8") as file:
                plain = json.load(file)
            return Table.from_plain(plain["table"]), set(plain["included"])
        except FileNotFoundError:
            return Table(), set()
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            _logger.warning("%s in %s cannot be read, its counters are lost: %r", _GONE, self.path, error)
            return Table(), set()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(os.path.join(self.path, _LOCK), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            until = time.monotonic() + _PATIENCE
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise TimeoutError(f"another process holds {_LOCK} for {_PATIENCE:g} s") from None
                    time.sleep(0.002)
            try:
                yield
            finally:
                # Not by closing alone: a child that was forked meanwhile has the descriptor too.
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)


class _FirstRequest(Observer):
    """Calls `then` when something is first asked of any transport."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def begin(self, request: Request, options: object) -> Recorder | None:  # noqa: ARG002 - whatever it is
        """A request begins."""
        observers.remove(self)
        self._then()
        return None


class _Weakly:
    """A method that is called as long as its object lives."""

    def __init__(self, method: Callable[[], object]) -> None:
        self._method = weakref.WeakMethod(method)

    def __call__(self) -> None:
        method = self._method()
        if method is not None:
            method()


def _run(whose: weakref.ref[Directory], closed: threading.Event) -> None:
    pause = _PAUSE
    while not closed.wait(pause):
        directory = whose()
        if directory is None:
            return
        began = time.thread_time()
        directory.publish()
        pause = max(_PAUSE, (time.thread_time() - began) / _SHARE)
        del directory


def _says_something(table: Table) -> bool:
    return any(
        name != "pooltransport.connection.limit" and (any(v) if isinstance(v, list) else v) for name, _, v in table
    )


def _is_alive(lock: str) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def _read_table(path: str) -> Table:
    try:
        with open(path, encoding="utf-8") as file:
            return Table.from_plain(json.load(file))
    except (ValueError, TypeError, AttributeError) as error:
        _logger.warning("%s cannot be read, its counters are lost: %r", path, error)
        return Table()


def _replace(path: str, plain: Any) -> None:
    """Write a file in one step, for whoever reads it."""
    draft = f"{path}.{os.getpid()}.tmp"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(plain, file)
    os.replace(draft, path)


def _add_to_gone(gone: Table, table: Table) -> None:
    known = {labels_host(labels) for _, labels, _ in gone}

    def relabel(labels: Labels) -> Labels:
        host = labels_host(labels)
        if host is None or host in known:
            return labels
        if len(known) < _MOST_HOSTS:
            known.add(host)
            return labels
        other = {"server.address": OTHER[0], "server.port": str(OTHER[1])}
        return tuple((key, other.get(key, value)) for key, value in labels)

    gone.merge(table.lasting(), relabel)


def labels_host(labels: Labels) -> tuple[str, str] | None:
    """Return the host that labels name, if any."""
    found = dict(labels)
    return (found["server.address"], found["server.port"]) if "server.address" in found else None
