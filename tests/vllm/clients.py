"""Clients that keep their connections open, as connection pools do, and what became of each of their requests.

Behind a load balancer that passes connections through, a connection stays with its pod, and only a new one may come to another. So a client
here is done when it has to connect again after the pod has left the load balancer: the next pod has it. Left out: retries.
"""

import http.client
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.vllm.servers import MODEL, PORT, Server

_SECONDS = 120.0


@dataclass
class Results:
    """`lost` says of each request without a whole answer what came instead."""

    answered: int = 0
    lost: list[str] = field(default_factory=list)


class PooledClients:
    """Each thread asks for a few tokens over one connection, again and again, until the connection is closed after `leave` or `stop`.

    `pause` is the seconds for which it leaves the connection idle after each answer.
    """

    def __init__(
        self, server: Server, count: int, *, stream: bool, tokens: int = 4, pause: float = 0, headers: dict[str, str] | None = None
    ) -> None:
        self.results = Results()
        self._address = server.url.removeprefix("http://").partition(":")[0]
        self._stream = stream
        self._tokens = tokens
        self._pause = pause
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._left = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """The pod has left the load balancer: new connections go elsewhere."""
        self._left.set()

    def stop(self) -> None:
        self._stopped.set()

    def still_connected(self, within: float) -> int:
        """How many clients keep their connection to the pod for that many seconds."""
        for thread in self._threads:
            thread.join(timeout=within / len(self._threads))
        return sum(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._address, PORT, timeout=_SECONDS)
        connected = False
        while not self._stopped.is_set():
            if not connected and self._left.is_set():
                return
            outcome, connected = ask(connection, self._tokens, stream=self._stream, headers=self._headers)
            with self._lock:
                if outcome is None:
                    self.results.answered += 1
                else:
                    self.results.lost.append(outcome)
            if connected:
                self._stopped.wait(self._pause)


def ask(connection: http.client.HTTPConnection, tokens: int, *, stream: bool, headers: dict[str, str]) -> tuple[str | None, bool]:
    """Asks for so many tokens; what is wrong with the answer, if anything, and whether the connection is still open."""
    body = {"model": MODEL, "prompt": "The sky", "max_tokens": tokens, "ignore_eos": True, "stream": stream}
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return repr(error), False
    is_open = connection.sock is not None
    if response.status != 200:
        return f"HTTP {response.status}", is_open
    lines = [line.removeprefix("data: ") for line in content.split("\n\n") if line.strip()]
    if stream and lines[-1:] != ["[DONE]"]:
        return "a stream without its end", is_open
    reasons = _finish_reasons(lines[:-1] if stream else lines)
    return (None if reasons == ["length"] else f"HTTP 200 with {reasons}"), is_open


def _finish_reasons(documents: Sequence[str]) -> list[str]:
    choices = [choice for each in documents for choice in json.loads(each).get("choices", [])]
    return [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
