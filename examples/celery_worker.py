"""Celery tasks that share one pool per worker process. Run: celery --app celery_worker worker --concurrency 4

A prefork worker imports this module before it forks. The transport may be made then: a child notices that it is another
process and dials connections of its own. `worker_process_shutdown` closes them, so that the server sees no resets.
Retries are Celery's: only of what was certainly not processed, or may be processed twice.
"""

from __future__ import annotations

import os

import pooltransport as pt
from celery import Celery
from celery.signals import worker_process_shutdown

API = os.environ.get("API", "https://api.example.com")

app = Celery("worker", broker=os.environ.get("BROKER", "memory://"), backend="cache+memory://")
transport = pt.Transport(name="api", max_conns_per_host=8, acquire_timeout=5.0)
client = pt.Client(transport, base_url=API, timeout=30.0)


@app.task(bind=True, max_retries=3, default_retry_delay=0.1)
def fetch(self, name: str) -> dict:
    """Reading may be repeated: any failure of the network is tried again."""
    try:
        return client.get(f"/{name}").raise_for_status().json()
    except pt.TransportError as error:
        raise self.retry(exc=error) from error


@app.task(bind=True, max_retries=3, default_retry_delay=0.1)
def charge(self, order: int) -> dict:
    """Charging must not be: only what never reached the server is tried again."""
    try:
        return client.post("/charges", json={"order": order}).raise_for_status().json()
    except pt.TransportError as error:
        if error.may_have_been_processed:
            raise
        raise self.retry(exc=error) from error


@worker_process_shutdown.connect
def close(**_: object) -> None:
    transport.close()
