"""A Flask service whose connection pools can be scraped. Run: flask --app flask_app run

With several workers (`gunicorn --preload --workers 4 flask_app:app`) set PROMETHEUS_MULTIPROC_DIR to an empty
directory: each scrape is then the sum over the workers.
"""

import os

import pooltransport as pt
from flask import Flask, Response

API = os.environ.get("API", "https://api.example.com")

app = Flask(__name__)
client = pt.Client(transport=pt.Transport(name="api", max_conns_per_host=20), base_url=API, timeout=10.0)

# The five lines: every transport of this process, at /metrics.
from prometheus_client import REGISTRY, make_wsgi_app
from pooltransport.observe.prometheus import PoolCollector
from werkzeug.middleware.dispatcher import DispatcherMiddleware

PoolCollector(registry=REGISTRY)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/metrics": make_wsgi_app(REGISTRY)})


@app.get("/")
def index() -> Response:
    answer = client.get("/data")
    return Response(answer.content, answer.status_code, mimetype="application/json")
