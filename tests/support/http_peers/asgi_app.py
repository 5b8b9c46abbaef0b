"""What every server of `http_peers` answers, for those that run ASGI.

/echo?X: X. /gzip?X: X a hundred times, in gzip. /chunked: 200,000 bytes in chunks. /moved?X: 302 to /echo?X. /again:
307 to /upload. /cookie?X: the request's Cookie, and sets ``seen=X``. /upload: how many bytes came.
"""

import gzip


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http alone is served here")
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    path, query = scope["path"], scope["query_string"]
    headers = dict(scope["headers"])
    if path == "/chunked":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"x" * 20_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    status, extra, body = 200, [], query
    if path == "/gzip":
        extra, body = [(b"content-encoding", b"gzip")], gzip.compress(query * 100)
    elif path == "/moved":
        status, extra, body = 302, [(b"location", b"/echo?" + query)], b""
    elif path == "/again":
        status, extra, body = 307, [(b"location", b"/upload")], b""
    elif path == "/cookie":
        extra, body = [(b"set-cookie", b"seen=" + query)], headers.get(b"cookie", b"")
    elif path == "/upload":
        body = b"%d" % size
    elif path != "/echo":
        status = 404
    length = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": length + extra})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
