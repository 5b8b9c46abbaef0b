// What asgi_app.py says, in Node.
const http = require("http");
const zlib = require("zlib");

function answer(path, query, request, size, response) {
  const end = (status, headers, body) => {
    response.writeHead(status, { "Content-Length": Buffer.byteLength(body), ...headers });
    response.end(body);
  };
  switch (path) {
    case "/echo":
      return end(200, {}, query);
    case "/gzip":
      return end(200, { "Content-Encoding": "gzip" }, zlib.gzipSync(query.repeat(100)));
    case "/chunked":
      for (let i = 0; i < 10; i++) response.write("x".repeat(20000));
      return response.end();
    case "/moved":
      return end(302, { Location: "/echo?" + query }, "");
    case "/again":
      return end(307, { Location: "/upload" }, "");
    case "/cookie":
      return end(200, { "Set-Cookie": "seen=" + query }, request.headers.cookie || "");
    case "/upload":
      return end(200, {}, String(size));
    default:
      return end(404, {}, "");
  }
}

const server = http.createServer((request, response) => {
  const mark = request.url.indexOf("?");
  const path = mark < 0 ? request.url : request.url.slice(0, mark);
  const query = mark < 0 ? "" : request.url.slice(mark + 1);
  let size = 0;
  request.on("data", (piece) => (size += piece.length));
  request.on("end", () => answer(path, query, request, size, response));
});
server.keepAliveTimeout = 1000;
server.listen(Number(process.argv[2]), "127.0.0.1", 1024);
