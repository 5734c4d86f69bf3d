"""A TCP proxy on loopback before an HTTP server, which does to chosen requests what networks do, and counts it.

lose_request   the connection closes before the server has heard anything
lose_reply     the server has done it; nobody is told
cut_request    the server gets a part of the request
cut_reply      the client gets a part of the reply
hang           nothing comes back, and nothing closes, until the proxy is released
"""

import contextlib
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

ACTIONS = ("lose_request", "lose_reply", "cut_request", "cut_reply", "hang")
PIECE = 1 << 16


@dataclass
class Rule:
    """What to do to requests that match, `times` of them, after `skip` others that match."""

    action: str
    match: Callable[[str, str], bool] = lambda method, path: True
    times: int = 1
    skip: int = 0
    at: int = 20  # bytes that pass before a cut

    def takes(self, method, path):
        if self.times <= 0 or not self.match(method, path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class Proxy:
    """Listens at once; `address` is what a client is given. Rules are asked in order; `done` counts what they did."""

    def __init__(self, port, *rules):
        self.target, self.rules = ("127.0.0.1", port), list(rules)
        self.done, self.requests = Counter(), []
        self.released = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._lock, self._open = threading.Lock(), set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.released.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def cut_all(self):
        """Every connection that is open now, the followed log among them."""
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self.done["cut_all"] += len(self._open)

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client):
        server = None
        with self._lock:
            self._open.add(client)
        try:
            head, body = _request(client)
            if head is None:
                return
            method, path = head.split(b" ", 2)[:2]
            with self._lock:
                self.requests.append(f"{method.decode()} {path.decode()}")
                rule = next((one for one in self.rules if one.takes(method.decode(), path.decode())), None)
            action = rule.action if rule else None
            self.done[action or "passed"] += 1
            if action == "lose_request":
                return
            if action == "hang":
                self.released.wait()
                return
            server = socket.create_connection(self.target)
            with self._lock:
                self._open.add(server)
            if action == "cut_request":
                server.sendall((head + body)[: max(rule.at, (len(head) + len(body)) // 2)])
                return
            server.sendall(_closing(head) + body)
            limit = {"lose_reply": 0, "cut_reply": rule.at if rule else 0}.get(action)
            self._replies(client, server, limit)
        except OSError:
            pass
        finally:
            for one in filter(None, (client, server)):
                with self._lock:
                    self._open.discard(one)
                one.close()

    def _replies(self, client, server, limit):
        """Both ways until one side ends; with a limit the client gets no more, but the server is heard to its end."""
        passed = 0
        while True:
            for ready in select.select([client, server], [], [])[0]:
                data = ready.recv(PIECE)
                if not data:
                    return
                if ready is client:
                    server.sendall(data)
                elif limit is None:
                    client.sendall(data)
                elif passed < limit:
                    client.sendall(data[: limit - passed])
                    passed += len(data)


def _request(client):
    """(head, body) of an HTTP request; (None, b"") where the client went away."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(PIECE)
        if not piece:
            return None, b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        body += client.recv(PIECE)
    return head + b"\r\n\r\n", body


def _closing(head):
    """One request a connection, so that every request has its own fate; a websocket stays what it is."""
    lines = head.split(b"\r\n")
    if any(line.lower().startswith(b"upgrade:") for line in lines):
        return head
    kept = [line for line in lines[:-2] if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])
