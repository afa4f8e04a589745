"""The kubelet's delay before a container is started again, or its image is looked for again."""

INITIAL_SECONDS = 10.0
MAXIMUM_SECONDS = 300.0


class BackOff:
    """None the first time, then 10 s doubling to 5 minutes; forgotten after 10 minutes of peace. Divided by `speed`."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._seconds = 0.0
        self._updated: float | None = None

    @property
    def seconds(self) -> float:
        """By the kubelet's clock: what messages say."""
        return self._seconds

    def ready_at(self, ended: float) -> float:
        """When what ended at `ended` may be tried again (monotonic seconds)."""
        if self._updated is not None and ended - self._updated > 2 * MAXIMUM_SECONDS / self._speed:
            self._seconds = 0.0
        return ended + self._seconds / self._speed

    def tried(self, now: float) -> None:
        """Call on every try after a failure."""
        self._seconds = min(self._seconds * 2, MAXIMUM_SECONDS) or INITIAL_SECONDS
        self._updated = now
