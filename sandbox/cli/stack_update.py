"""What `python -m sandbox up` does with the stack: its settings, `pulumi up`, and the repair after one that was killed."""

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from urllib3.exceptions import HTTPError

from components.settings.secret_reference import parse_reference
from components.settings.stack_files import PROJECT_NAME, StackFileError, configuration, is_secret, known_stacks
from components.settings.stack_files import values as engine_values
from ops.pulumi_command import PulumiError
from ops.recovery.monitoring import Monitoring
from ops.recovery.pulumi_stack import PulumiStack
from ops.recovery.recover import Refused, recover
from sandbox.cli.stack import GCP_PROJECT, STACK, SandboxStack, StackError
from sandbox.google.secret_manager import SecretStore
from sandbox.host import ca_bundle, disk_space, supervised
from sandbox.host.addresses import LISTEN_ADDRESSES
from sandbox.host.paths import PROJECT_DIR
from sandbox.host.ports import free_ports, listener, taken_by
from sandbox.host.state_files import unusable

#: How many resources `pulumi up` makes at once. Pulumi's default is four for each processor: with as many pools that wait for nodes
#: or for stock, the ComputeClass and the Deployment would wait behind them. The resources need no processor time on this machine.
PARALLEL = "--parallel=64"

#: How long the load balancer may try to get a port that another program has.
_PORT_PATIENCE_SECONDS = 10.0


def model_of(environment_name: str) -> str:
    """The model of an environment. Raises `StackError`."""
    return str(_engine_values(environment_name)[f"{PROJECT_NAME}:model"])


def scales_on_metrics(environment_name: str) -> bool:
    """Whether an environment has a HorizontalPodAutoscaler. Raises `StackError`."""
    return str(_engine_values(environment_name)[f"{PROJECT_NAME}:maxReplicas"]) != "0"


def has_gateway(environment_name: str) -> bool:
    """Whether an environment has a gateway. Raises `StackError`."""
    return str(_engine_values(environment_name)[f"{PROJECT_NAME}:gateway"]) != "{}"


