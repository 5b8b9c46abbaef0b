"""A service with a worker model: each request makes one to another server, /metrics shows what all workers did."""

import os

import flask
import prometheus_client

import pooltransport as pt
from pooltransport.observe.prometheus import PoolCollector

registry = prometheus_client.CollectorRegistry()
PoolCollector(registry=registry)  # PROMETHEUS_MULTIPROC_DIR says where the workers meet
client = pt.Client(transport=pt.Transport(max_conns_per_host=5))
app = flask.Flask(__name__)


@app.get("/")
def index():
    client.get(os.environ["TARGET"])
    return str(os.getpid())


@app.get("/metrics")
def metrics():
    return prometheus_client.generate_latest(registry), {"X-Pid": str(os.getpid())}
