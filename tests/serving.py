"""A web server of a folder, for tests of what is fetched."""

import functools
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Handler(SimpleHTTPRequestHandler):
    """Serves files and keeps, in `asked`, what it was asked for."""

    asked: list

    def log_message(self, *_):
        self.asked.append(self.path)


@contextmanager
def serving(folder, handler=Handler):
    """The address of a server of `folder`, and the paths that were asked for."""
    asked = []
    kind = type("Handler", (handler,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()
