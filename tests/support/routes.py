"""A scripted server's answers by path: what tests of redirects, cookies and authentication need."""

from __future__ import annotations

from .responders import Responder, head


def routes(table):
    """Answer by path: ``{"/a": (302, {"Location": "/b"}, b"")}``, or a function of the request that gives such."""

    @Responder
    def respond(conn, request):
        found = table[request.target.partition("?")[0]]
        status, headers, body = found(request) if callable(found) else found
        fields = list(headers.items()) if isinstance(headers, dict) else headers
        length = None if any(name.lower() == "transfer-encoding" for name, _ in fields) else len(body)
        conn.send(head(f"{status} Some", *fields, length=length))
        if request.method != "HEAD":
            conn.send(body)

    return respond


def told(request):
    """What arrived: method, target, and the headers that matter for where credentials go."""
    names = ("authorization", "cookie", "proxy-authorization")
    return request.method, request.target, {name: value for name, value in request.headers if name in names}
