"""A web server on this machine, for tests of downloads and uploads."""

import http.server
import threading
from contextlib import contextmanager


@contextmanager
def serving(handler):
    """A server on a free port of 127.0.0.1 that answers with a request handler class, in a thread of its own."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))  # seconds between looks for shutdown
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
