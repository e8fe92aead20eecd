"""Posts one webhook: to an address that was checked, without redirects, and with an end to waiting."""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from urllib.parse import SplitResult

from model.lent_threads import lent_threads
from service.webhooks.addresses import port_of, resolve

CONNECT_SECONDS = 5.0
IN_ALL_SECONDS = 15.0


def post(
    parts: SplitResult, headers: Mapping[str, str], body: bytes, *, context: ssl.SSLContext, production: bool
) -> int:
    """Send a message; the status of the answer, of which no more than its head is read.

    Raises BlockedAddress, OSError and http.client.HTTPException.
    """
    address = resolve(parts, production=production)
    connection = _Pinned(parts, address, context if parts.scheme == "https" else None)
    done = threading.Event()
    with lent_threads(1) as watch:
        watch.submit(connection.abort_unless, done)
        try:
            target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
            connection.request("POST", target, body, dict(headers))
            return connection.getresponse().status
        finally:
            done.set()
            connection.close()


class _Pinned(http.client.HTTPConnection):
    """Connects to the address that was checked; the host's name is for TLS and the Host header."""

    def __init__(self, parts: SplitResult, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(str(parts.hostname), port_of(parts), timeout=CONNECT_SECONDS)
        self.default_port = 80 if context is None else 443
        self._address = address
        self._context = context

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._context is not None:
            # The handshake comes when `abort_unless` can already reach the socket: it may be made to last for ever.
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()
        self.sock.settimeout(IN_ALL_SECONDS)

    def abort_unless(self, done: threading.Event) -> None:
        """When the time is up, end whatever another thread still waits for."""
        in_time = done.wait(IN_ALL_SECONDS)
        sock: socket.socket | None = self.sock
        if not in_time and sock is not None:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                return
