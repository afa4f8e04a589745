"""One container of a pod over all its runs: starting it, probing it, ending it, starting it again.

Everything here happens in the pod's worker thread, except what takes time (the preStop hook, waiting for the end), which
has threads of its own and comes back to the worker through `Pod.post`. Left out: postStart hooks, and preStop hooks that
send an HTTP request.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sandbox.images.image_store import StoredImage
from sandbox.node_agent.backoff import BackOff
from sandbox.node_agent.environment import ContainerConfigError, command_line
from sandbox.node_agent.images import in_image, search_path, working_directory
from sandbox.node_agent.pod import Pod
from sandbox.node_agent.probes import Kind, Prober, ProbeTarget
from sandbox.node_agent.process import ContainerProcess, run_in_container
from sandbox.node_agent.status import ContainerView
from sandbox.node_agent.timestamps import timestamp
from sandbox.servers.model_server import STAND_IN

Object = dict[str, Any]

#: Between two looks for a Secret or a ConfigMap that is missing.
_CONFIG_RETRY_SECONDS = 2.0

#: What the kubelet leaves a container at least after its preStop hook.
_LEAST_GRACE_SECONDS = 2.0


@dataclass
class Deadline:
    """When a container is killed (monotonic seconds); may move while it is waited for."""

    at: float

    @property
    def left(self) -> float:
        return self.at - time.monotonic()


class Container:
    """It has a folder of its own below the pod's: logs of its runs, and what stands for its writable layer."""

    def __init__(self, spec: Object, pod: Pod) -> None:
        self.view = ContainerView(name=spec["name"], image=spec["image"])
        self.ending = False
        #: When `start` is to be called again (monotonic); infinite when something else has to happen first.
        self.wake_at = 0.0
        self._spec = spec
        self._pod = pod
        self._folder = pod.folder / self.view.name
        self._services = pod.services
        self._image: StoredImage | None = None
        self._process: ContainerProcess | None = None
        self._probers: list[Prober] = []
        self._restart_back_off = BackOff(pod.services.speed)
        self._pull_back_off = BackOff(pod.services.speed)
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
    def done(self) -> bool:
        """Has ended, and is not started again."""
        ended = self.view.terminated
        if ended is None:
            return False
        return self._pod.restart_policy in (("OnFailure", "Never") if ended["exitCode"] == 0 else ("Never",))

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
                self._event("Warning", "BackOff", shown)
            self._set_waiting("CrashLoopBackOff", message)
            self.wake_at = again
            return
        if now < self.wake_at:
            return
        try:
            image = self._services.images.resolve(view.image)
        except ValueError as error:
            self._refused("InvalidImageName", "InspectFailed", f'Failed to parse image name "{view.image}": {error}', now)
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
            self._refused("CreateContainerConfigError", "Failed", str(error), now)
            return
        self._launch(image, variables, now)

    def _refused(self, reason: str, event: str, message: str, now: float) -> None:
        """It cannot be started as it is; what it lacks may come, and a pod's image can be changed."""
        if self.view.waiting is None or self.view.waiting[0] != reason:
            self._event("Warning", event, f"Error: {message}")
        self._set_waiting(reason, message)
        self.wake_at = now + _CONFIG_RETRY_SECONDS

    @property
    def _not_found(self) -> str:
        image = self.view.image
        return (
            f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found '
            "(the sandbox has the images that the stack builds, and no others)"
        )

    def _pull_failed(self, now: float) -> None:
        image = self.view.image
        self._event("Normal", "Pulling", f'Pulling image "{image}"')
        self._event("Warning", "Failed", f'Failed to pull image "{image}": {self._not_found}')
        self._set_waiting("ErrImagePull", self._not_found)
        self._pull_back_off.tried(now)
        self._pull_failed_at = now
        # So that the first of the two states is seen as well.
        self.wake_at = now + min(1.0, (self._pull_back_off.ready_at(now) - now) / 2)

    def _launch(self, image: StoredImage, variables: Mapping[str, str], now: float) -> None:
        view, run = self.view, self._runs
        environment, own = self._environment(image, variables)
        if self._ended_at is not None:
            self._restart_back_off.tried(now)
            view.restart_count += 1
        self._log(run - 2).unlink(missing_ok=True)
        self._image = image
        self._runs += 1
        view.image_id = f"{view.image.split('@')[0]}@{image.digest}"
        if view.terminated:
            view.last_terminated, view.terminated = view.terminated, None
        try:
            argv = command_line(self._spec, entrypoint=image.config.entrypoint, cmd=image.config.cmd, variables=variables)
            if not argv:
                raise FileNotFoundError(2, "no command specified")
            process = ContainerProcess(
                in_image(image.rootfs, argv),
                spawner=self._services.spawner,
                environment=environment,
                folder=working_directory(image.rootfs, self._spec.get("workingDir") or image.config.workdir, own),
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
        self._event("Normal", "Created", f"Container created: {view.name}")
        self._event("Normal", "Started", "Container started")
        process.follow(lambda code: self._pod.post(lambda: self._exited(process, code)))
        if self._spec.get("startupProbe"):
            self._probe("Startup", process)
        else:
            self._on_started(process)

    def _pulled(self, base: str, now: float) -> bool:
        """Whether the node has the image; if not, it is asked for, and `wake_at` says when it will be there."""
        image = self.view.image
        if self._pull_began is None:
            if self._pod.node.has_image(image):
                self._event("Normal", "Pulled", f'Container image "{image}" already present on machine')
                return True
            self._pull_began = now
            self._event("Normal", "Pulling", f'Pulling image "{image}"')
            self._set_waiting("ContainerCreating", "")
        there_at = self._pod.pull(image, base)
        if now < there_at:
            self.wake_at = there_at
            return False
        seconds = (now - self._pull_began) * self._services.speed
        self._pull_began = None
        message = f'Successfully pulled image "{image}" in {seconds:.0f}s on the sandbox\'s clock: it is on this machine'
        self._event("Normal", "Pulled", message)
        return True

    def _environment(self, image: StoredImage, variables: Mapping[str, str]) -> tuple[dict[str, str], Path]:
        """The variables of a new run, and its own folder: a new container has a new writable layer."""
        own = self._folder / "root"
        shutil.rmtree(own, ignore_errors=True)
        for name in ("home", "tmp", "run"):
            (own / name).mkdir(parents=True)
        merged = {"LANG": "C.UTF-8", **image.config.env, **variables}
        python_path = [*(str(path) for path in self._services.server.python_paths), merged.get("PYTHONPATH", "")]
        return {
            **merged,
            "PATH": search_path(image.rootfs, self._services.server.program_folders, merged.get("PATH")),
            "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
            "HOME": str(own / "home"),
            "TMPDIR": str(own / "tmp"),
            "FUNGIBILITY_RUN_DIR": str(own / "run"),
            **self._services.server.variables,
            **self._pod.sandbox_variables(),
            **self._pod.service_account(self._spec, own / "run" / "service-account"),
        }, own

    def _not_started(self, error: OSError) -> None:
        message = "failed to create containerd task: failed to start container process: " + ": ".join(
            filter(None, (str(error.filename or ""), error.strerror))
        )
        now = timestamp()
        self._event("Warning", "Failed", f"Error: {message}")
        self.view.terminated = {"exitCode": 128, "reason": "StartError", "message": message, "startedAt": now, "finishedAt": now}
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
        view.ready = False

    # --- probes

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
                speed=self._services.speed if self._services.server.name == STAND_IN else 1.0,
                on_result=lambda kind, healthy: self._pod.post(lambda: self._probed(process, kind, healthy)),
                on_failure=lambda message: self._pod.post(lambda: self._probe_failed(process, message)),
            )
        )

    def _probe_failed(self, process: ContainerProcess, message: str) -> None:
        if self._process is process:
            self._event("Warning", "Unhealthy", message)

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
            after = "" if self._pod.restart_policy == "Never" else ", will be restarted"
            self.end(
                self._pod.grace_seconds if grace is None else float(grace), f"Container {self.view.name} failed {kind.lower()} probe{after}"
            )

    def _execute(self, process: ContainerProcess, words: list[str], timeout: float) -> tuple[int, str]:
        assert self._image is not None
        argv = in_image(self._image.rootfs, words)
        return run_in_container(argv, process=process, spawner=self._services.spawner, timeout=timeout)

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
        self._event("Normal", "Killing", message)
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
                process.signal(signal_number(self._image.config.stop_signal or "SIGTERM"))
        finally:
            # In short steps, as the deadline may move.
            while not process.exited.wait(max(0.0, min(deadline.left, 0.5))):
                if deadline.left <= 0:
                    process.kill()
                    process.exited.wait()

    def _pre_stop(self, process: ContainerProcess, hook: Object, deadline: Deadline) -> None:
        over = threading.Event()

        def run() -> None:
            failure = self._run_hook(process, hook, deadline)
            if failure:
                self._pod.post(lambda: self._event("Warning", "FailedPreStopHook", f"PreStopHook failed: {failure}"))
            over.set()

        # Beside this thread, as the deadline may move nearer; a command that still runs then ends with the container.
        self._in_thread("preStop", run)
        while deadline.left > 0 and not over.wait(min(deadline.left, 0.5)):
            pass
        deadline.at = max(deadline.at, time.monotonic() + _LEAST_GRACE_SECONDS)

    def _run_hook(self, process: ContainerProcess, hook: Object, deadline: Deadline) -> str:
        """What failed, in words; empty when nothing did."""
        if action := hook.get("exec"):
            try:
                code, output = self._execute(process, list(action.get("command") or []), max(0.1, deadline.left))
            except OSError as error:
                return str(error)
            return f"command exited with {code}: {output.strip()}" if code else ""
        if action := hook.get("sleep"):
            process.exited.wait(max(0.0, min(float(action["seconds"]), deadline.left)))
            return ""
        return f"the sandbox runs the hooks exec and sleep, not {', '.join(hook)}"

    # --- helpers

    def _event(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        self._pod.event(self.view.name, kind, reason, message)

    def _log(self, run: int) -> Path:
        return self._folder / f"{run}.log"

    def _in_thread(self, what: str, action: Callable[[], None]) -> None:
        threading.Thread(target=action, name=f"{what} {self.view.name}", daemon=True).start()


def signal_number(text: str) -> int:
    """The number of `SIGTERM`, `TERM` or `15`, the forms of an image's STOPSIGNAL."""
    return int(text) if text.isdigit() else int(signal.Signals["SIG" + text.removeprefix("SIG")])
