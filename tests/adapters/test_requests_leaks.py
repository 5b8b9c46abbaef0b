"""A streamed response of requests that nobody closes: its slot comes back, and who called requests is named."""

from __future__ import annotations

import gc
import inspect
import warnings

import pytest
import requests

import pooltransport as pt
from tests.support.requests_kit import session_over
from tests.support.responders import Responder, head, ok, routes

pytestmark = pytest.mark.filterwarnings("always:response never closed:ResourceWarning")
BIG = b"x" * 400_000


def leaked_at(recwarn):
    return [(found.filename, found.lineno) for found in recwarn.list if found.category is pt.UnclosedResponseWarning]


def here(offset):
    return __file__, inspect.currentframe().f_back.f_lineno + offset


class TestDropped:
    @pytest.mark.parametrize("borrowed", [True, False])
    @pytest.mark.parametrize("how", ["get", "request", "send", "redirected"])
    def test_the_line_that_called_requests_is_named(self, how, borrowed, server_factory, recwarn):
        moved = Responder(lambda conn, request: conn.send(head("302 Found", ("Location", "/"), length=0)))
        server = server_factory(routes({"/": ok(BIG), "/moved": moved}))
        with pt.Transport(max_conns_per_host=1) as transport:
            options = {} if borrowed else {"max_conns_per_host": 1}
            with session_over(transport if borrowed else None, **options) as session:
                used = session.adapter.transport
                if how == "get":
                    place = here(1)
                    session.get(server.url + "/", stream=True)
                elif how == "request":
                    place = here(1)
                    session.request("GET", server.url + "/", stream=True)
                elif how == "send":
                    request = session.prepare_request(requests.Request("GET", server.url + "/"))
                    place = here(1)
                    session.send(request, stream=True)
                else:
                    place = here(1)
                    session.get(server.url + "/moved", stream=True)
                gc.collect()
                stats = used.stats()
                assert (stats.leaks, stats.active) == (1, 0)
                assert session.get(server.url + "/", timeout=5).content == BIG  # the one slot is back
        assert leaked_at(recwarn) == [place]
        (said,) = [str(found.message) for found in recwarn.list if found.category is pt.UnclosedResponseWarning]
        assert "Fix: `with session.get(..., stream=True) as response:` (or response.close())" in said

    def test_without_any_session_of_the_callers(self, server_factory, recwarn, monkeypatch):
        from pooltransport.adapters.requests import HTTPAdapter

        server = server_factory(ok(BIG))
        monkeypatch.setattr("requests.sessions.HTTPAdapter", HTTPAdapter)
        before = pt.default_transport()
        with pt.Transport() as mine:
            pt.set_default_transport(mine)
            try:
                place = here(1)
                requests.get(server.url, stream=True)
                gc.collect()
                assert mine.stats().leaks == 1
            finally:
                pt.set_default_transport(before)
        assert leaked_at(recwarn) == [place]

    def test_partly_read(self, server_factory, recwarn):
        server = server_factory(ok(BIG))
        with session_over() as session:

            def forget():
                response = session.get(server.url, stream=True)
                assert len(next(response.iter_content(1000))) == 1000

            forget()
            gc.collect()
            assert session.adapter.transport.stats().leaks == 1
        assert len(leaked_at(recwarn)) == 1

    def test_a_thousand_lose_no_slot(self, server_factory, scaled):
        server = server_factory(ok(BIG))
        with session_over(max_conns_per_host=2) as session, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(scaled(1000, 50)):
                session.get(server.url, stream=True, timeout=5)
            gc.collect()
            stats = session.adapter.transport.stats()
            assert (stats.active, stats.waiting) == (0, 0)
            assert stats.leaks == scaled(1000, 50)

    def test_the_collector_closes_no_response_by_itself(self, server_factory):
        """`io` objects close themselves when they are collected: nobody would hear of it, and finalizers read."""
        server = server_factory(ok(BIG))
        with session_over() as session:
            raw = session.get(server.url, stream=True).raw
            closed = []
            wire = raw._fp
            real, wire.close = wire.close, lambda: closed.append(True)
            del raw
            gc.collect()
            assert closed == []
            real()


class TestNotLeaked:
    @pytest.mark.parametrize("how", ["content", "with", "iter", "not streamed"])
    def test_nothing_is_said(self, how, server_factory, recwarn):
        server = server_factory(ok(BIG))
        with session_over() as session:
            if how == "content":
                assert session.get(server.url, stream=True).content == BIG
            elif how == "with":
                with session.get(server.url, stream=True):
                    pass
            elif how == "iter":
                assert sum(map(len, session.get(server.url, stream=True).iter_content(8192))) == len(BIG)
            else:
                session.get(server.url)
            gc.collect()
            assert session.adapter.transport.stats().leaks == 0
        assert leaked_at(recwarn) == []

    def test_who_holds_a_slot_is_named_by_his_line(self, server_factory):
        server = server_factory(ok(BIG))
        with session_over(max_conns_per_host=1) as session:
            place = here(1)
            held = session.get(server.url, stream=True)
            (lease,) = session.adapter.transport.stats(detail=True).lease_list
            held.close()
        assert lease.site == "{}:{}".format(*place)
