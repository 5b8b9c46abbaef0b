"""The SDKs of OpenAI and Anthropic over the adapters: what they ask, what they stream, what they leave open.

OpenAI's is built on httpx2 and takes clients of httpx as well; Anthropic's takes those of httpx2 alone.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import threading

import pytest

import pooltransport as pt
from tests.support.colours import run_colour
from tests.support.httpx_kit import Kit
from tests.support.llm_server import TEXT, llm
from tests.support.responders import stall
from tests.support.scripts import run_script

# On trio, the SDKs and httpx leave generators of theirs to the collector.
pytestmark = [pytest.mark.sdks, pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")]

ASKED = {"model": "m", "messages": [{"role": "user", "content": "How is it?"}]}


class SDK:
    """One SDK over one library: the calls that both have."""

    def __init__(self, name: str, library: str) -> None:
        self.name = name
        self.module = importlib.import_module(name)
        self.kit = Kit(library)
        self.path = "/v1" if name == "openai" else ""

    def client(self, c, url, **fields):
        kind = "OpenAI" if self.name == "openai" else "Anthropic"
        http_client = self.kit.client(c, timeout=fields.pop("timeout", 10))
        cls = getattr(self.module, kind if c.sync else f"Async{kind}")
        return cls(api_key="sk-test", base_url=url + self.path, http_client=http_client, max_retries=0, **fields)

    def create(self, client, **fields):
        if self.name == "openai":
            return client.chat.completions.create(**ASKED, **fields)
        return client.messages.create(max_tokens=9, **ASKED, **fields)

    def text(self, answer):
        return answer.choices[0].message.content if self.name == "openai" else answer.content[0].text

    def word(self, event):
        if self.name == "openai":
            return event.choices[0].delta.content or "" if event.choices else ""
        return event.delta.text if event.type == "content_block_delta" else ""


@pytest.fixture(params=[("openai", "httpx2"), ("openai", "httpx"), ("anthropic", "httpx2")], ids="-".join)
def sdk(request):
    return SDK(*request.param)


def test_whole_answers(colour, sdk, server_factory):
    server = server_factory(llm)

    async def body(c):
        client = sdk.client(c, server.url)
        for _ in range(3):
            assert sdk.text(await c.call(sdk.create, client)) == TEXT
        stats = c.transport.stats()
        assert (stats.idle, stats.dials) == (1, 1)
        await c.call_named(client, "close") if c.sync else await client.close()

    run_colour(colour, body)
    assert server.log[0].header("content-type") == "application/json"
    assert server.log[0].header("accept-encoding")


def test_streams(colour, sdk, server_factory):
    server = server_factory(llm)

    async def body(c):
        client = sdk.client(c, server.url)
        for _ in range(2):
            words = []
            stream = await c.call(sdk.create, client, stream=True)
            if c.sync:
                with stream:
                    words += [sdk.word(event) for event in stream]
            else:
                async with stream:
                    words += [sdk.word(event) async for event in stream]
            assert "".join(words) == TEXT
        await c.wait_until(lambda: c.transport.stats().active == 0)
        assert c.transport.stats().leaks == 0
        await c.call(client.close)

    run_colour(colour, body)
    assert b'"stream":true' in server.log[0].body.replace(b" ", b"")


def test_a_stream_left_early_is_closed(colour, sdk, server_factory):
    server = server_factory(llm)

    async def body(c):
        client = sdk.client(c, server.url)
        stream = await c.call(sdk.create, client, stream=True)
        if c.sync:
            with stream:
                next(iter(stream))
        else:
            async with stream:
                await anext(aiter(stream))
        await c.wait_until(lambda: c.transport.stats().leases == 0)
        await c.call(client.close)

    run_colour(colour, body)
    gc.collect()


async def forget(c, sdk, client):
    call = sdk.create(client, stream=True)
    stream = call if c.sync else await call
    assert stream.response.status_code == 200


def test_a_forgotten_stream_is_told_with_the_users_line(colour, sdk, server_factory):
    server = server_factory(llm)
    reports = []

    async def body(c):
        client = sdk.client(c, server.url)
        await forget(c, sdk, client)
        gc.collect()
        await c.wait_until(lambda: (gc.collect(), c.transport.stats().leaks == 1)[1])
        assert c.transport.stats().active == 0
        await c.call(client.close)

    run_colour(colour, body, trace=pt.ClientTrace(leaked=reports.append))
    (report,) = reports
    assert report.site.rpartition(":")[0] == __file__
    # The line that calls; on a loop the one that awaits.
    assert report.function == ("SDK.create" if colour == "threads" else "forget")
    assert "create(..., stream=True) as stream:" in report.message


class TestExhausted:
    def test_the_sdks_error_is_chained_to_the_cause(self, colour, sdk, server_factory):
        server = server_factory(stall(threading.Event(), b"x" * 100))

        async def body(c):
            client = sdk.client(c, server.url, timeout=sdk.kit.lib.Timeout(10, pool=0.1))
            http = sdk.kit.client(c)
            held = await sdk.kit.open(c, http, "GET", server.url)
            with pytest.raises(sdk.module.APITimeoutError) as caught:
                await c.call(sdk.create, client)
            theirs = caught.value.__cause__
            assert isinstance(theirs, sdk.kit.lib.PoolTimeout)
            assert "1 of 1 in use" in str(theirs)
            assert str(theirs).partition("\n")[0].endswith("[PT-EXHAUSTED]")
            assert isinstance(theirs.__cause__, pt.PoolTimeout)
            await c.close(held)
            await c.close(http)
            await c.call(client.close)

        run_colour(colour, body, max_conns_per_host=1)

    @pytest.mark.parametrize("how", ["traceback", "text"])
    def test_a_program_without_any_logging_set_up(self, sdk, server_factory, tmp_path, how):
        """With nothing but the SDK's own error, its user can read who holds the connections."""
        server = server_factory(llm)
        source = f"""
            import {sdk.name} as sdk, {sdk.kit.name} as lib
            from pooltransport.adapters.{sdk.kit.name} import HTTPTransport

            http = lib.Client(transport=HTTPTransport(max_conns_per_host=1), timeout=lib.Timeout(9, pool=0.2))
            client = sdk.{"OpenAI" if sdk.name == "openai" else "Anthropic"}(
                api_key="k", base_url={server.url + sdk.path!r}, http_client=http, max_retries=0)
            asked = dict(model="m", messages=[dict(role="user", content="?")])
            asked |= dict(max_tokens=9) if {sdk.name == "anthropic"} else {{}}
            create = client.messages.create if {sdk.name == "anthropic"} else client.chat.completions.create
            held = create(stream=True, **asked)
            try:
                create(**asked)
            except sdk.APITimeoutError as error:
                if {how == "text"}:
                    print(error)
                else:
                    import traceback
                    traceback.print_exception(error)
            held.close()
            http.close()
        """
        done = run_script(tmp_path / "program.py", source)
        cause = f"no connection to {server.url} within 0.20 s: 1 of 1 in use, 1 waiting"
        assert cause in done.stderr
        assert "program.py:11" in done.stderr
        assert ("Request timed out" in done.stdout) is (how == "text")


def test_each_refuses_what_it_cannot_take():
    """What is written at the top of this file, so that a change of theirs is seen."""
    anthropic = importlib.import_module("anthropic")
    with contextlib.closing(importlib.import_module("httpx").Client()) as client:
        with pytest.raises(TypeError, match="httpx2"):
            anthropic.Anthropic(api_key="k", http_client=client)
