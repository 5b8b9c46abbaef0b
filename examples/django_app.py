"""A Django project in one file, whose views share one client. Run:

    gunicorn --workers 4 --threads 8 django_app:application

The client is made when the module is: once for each worker process. With `--preload` it is made before the fork; the
workers notice, and dial connections of their own. It is thread-safe, so that all threads of a worker share its pool.
"""

from __future__ import annotations

import atexit
import os

import pooltransport as pt
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

API = os.environ.get("API", "https://api.example.com")

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY=os.environ.get("SECRET_KEY", "example"))
    django.setup()

transport = pt.Transport(name="api", max_conns_per_host=20, acquire_timeout=2.0)
client = pt.Client(transport, base_url=API, timeout=10.0)
atexit.register(transport.close)


def data(request: HttpRequest) -> JsonResponse:
    try:
        answer = client.get("/data").raise_for_status()
    except pt.PoolTimeout as error:
        # Ours is the fault: the pool is too small, or somebody does not close. The text names the line.
        return JsonResponse({"error": str(error)}, status=503, headers={"Retry-After": "1"})
    except pt.Error as error:
        return JsonResponse({"error": type(error).__name__}, status=502)
    return JsonResponse(answer.json())


def health(request: HttpRequest) -> JsonResponse:
    stats = transport.stats()
    return JsonResponse({"active": stats.active, "idle": stats.idle, "waiting": stats.waiting, "leaks": stats.leaks})


urlpatterns = [path("", data), path("health", health)]
application = get_wsgi_application()
