"""`kubectl port-forward`, the kubelet's side: connections to a pod's port as pairs of SPDY streams over one connection.

The API server passes the client's SPDY on as it is, also when the client speaks WebSocket to it:
https://github.com/kubernetes/kubernetes, staging/src/k8s.io/apimachinery/pkg/util/portforward and pkg/kubelet/.../portforward. For each
connection the client opens a stream for an error and one for data, both with the headers `port` and `requestid`. SPDY is
https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/. Left out: its flow control, which Kubernetes's library does not do.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable

PROTOCOL = "portforward.k8s.io"

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 1
_CONTROL = 0x8003 << 16
_CHUNK_BYTES = 1 << 16

#: The draft's dictionary for the compression of headers (section 2.6.10.1): words with their lengths, and a text.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization "
    "cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range "
    "content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified "
    "location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding "
    "upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information"
    "204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error"
    "501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun"
    ", GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivate"
    "max-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split()) + _TEXT.encode()


class PortForward:
    """One client's connection, after it has been upgraded; `connect` opens one to a port of the pod and may raise `OSError`."""

    def __init__(self, client: ssl.SSLSocket, connect: Callable[[int], socket.socket]) -> None:
        self._client = client
        self._connect = connect
        #: A TLS connection is read and written by one thread at a time.
        self._lock = threading.Lock()
        self._received = b""
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        #: requestid -> number of its stream for an error.
        self._errors: dict[str, int] = {}
        #: Number of a data stream -> the pod's end.
        self._sockets: dict[int, socket.socket] = {}

    def serve(self) -> None:
        """Until the client has gone. Raises `OSError`, and `ValueError` of what is not SPDY."""
        try:
            while len(head := self._read(8)) == 8:
                first, second = struct.unpack(">II", head)
                data = self._read(second & 0xFFFFFF)
                flags = second >> 24
                if not first & 1 << 31:
                    self._from_client(first, data, over=bool(flags & _FIN))
                elif first == _CONTROL | _SYN_STREAM:
                    self._opened(struct.unpack(">I", data[:4])[0], self._headers(data[10:]))
                elif first == _CONTROL | _RST_STREAM:
                    self._hang_up(struct.unpack(">I", data[:4])[0])
                elif first == _CONTROL | _PING:
                    self._control(_PING, data)
                elif first == _CONTROL | _GOAWAY:
                    return
        finally:
            for number in list(self._sockets):
                self._hang_up(number)

    def _read(self, size: int) -> bytes:
        """Fewer bytes at the end of the connection."""
        while len(self._received) < size:
            if not self._client.pending():
                select.select([self._client], [], [])
            with self._lock:
                data = self._client.recv(_CHUNK_BYTES)
            if not data:
                break
            self._received += data
        found, self._received = self._received[:size], self._received[size:]
        return found

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            text = self._inflate.decompress(block)
        except zlib.error as error:
            raise ValueError(f"headers that are not SPDY's: {error}") from error
        words, at = [], 4
        while at < len(text):
            (length,) = struct.unpack(">I", text[at : at + 4])
            words.append(text[at + 4 : at + 4 + length].decode())
            at += 4 + length
        return {key.lower(): value for key, value in zip(words[::2], words[1::2], strict=True)}

    def _opened(self, number: int, headers: dict[str, str]) -> None:
        with self._lock:
            # No headers; the compression goes on from reply to reply.
            block = self._deflate.compress(bytes(4)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            self._send(_CONTROL | _SYN_REPLY, struct.pack(">I", number) + block)
        if headers["streamtype"] == "error":
            self._errors[headers["requestid"]] = number
            return
        error = self._errors.pop(headers["requestid"])
        try:
            pod = self._connect(int(headers["port"]))
        except OSError as refused:
            self._data(error, f"failed to connect to port {headers['port']} of the pod: {refused.strerror}".encode())
            self._end(number, error)
            return
        self._sockets[number] = pod
        threading.Thread(target=self._from_pod, args=(pod, number, error), name=f"port-forward {number}", daemon=True).start()

    def _from_client(self, number: int, data: bytes, *, over: bool) -> None:
        if pod := self._sockets.get(number):
            # The pod's end may be closed; its own thread tells the client.
            with contextlib.suppress(OSError):
                pod.sendall(data)
                if over:
                    pod.shutdown(socket.SHUT_WR)

    def _from_pod(self, pod: socket.socket, number: int, error: int) -> None:
        with contextlib.suppress(OSError):
            while data := pod.recv(_CHUNK_BYTES):
                self._data(number, data)
            self._end(number, error)
        self._sockets.pop(number, None)
        pod.close()

    def _hang_up(self, number: int) -> None:
        if pod := self._sockets.pop(number, None):
            with contextlib.suppress(OSError):
                pod.shutdown(socket.SHUT_RDWR)

    def _end(self, *numbers: int) -> None:
        for number in numbers:
            self._data(number, b"", _FIN)

    def _data(self, number: int, data: bytes, flags: int = 0) -> None:
        with self._lock:
            self._send(number, data, flags)

    def _control(self, kind: int, data: bytes) -> None:
        with self._lock:
            self._send(_CONTROL | kind, data)

    def _send(self, first: int, data: bytes, flags: int = 0) -> None:
        self._client.sendall(struct.pack(">II", first, flags << 24 | len(data)) + data)
