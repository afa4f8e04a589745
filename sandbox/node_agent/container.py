"""One container of a pod over all its runs: starting it, probing it, its hooks, ending it, starting it again.

Everything here happens in the pod's worker thread, except what takes time (hooks, waiting for the end), which has
threads of its own and comes back to the worker through `post`.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from sandbox.host.processes import Spawner
from sandbox.images.image_store import ImageStore, StoredImage
from sandbox.node_agent.backoff import BackOff
from sandbox.node_agent.environment import ContainerConfigError, command_line
from sandbox.node_agent.images import in_image, search_path, working_directory
from sandbox.node_agent.probes import Kind, ProbeError, ProbeFailure, Prober, ProbeTarget, http_get
from sandbox.node_agent.process import ContainerProcess, run_in_container
from sandbox.node_agent.quantities import timestamp
from sandbox.node_agent.status import ContainerKind, ContainerView
from sandbox.servers.model_server import STAND_IN, ModelServer

Object = dict[str, Any]

#: Between two looks for a Secret or a ConfigMap that is missing.
_CONFIG_RETRY_SECONDS = 2.0

#: What the kubelet leaves a container at least after its preStop hook.
_LEAST_GRACE_SECONDS = 2.0

_HOOK_SECONDS = 600.0


class Pod(Protocol):
    """What a container needs of the pod that it is in."""

    @property
    def address(self) -> str: ...

    @property
    def restart_policy(self) -> str: ...

    @property
    def grace_seconds(self) -> float: ...

    @property
    def description(self) -> str:
        """`name_namespace(uid)`, as in the kubelet's messages."""
        ...

    def variables(self, container: Object) -> dict[str, str]:
        """The container's environment as the pod says it. Raises `ContainerConfigError`, and what `KubeApi` raises."""
        ...

    def sandbox_variables(self) -> Mapping[str, str]:
        """What the sandbox adds, whatever the pod says."""
        ...

    def post(self, action: Callable[[], None]) -> None:
        """Has the worker run this soon."""
        ...

    def event(self, container: ContainerView, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None: ...

    def has_image(self, image: str) -> bool:
        """Whether the node has the image."""
        ...

    def pull(self, image: str, base: str) -> float:
        """Has the node pull the image, which is built on `base`, unless it does already; when (monotonic) it has it."""
        ...


@dataclass
class Deadline:
    """When a container is killed (monotonic seconds); may move while it is waited for."""

    at: float

    @property
    def left(self) -> float:
        return self.at - time.monotonic()


class Container:
    """`folder` is the container's own: logs of its runs, and what stands for its writable layer."""

    def __init__(
        self,
        spec: Object,
        kind: ContainerKind,
        pod: Pod,
        *,
        folder: Path,
        images: ImageStore,
        spawner: Spawner,
        server: ModelServer,
        speed: float,
    ) -> None:
        self.view = ContainerView(name=spec["name"], image=spec["image"], kind=kind)
        self.ending = False
        #: When `start` is to be called again (monotonic); infinite when something else has to happen first.
        self.wake_at = 0.0
        self._spec = spec
        self._pod = pod
        self._folder = folder
        self._images = images
        self._spawner = spawner
        self._server = server
        self._speed = speed
        self._image: StoredImage | None = None
        self._process: ContainerProcess | None = None
        self._probers: list[Prober] = []
        self._restart_back_off = BackOff(speed)
        self._pull_back_off = BackOff(speed)
        self._pull_failed_at: float | None = None
        self._pull_began: float | None = None
        self._ended_at: float | None = None
        self._started_at = 0.0
        self._deadline = Deadline(0.0)
        self._runs = 0

    # --- what it is doing

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def policy(self) -> str:
        return "Always" if self.view.kind == "sidecar" else self._pod.restart_policy

    @property
    def done(self) -> bool:
        """Has ended, and is not started again."""
        ended = self.view.terminated
        if ended is None or self.view.kind == "sidecar":
            return False
        if ended["exitCode"] == 0:
            return self.policy != "Always" or self.view.kind == "init"
        return self.policy == "Never"

    def log_file(self, *, previous: bool) -> Path | None:
        """The log of the current or last run, or of the one before it; None when there was none."""
        path = self._log(self._runs - (2 if previous else 1))
        return path if path.exists() else None

    def take_over(self, status: Object) -> None:
        """Goes on from what an earlier node agent wrote: its processes are gone."""
        self.view.restart_count = int(status.get("restartCount") or 0)
        self.view.last_terminated = (status.get("lastState") or {}).get("terminated")
        state = status.get("state") or {}
        ended = state.get("terminated")
        if "running" in state:
            ended = {
                "exitCode": 137,
                "reason": "ContainerStatusUnknown",
                "message": "The container could not be located when the node agent was started again",
                "startedAt": state["running"].get("startedAt"),
                "finishedAt": timestamp(),
                "containerID": status.get("containerID", ""),
            }
        if ended:
            self.view.terminated, self.view.waiting = ended, None
            self.view.container_id = status.get("containerID", "")
            self.view.image_id = status.get("imageID", "")
            self.view.ready = self.view.kind == "init" and ended["exitCode"] == 0
        if ended or self.view.last_terminated:
            self._runs = self.view.restart_count + 1
            self._ended_at = time.monotonic()

    # --- starting

    def start(self) -> None:
        """Starts it if its time has come; else says in `wake_at` when to ask again. Not for a running one."""
        view, now = self.view, time.monotonic()
        if self._pull_failed_at is not None and now < (again := self._pull_back_off.ready_at(self._pull_failed_at)):
            self._set_waiting("ImagePullBackOff", f'Back-off pulling image "{view.image}": ErrImagePull: {self._not_found}')
            self.wake_at = again
            return
        if self._ended_at is not None and now < (again := self._restart_back_off.ready_at(self._ended_at)):
            message = f"back-off {self._restart_back_off.seconds:g}s restarting failed container={view.name} pod={self._pod.description}"
            if view.waiting is None:
                shown = f"Back-off restarting failed container {view.name} in pod {self._pod.description}"
                self._pod.event(view, "Warning", "BackOff", shown)
            self._set_waiting("CrashLoopBackOff", message)
            self.wake_at = again
            return
        if now < self.wake_at:
            return
        try:
            image = self._images.resolve(view.image)
        except ValueError as error:
            message = f'Failed to parse image name "{view.image}": {error}'
            if view.waiting is None or view.waiting[0] != "InvalidImageName":
                self._pod.event(view, "Warning", "InspectFailed", message)
            self._set_waiting("InvalidImageName", message)
            # A pod's image can be changed.
            self.wake_at = now + _CONFIG_RETRY_SECONDS
            return
        if image is None:
            self._pull_failed(now)
            return
        self._pull_failed_at = None
        if not self._pulled(image.config.base_image, now):
            return
        try:
            variables = self._pod.variables(self._spec)
        except ContainerConfigError as error:
            if view.waiting is None or view.waiting[0] != "CreateContainerConfigError":
                self._pod.event(view, "Warning", "Failed", f"Error: {error}")
            self._set_waiting("CreateContainerConfigError", str(error))
            self.wake_at = now + _CONFIG_RETRY_SECONDS
            return
        self._launch(image, variables, now)

    @property
    def _not_found(self) -> str:
        image = self.view.image
        return (
            f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found '
            "(the sandbox has the images that the stack builds, and no others)"
        )

    def _pull_failed(self, now: float) -> None:
        image = self.view.image
        self._pod.event(self.view, "Normal", "Pulling", f'Pulling image "{image}"')
        self._pod.event(self.view, "Warning", "Failed", f'Failed to pull image "{image}": {self._not_found}')
        self._set_waiting("ErrImagePull", self._not_found)
        self._pull_back_off.tried(now)
        self._pull_failed_at = now
        # So that the first of the two states is seen as well.
        self.wake_at = now + min(1.0, (self._pull_back_off.ready_at(now) - now) / 2)

    def _launch(self, image: StoredImage, variables: Mapping[str, str], now: float) -> None:
        view, run = self.view, self._runs
        if self._ended_at is not None:
            self._restart_back_off.tried(now)
            view.restart_count += 1
        environment, own = self._environment(image, variables)
        self._log(run - 2).unlink(missing_ok=True)
        self._image = image
        self._runs += 1
        view.image_id = f"{view.image.split('@')[0]}@{image.digest}"
        if view.terminated:
            view.last_terminated, view.terminated = view.terminated, None
        try:
            argv = command_line(self._spec, entrypoint=image.entrypoint, cmd=image.cmd, variables=variables)
            if not argv:
                raise FileNotFoundError(2, "no command specified")
            process = ContainerProcess(
                in_image(image.rootfs, argv),
                spawner=self._spawner,
                environment=environment,
                folder=working_directory(image.rootfs, self._spec.get("workingDir") or image.workdir, own),
                log=self._log(run),
                name=view.name,
            )
        except OSError as error:
            self._not_started(error)
            return
        self._process = process
        self._started_at = now
        self.wake_at = float("inf")
        view.waiting, view.running, view.container_id = None, timestamp(), f"sandbox://{process.id}"
        self._pod.event(view, "Normal", "Created", f"Container created: {view.name}")
        self._pod.event(view, "Normal", "Started", "Container started")
        process.follow(lambda code: self._pod.post(lambda: self._exited(process, code)))
        if hook := (self._spec.get("lifecycle") or {}).get("postStart"):
            self._in_thread("postStart", lambda: self._post_start(process, hook))
        else:
            self._begin_probing(process)

    def _pulled(self, base: str, now: float) -> bool:
        """Whether the node has the image; if not, it is asked for, and `wake_at` says when it will be there."""
        image = self.view.image
        if self._pull_began is None:
            if self._pod.has_image(image):
                self._pod.event(self.view, "Normal", "Pulled", f'Container image "{image}" already present on machine')
                return True
            self._pull_began = now
            self._pod.event(self.view, "Normal", "Pulling", f'Pulling image "{image}"')
            self._set_waiting("ContainerCreating", "")
        there_at = self._pod.pull(image, base)
        if now < there_at:
            self.wake_at = there_at
            return False
        seconds = (now - self._pull_began) * self._speed
        self._pull_began = None
        message = f'Successfully pulled image "{image}" in {seconds:.0f}s on the sandbox\'s clock: it is on this machine'
        self._pod.event(self.view, "Normal", "Pulled", message)
        return True

    def _environment(self, image: StoredImage, variables: Mapping[str, str]) -> tuple[dict[str, str], Path]:
        """The variables of a new run, and its own folder: a new container has a new writable layer."""
        own = self._folder / "root"
        shutil.rmtree(own, ignore_errors=True)
        for name in ("home", "tmp", "run"):
            (own / name).mkdir(parents=True)
        merged = {"LANG": "C.UTF-8", **image.env, **variables}
        python_path = [*(str(path) for path in self._server.python_paths), merged.get("PYTHONPATH", "")]
        return {
            **merged,
            "PATH": search_path(image.rootfs, self._server.program_folders, merged.get("PATH")),
            "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
            "HOME": str(own / "home"),
            "TMPDIR": str(own / "tmp"),
            "FUNGIBILITY_RUN_DIR": str(own / "run"),
            **self._server.variables,
            **self._pod.sandbox_variables(),
        }, own

    def _not_started(self, error: OSError) -> None:
        message = "failed to create containerd task: failed to start container process: " + ": ".join(
            filter(None, (str(error.filename or ""), error.strerror))
        )
        now = timestamp()
        self._pod.event(self.view, "Warning", "Failed", f"Error: {message}")
        self.view.terminated = {
            "exitCode": 128,
            "reason": "StartError",
            "message": message,
            "startedAt": now,
            "finishedAt": now,
        }
        self.view.waiting = self.view.running = None
        self._ended_at = time.monotonic()
        self.wake_at = 0.0

    def _set_waiting(self, reason: str, message: str) -> None:
        if self.view.terminated:
            self.view.last_terminated, self.view.terminated = self.view.terminated, None
        self.view.running = None
        self.view.waiting = (reason, message)

    def _exited(self, process: ContainerProcess, code: int) -> None:
        if self._process is not process:
            return
        view = self.view
        for prober in self._probers:
            prober.stop()
        self._probers.clear()
        self._process = None
        self._ended_at = time.monotonic()
        self.wake_at = 0.0
        self.ending = False
        view.terminated = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": view.running,
            "finishedAt": timestamp(),
            "containerID": view.container_id,
        }
        view.running = view.waiting = None
        view.started = False
        view.ready = view.kind == "init" and code == 0

    # --- probes

    def _begin_probing(self, process: ContainerProcess) -> None:
        if self._process is not process:
            return
        if self._spec.get("startupProbe"):
            self._probe("Startup", process)
        else:
            self._on_started(process)

    def _on_started(self, process: ContainerProcess) -> None:
        self.view.started = True
        if self._spec.get("livenessProbe"):
            self._probe("Liveness", process)
        if self._spec.get("readinessProbe"):
            self._probe("Readiness", process)
        else:
            self.view.ready = True

    def _probe(self, kind: Kind, process: ContainerProcess) -> None:
        if self.ending and kind != "Readiness":
            return
        self._probers.append(
            Prober(
                kind,
                self._spec[f"{kind.lower()}Probe"],
                ProbeTarget(
                    pod_address=self._pod.address,
                    container=self._spec,
                    execute=lambda words, timeout: self._execute(process, words, timeout),
                ),
                elapsed=time.monotonic() - self._started_at,
                # Real vLLM starts in its own time.
                speed=self._speed if self._server.name == STAND_IN else 1.0,
                on_result=lambda kind, healthy: self._pod.post(lambda: self._probed(process, kind, healthy)),
                on_failure=lambda message: self._pod.post(lambda: self._probe_failed(process, message)),
            )
        )

    def _probe_failed(self, process: ContainerProcess, message: str) -> None:
        if self._process is process:
            self._pod.event(self.view, "Warning", "Unhealthy", message)

    def _probed(self, process: ContainerProcess, kind: Kind, healthy: bool) -> None:
        if self._process is not process:
            return
        if kind == "Readiness":
            self.view.ready = healthy
        elif healthy:
            if kind == "Startup":
                self._on_started(process)
        elif not self.ending:
            probe = self._spec[f"{kind.lower()}Probe"]
            grace = probe.get("terminationGracePeriodSeconds")
            after = "" if self.policy == "Never" else ", will be restarted"
            self.end(
                self._pod.grace_seconds if grace is None else float(grace),
                f"Container {self.view.name} failed {kind.lower()} probe{after}",
            )

    def _execute(self, process: ContainerProcess, words: list[str], timeout: float) -> tuple[int, str]:
        assert self._image is not None
        argv = in_image(self._image.rootfs, words)
        return run_in_container(argv, process=process, spawner=self._spawner, timeout=timeout)

    # --- ending

    def end(self, grace: float, message: str, *, hook: bool = True) -> None:
        """preStop hook, SIGTERM, and SIGKILL to all of it after `grace` seconds; a second call can only shorten that."""
        process = self._process
        if process is None:
            return
        at = time.monotonic() + grace
        if self.ending:
            self._deadline.at = min(self._deadline.at, at)
            return
        self.ending = True
        self._deadline = Deadline(at)
        self._pod.event(self.view, "Normal", "Killing", message)
        pre_stop = (self._spec.get("lifecycle") or {}).get("preStop") if hook else None
        self._in_thread("end", lambda: self._end(process, pre_stop, self._deadline))

    def kill(self) -> None:
        """At once, without hooks."""
        if self._process is not None:
            self._process.kill()

    def _end(self, process: ContainerProcess, pre_stop: Object | None, deadline: Deadline) -> None:
        try:
            if pre_stop and deadline.left > 0:
                self._pre_stop(process, pre_stop, deadline)
            if deadline.left > 0:
                assert self._image is not None
                wanted = (self._spec.get("lifecycle") or {}).get("stopSignal")
                process.signal(signal_number(wanted or self._image.config.stop_signal or "SIGTERM"))
        finally:
            # In short steps, as the deadline may move.
            while not process.exited.wait(max(0.0, min(deadline.left, 0.5))):
                if deadline.left <= 0:
                    process.kill()
                    process.exited.wait()

    def _pre_stop(self, process: ContainerProcess, hook: Object, deadline: Deadline) -> None:
        over = threading.Event()

        def run() -> None:
            try:
                self._run_hook(process, hook, deadline)
            except (ProbeError, ProbeFailure, OSError) as error:
                failure = f"PreStopHook failed: {error}"
                self._pod.post(lambda: self._pod.event(self.view, "Warning", "FailedPreStopHook", failure))
            finally:
                over.set()

        # Beside this thread, as the deadline may move nearer; a command that still runs then ends with the container.
        self._in_thread("preStop", run)
        while deadline.left > 0 and not over.wait(min(deadline.left, 0.5)):
            pass
        deadline.at = max(deadline.at, time.monotonic() + _LEAST_GRACE_SECONDS)

    def _post_start(self, process: ContainerProcess, hook: Object) -> None:
        try:
            self._run_hook(process, hook, Deadline(time.monotonic() + _HOOK_SECONDS))
        except (ProbeError, ProbeFailure, OSError) as error:
            failure = f"PostStartHook failed: {error}"

            def fail() -> None:
                if self._process is process:
                    self._pod.event(self.view, "Warning", "FailedPostStartHook", failure)
                    self.end(self._pod.grace_seconds, "FailedPostStartHook")

            self._pod.post(fail)
        else:
            self._pod.post(lambda: self._begin_probing(process))

    def _run_hook(self, process: ContainerProcess, hook: Object, deadline: Deadline) -> None:
        """Raises `ProbeFailure`, `ProbeError`, `OSError` (of which `TimeoutError` is one)."""
        if action := hook.get("exec"):
            code, output = self._execute(process, list(action.get("command") or []), max(0.1, deadline.left))
            if code != 0:
                raise ProbeFailure(f"command exited with {code}: {output.strip()}")
        elif action := hook.get("httpGet"):
            timeout = max(0.1, deadline.left)
            http_get(action, address=self._pod.address, container=self._spec, timeout=timeout)
        elif action := hook.get("sleep"):
            until = time.monotonic() + float(action["seconds"])
            while (left := min(until - time.monotonic(), deadline.left)) > 0:
                if process.exited.wait(min(left, 0.5)):
                    return

    # --- helpers

    def _log(self, run: int) -> Path:
        return self._folder / f"{run}.log"

    def _in_thread(self, what: str, action: Callable[[], None]) -> None:
        threading.Thread(target=action, name=f"{what} {self.view.name}", daemon=True).start()


def signal_number(text: str) -> int:
    """Of `SIGTERM`, `TERM` or `15`: an image's STOPSIGNAL has it any way."""
    return int(text) if text.isdigit() else int(signal.Signals["SIG" + text.removeprefix("SIG")])