class StackUpdate(SandboxStack):
    """Changes the stack for `up`."""

    def prepare(self, environment_name: str, port: int | None) -> None:
        """Writes the stack's settings from Pulumi.<environment_name>.yaml and makes the stack; keeps a port once chosen."""
        source = _settings_file(environment_name)
        existing = self._existing_config()
        existing_values = existing.get("config", {})
        port_key = f"{PROJECT_NAME}:servicePort"
        values = _settings(source)
        # A secret that a person set on this stack (`pulumi config set --secret`) is in no other file.
        values |= {key: value for key, value in existing_values.items() if is_secret(value)}
        values["gcp:project"] = GCP_PROJECT
        known_port = existing_values.get(port_key)
        if port or known_port:
            self._check_port(port or int(known_port), asked_for=port is not None)
        values[port_key] = port or known_port or free_ports(1, LISTEN_ADDRESSES[0])[0]
        document = {**{key: value for key, value in existing.items() if key != "config"}, "config": values}
        self._paths.stack_config.parent.mkdir(parents=True, exist_ok=True)
        self._paths.stack_config.write_text(
            f"# Written by `python -m sandbox up` from {source.name}; do not edit.\n" + yaml.safe_dump(document)
        )
        if values.get(f"{PROJECT_NAME}:controlPlaneEndpoint") == "dns":
            # Before the cluster, whose certificate is added to it: a plugin that the engine starts has to know the file.
            ca_bundle.make_bundle(self._paths.trust, os.environ)
        self._make_secrets(values)
        for folder in (self._paths.pulumi_home, self._paths.pulumi_backend):
            folder.mkdir(parents=True, exist_ok=True)
        if not self._paths.passphrase.exists():
            self._paths.passphrase.touch(mode=0o600)
            self._paths.passphrase.write_text(secrets.token_urlsafe(24))
        self._make_stack()

    def up(self, say: Callable[[str], None], *, after_crash: bool = False) -> int:
        """Runs `pulumi up` with its output on the terminal and returns its exit status; it continues after a failed resource.

        Raises `StackError` if it was given up, and `KeyboardInterrupt` after an interrupted update has ended in order.
        """
        command = ["up", "--stack", STACK, PARALLEL, "--yes", "--non-interactive", "--suppress-outputs"]
        if after_crash:
            # A deletion or change may have completed although the engine did not hear of it.
            command.append("--refresh")
        started = datetime.now(UTC)
        full = ""

        def trouble() -> str | None:
            # Remembered, since a step that fails on a full disk removes what it had written, and then there is room again.
            nonlocal full
            full = full or disk_space.full(self._paths)
            return self._trouble(started)

        try:
            status = supervised.run(
                # A pool that is out of stock fails early on this fast clock.
                [str(self._paths.tools / "pulumi"), *command, "--continue-on-error"],
                cwd=PROJECT_DIR,
                environment=self._environment(),
                trouble=trouble,
                say=say,
            )
        except supervised.Troubled as troubled:
            raise StackError(f"`pulumi up --stack {STACK}` was ended: {troubled}") from troubled
        if status != 0 and (full := full or disk_space.full(self._paths)):
            raise StackError(f"`pulumi up --stack {STACK}` failed (exit status {status}). {full}")
        return status

    def recover_if_killed(self, say: Callable[[str], None]) -> str:
        """Recovers the stack if its engine was killed, and returns a report; empty if there was nothing to do.

        Raises `StackError`, for instance while an update runs.
        """
        if not self._was_killed():
            return ""
        environment = {**os.environ, **self.variables()}
        try:
            outcome = recover(PulumiStack(STACK, environment, PROJECT_DIR), listing=Monitoring(environment).ids, say=say)
        except (Refused, PulumiError) as error:
            raise StackError(str(error)) from error
        return outcome.text(STACK)

    def _was_killed(self) -> bool:
        """Whether the backend's folder has the remains of a killed engine."""
        bookkeeping = self._paths.pulumi_backend / ".pulumi"
        if any(each.suffix in (".json", ".tmp") for each in (bookkeeping / "locks").rglob("*")):
            return True
        return bool(self._latest().get("pending_operations"))

    def incomplete(self) -> list[str]:
        """Names of the resources that exist but were not completed; the next update continues with them."""
        resources = self._latest().get("resources") or []
        return [each["urn"].rpartition("::")[2] for each in resources if each.get("initErrors")]

    def _trouble(self, since: datetime) -> str | None:
        """Why there is no point in continuing the update: Pulumi waits for something that will not happen. None otherwise."""
        if not self._record.alive:
            return "the sandbox's daemon is gone"
        if not self._paths.own_kubeconfig.exists():
            return None
        try:
            core = client.CoreV1Api(config.new_client_from_config(str(self._paths.own_kubeconfig)))
            events = core.list_event_for_all_namespaces(field_selector="reason=PortInUse", _request_timeout=5).items
            for event in events:
                seen, named = event.last_timestamp, event.involved_object
                if seen < since or (datetime.now(UTC) - seen).total_seconds() < _PORT_PATIENCE_SECONDS:
                    continue
                service = core.read_namespaced_service(named.name, named.namespace, _request_timeout=5)
                if not service.status.load_balancer.ingress:
                    return f"{event.message}, or run `python -m sandbox up --port PORT`"
        except (client.ApiException, config.ConfigException, HTTPError, OSError):
            # The API server is not up yet or no longer up, which Pulumi reports better.
            return None
        return None

    def _check_port(self, port: int, *, asked_for: bool) -> None:
        """Refuses a taken port at once; the load balancer would wait long for it, and `pulumi up` for the load balancer."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LISTEN_ADDRESSES[0], port))
                probe.listen()
            except OSError as error:
                if (found := listener(port)) is not None and found[0] == self._record.pid:
                    # This stack's own load balancer has it.
                    return
                what = f"--port {port}" if asked_for else f"port {port} of the Service, which an earlier `up` chose"
                fix = "leave it out for a free one, or name another" if asked_for else "end that, or name another by --port"
                raise StackError(
                    f"{what}: cannot be listened on at {LISTEN_ADDRESSES[0]} ({error.strerror}; taken {taken_by(port)}); {fix}"
                ) from error

    def _make_secrets(self, values: Mapping[str, Any]) -> None:
        """Makes the secrets that the settings name, as a person does once with gcloud."""
        store = SecretStore(self._paths.secret_manager)
        for key in ("apiKeySecret", "huggingFaceTokenSecret"):
            if reference := parse_reference(str(values.get(f"{PROJECT_NAME}:{key}") or "")):
                store.ensure(reference.project or GCP_PROJECT, reference.secret)

    def _existing_config(self) -> dict[str, Any]:
        if not self._paths.stack_config.exists():
            return {}
        try:
            document = yaml.safe_load(self._paths.stack_config.read_text()) or {}
        except yaml.YAMLError as error:
            raise unusable(self._paths.stack_config, str(error).splitlines()[0]) from error
        if not isinstance(document, dict) or not isinstance(document.get("config", {}), dict):
            raise unusable(self._paths.stack_config, "it has no settings")
        return document

    def _make_stack(self) -> None:
        if self._existing_config().get("encryptionsalt"):
            return
        # `stack init` writes the salt beside Pulumi.yaml whatever the config file is; it belongs into the sandbox's own.
        stray = PROJECT_DIR / f"Pulumi.{STACK}.yaml"
        before = stray.read_text() if stray.exists() else None
        result = self.pulumi("stack", "init", STACK, "--secrets-provider", "passphrase", "--no-select", capture=True)
        if result.returncode != 0:
            raise StackError(f"`pulumi stack init {STACK}` failed:\n{result.stderr.strip()}")
        salt = (yaml.safe_load(stray.read_text()) or {}).get("encryptionsalt") if stray.exists() else None
        _restore(stray, before)
        if salt:
            config = self._existing_config()
            config["encryptionsalt"] = salt
            self._paths.stack_config.write_text(yaml.safe_dump(config))


def _settings_file(environment_name: str) -> Path:
    source = PROJECT_DIR / f"Pulumi.{environment_name}.yaml"
    if not source.exists():
        known = ", ".join(known_stacks(PROJECT_DIR))
        raise StackError(f"--environment {environment_name}: there is no {source.name}. Known: {known}")
    return source


def _engine_values(environment_name: str) -> dict[str, Any]:
    """Of an environment's settings what the engine hands to the program, defaults included."""
    try:
        return engine_values(environment_name, file=_settings_file(environment_name))
    except StackFileError as error:
        raise StackError(str(error)) from error


def _settings(source: Path) -> dict[str, Any]:
    try:
        return configuration(source)
    except StackFileError as error:
        raise StackError(str(error)) from error


def _restore(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(text)
