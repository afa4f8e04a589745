"""Faulty answers of the stand-in APIs, as a drill asks for them: which requests get one, and a record of those that did.

What is asked for is one file in the state folder, so that it can be there before the first `up`; the running daemon looks at it
with every request. What an answer looks like on the wire is the business of whoever gives it: `google_requests` for the
cloud's APIs, `kubernetes_front` for a cluster's.
"""

import json
import random
import secrets
import threading
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox.host.state_files import write_object

CLOUD = "cloud"
KUBERNETES = "kubernetes"
APIS = (CLOUD, KUBERNETES)

#: `403`: an API that was switched on a moment ago, or in a cluster a missing right; `dropped`: the connection breaks before the request is
#: looked at; `lost`: it is carried out, and its answer never comes.
ANSWERS = ("403", "409", "429", "500", "503", "slow", "dropped", "lost")

#: Answers that only a request that changes something gets.
_WRITES_ONLY = frozenset({"403", "409", "lost"})

#: How long a slow answer takes unless told otherwise: of the cloud's clock for the cloud, of this machine's for Kubernetes.
SLOW_SECONDS = {CLOUD: 60.0, KUBERNETES: 3.0}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Either each request with a chance of `rate`, or the `burst` that come after the first `after` ones."""

    api: str
    answer: str
    rate: float = 0.0
    burst: int = 0
    after: int = 0
    seed: int = 0
    #: Seconds of a slow answer.
    seconds: float = 0.0
    #: Tells this rule from an equal one that was set before it.
    id: str = ""

    def concerns(self, writes: bool) -> bool:
        return writes or self.answer not in _WRITES_ONLY


class FaultStore:
    """What commands set, clear and show; what the daemon asks. Thread-safe."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "faults.json"
        self._log = state_dir / "faults.log"
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._rules: dict[str, Rule] = {}
        self._asked: Counter[str] = Counter()
        self._dice: dict[str, random.Random] = {}

    # --- commands

    def set(self, rule: Rule) -> None:
        """From now on, in place of what was set for the same API."""
        self._write({**self._read(), rule.api: Rule(**{**asdict(rule), "id": secrets.token_hex(4)})})

    def clear(self, api: str | None = None) -> None:
        """All rules, or those of one API; the record of what was given stays."""
        self._write({name: rule for name, rule in self._read().items() if api not in (None, name)})

    def rules(self) -> list[Rule]:
        return list(self._read().values())

    def given(self) -> list[dict[str, Any]]:
        """Every faulty answer so far: `rule` (its id), `api`, `answer`, `request`."""
        if not self._log.exists():
            return []
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    # --- the daemon

    def draw(self, api: str, request: str, *, writes: bool) -> Rule | None:
        """The rule by which this request is answered; None for a true answer. `request` is what the record calls it."""
        with self._lock:
            rule = self._current().get(api)
            if rule is None or not rule.concerns(writes):
                return None
            self._asked[rule.id] += 1
            asked = self._asked[rule.id]
            if rule.burst:
                hit = rule.after < asked <= rule.after + rule.burst
            else:
                hit = self._dice.setdefault(rule.id, random.Random(f"{rule.seed}/{api}/{rule.answer}")).random() < rule.rate
            if not hit:
                return None
            line = {"rule": rule.id, "api": api, "answer": rule.answer, "request": request}
            with self._log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            return rule

    def _current(self) -> dict[str, Rule]:
        try:
            known = self._file.stat()
        except FileNotFoundError:
            return {}
        stamp = (known.st_mtime_ns, known.st_ino)
        if stamp != self._stamp:
            self._rules, self._stamp = self._read(), stamp
        return self._rules

    # --- the file

    def _read(self) -> dict[str, Rule]:
        try:
            return {name: Rule(**values) for name, values in json.loads(self._file.read_text()).items()}
        except FileNotFoundError:
            return {}

    def _write(self, rules: dict[str, Rule]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_object(self._file, {name: asdict(rule) for name, rule in rules.items()})
