"""A FastAPI service whose connection pools can be scraped. Run: uvicorn fastapi_app:app"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pooltransport as pt
from fastapi import FastAPI, Response

API = os.environ.get("API", "https://api.example.com")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with pt.AsyncTransport(name="api", max_conns_per_host=20) as transport:
        app.state.client = pt.AsyncClient(transport=transport, base_url=API, timeout=10.0)
        yield


app = FastAPI(lifespan=lifespan)

# The five lines: every transport of this process, at /metrics.
from prometheus_client import REGISTRY, make_asgi_app
from pooltransport.observe.prometheus import PoolCollector

PoolCollector(registry=REGISTRY)
app.mount("/metrics", make_asgi_app(REGISTRY))


@app.get("/")
async def index() -> Response:
    answer = await app.state.client.get("/data")
    return Response(answer.content, answer.status_code, media_type="application/json")
