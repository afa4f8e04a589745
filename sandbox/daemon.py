"""The sandbox's one long-running process: the stand-in cloud, the providers that Pulumi talks to, and what they started.

Run as `python -m sandbox.daemon`, detached, by `python -m sandbox up`. It writes `daemon.json` when it is ready and takes
it away when it ends in order; a record whose process is gone is how the next command knows of a crash.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from dataclasses import replace

from sandbox.control_plane.control_plane import ControlPlaneError
from sandbox.gke.cloud import Cloud
from sandbox.google.latencies import Clock
from sandbox.google.monitoring_api import MonitoringApi
from sandbox.google.records import Records
from sandbox.host.daemon_record import DaemonRecord, sandbox_environment
from sandbox.host.paths import Paths
from sandbox.host.processes import Spawner, process_start
from sandbox.host.state_files import StateError
from sandbox.images.image_builder import ImageBuilder
from sandbox.images.image_store import ImageStore
from sandbox.metrics.published_images import published_images
from sandbox.providers.serve import serve
from sandbox.servers.model_server import ModelServer

#: How much faster than Google's the sandbox's clock runs unless SANDBOX_SPEED says otherwise.
DEFAULT_SPEED = 100.0

_WATCH_SECONDS = 1.0

logger = logging.getLogger(__name__)


def _restart(cloud: Cloud, paths: Paths) -> None:
    """What `python -m sandbox restart-api-server` asks for."""
    seconds = float(paths.restart_request.read_text())
    logger.info("restarts the API servers, away for %g s", seconds)
    try:
        cloud.restart_api_servers(seconds)
    except ControlPlaneError:
        # `ended` finds it as well, and ends the sandbox with its message.
        logger.exception("an API server did not come back")
    finally:
        paths.restart_request.unlink(missing_ok=True)


def main() -> int:
    paths = Paths.from_environment()
    paths.state.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    speed = float(os.environ.get("SANDBOX_SPEED") or DEFAULT_SPEED)
    # Exec plugins of kubeconfigs that the providers use are looked up on this process's own PATH.
    os.environ.update(sandbox_environment(paths))
    environment = dict(os.environ)

    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())

    server = ModelServer.of(environment)
    images = ImageStore(paths.state / "images", published_images())
    spawner = Spawner()
    clock = Clock(speed)
    cloud = Cloud(paths=paths, spawner=spawner, images=images, environment=environment, clock=clock)
    try:
        cloud.recover()
        builder = ImageBuilder(images, state_dir=paths.state, spawner=spawner, environment=environment)
        providers = serve(cloud, builder, paths.state, environment, clock)
    except (StateError, ControlPlaneError) as error:
        logger.error("cannot start: %s", error)
        cloud.stop()
        spawner.stop()
        return 1
    monitoring = MonitoringApi(Records(paths.state / "cloud.json"))
    record = DaemonRecord(
        pid=os.getpid(),
        started=process_start(os.getpid()) or "",
        debug_providers=providers.debug_providers,
        speed=speed,
        server=server.name,
        monitoring_endpoint=monitoring.endpoint,
    )
    record.write(paths.daemon_record)
    logger.info("ready (pid %d, clock %g times as fast, server %s)", record.pid, speed, record.server)
    status = 0
    try:
        while not ending.wait(_WATCH_SECONDS):
            if paths.restart_request.exists():
                _restart(cloud, paths)
            if ended := cloud.ended():
                logger.error("stops, since %s", ended)
                status = 1
                with contextlib.suppress(OSError):
                    # Before all else: a command that comes meanwhile must not take this for a sandbox that works.
                    replace(record, ending=ended).write(paths.daemon_record)
                break
    finally:
        monitoring.stop()
        providers.stop()
        cloud.stop()
        spawner.stop()
    if status == 0:
        paths.daemon_record.unlink(missing_ok=True)
    logger.info("ended")
    return status


if __name__ == "__main__":
    sys.exit(main())
