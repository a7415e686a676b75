"""A web server on this machine that answers ranges, for tests of shards; or one that doesn't."""

import contextlib
import http.server
import re
import threading
from pathlib import Path


class Ranges(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body come in two packets

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        path = Path(self.server.folder, self.path.lstrip("/"))
        if self.path.startswith("/moved/"):
            return self.answer(302, b"", Location=self.path.removeprefix("/moved"))
        if self.server.failing:
            self.server.failing -= 1
            return self.answer(503, b"busy")
        if not path.is_file():
            return self.answer(404, b"none")
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted or not self.server.ranges:
            return self.answer(200, data)
        first, last = int(wanted.group(1)), min(int(wanted.group(2)), len(data) - 1)
        part = data[first : last + 1]
        return self.answer(206, part, ETag=f'"{hash(data)}"', **{"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        with contextlib.suppress(OSError):  # a client that doesn't want the rest
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(folder, ranges=True):
    """The address of a server of a folder, and the server: `asked` are its requests, `failing` how many it refuses."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    server.folder, server.ranges, server.asked, server.failing = folder, ranges, [], 0
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
