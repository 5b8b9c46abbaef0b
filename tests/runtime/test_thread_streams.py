"""The blocking leaf under several hands at once (contract 3.4): found by many threads, kept as single cases."""

from __future__ import annotations

import socket
import threading

from pooltransport.engine.sync import run_sync
from pooltransport.runtime.threads import ThreadRuntime


def connected() -> tuple[object, socket.socket]:
    ours, theirs = socket.socketpair()
    return run_sync(ThreadRuntime().adopt(ours)), theirs


def test_every_abort_is_told_of_the_close():
    """A dial that is aborted while it ends is aborted by two; a slot is lost if one of them is not told."""
    stream, theirs = connected()
    told = []
    stream.abort(lambda: told.append("first"))
    stream.abort(lambda: told.append("second"))
    theirs.close()
    assert told == ["first", "second"]


def test_every_abort_is_told_by_the_reader_that_leaves_last():
    stream, theirs = connected()
    told, reading, errors = [], threading.Event(), []

    def read():
        reading.set()
        try:
            run_sync(stream.receive(None))
        except OSError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    reading.wait()
    stream.abort(lambda: told.append("first"))
    stream.abort(lambda: told.append("second"))
    reader.join()
    theirs.close()
    assert sorted(told) == ["first", "second"]
    assert len(errors) == 1


def test_two_threads_may_ask_about_one_connection():
    """The housekeeper looks at idle connections while others check them out."""
    stream, theirs = connected()
    problems = []

    def ask(question):
        try:
            for _ in range(3000):
                question()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(question,)) for question in (stream.check, stream.hung_up) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.abort(lambda: None)
    theirs.close()
    assert problems == []
