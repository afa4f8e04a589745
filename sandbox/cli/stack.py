"""The sandbox's stack: an environment's settings, the local Pulumi backend, and the `pulumi` command line run on them.

The program is the project's own, unchanged. Only the project's name and the Service port, which must not need root, differ
from the environment's file.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from components.settings.stack_files import PROJECT_NAME
from sandbox.host import ca_bundle
from sandbox.host.daemon_record import DaemonRecord, sandbox_environment
from sandbox.host.paths import MARK, PROJECT_DIR, Paths

STACK = "sandbox"
GCP_PROJECT = "sandbox-project"


class StackError(Exception):
    """A `pulumi` command failed, or there is no such environment."""


class SandboxStack:
    """Runs `pulumi` as a person would, with the environment that `python -m sandbox env` prints."""

    def __init__(self, paths: Paths, record: DaemonRecord, machine: Mapping[str, str] = os.environ) -> None:
        """`machine` is the environment that the commands' own variables extend."""
        self._paths = paths
        self._record = record
        self._machine = machine

    def variables(self) -> dict[str, str]:
        """Variables that make `pulumi` and `kubectl` work on the sandbox, including PATH; none is secret."""
        environment = sandbox_environment(self._paths, self._machine)
        trusted = {ca_bundle.VARIABLE: str(self._paths.trust)} if self._paths.trust.exists() else {}
        return {
            **trusted,
            # Without the mark: `down` ends every process that has it, and must not end a person's shell.
            "SANDBOX_STATE": str(self._paths.state),
            "PATH": environment["PATH"],
            "KUBECONFIG": str(self._paths.kubeconfig),
            # kubectl's cache of the API server's resources, which is otherwise below the home folder.
            "KUBECACHEDIR": str(self._paths.state / "kube-cache"),
            "PULUMI_HOME": str(self._paths.pulumi_home),
            "PULUMI_BACKEND_URL": f"file://{self._paths.pulumi_backend}",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self._paths.passphrase),
            "PULUMI_DEBUG_PROVIDERS": self._record.debug_providers,
            # Where `python -m ops recovery` looks for resources that Google numbers; the real provider reads it too.
            "GOOGLE_MONITORING_CUSTOM_ENDPOINT": self._record.monitoring_endpoint,
            "PULUMI_OPTION_CONFIG_FILE": str(self._paths.stack_config),
            "PULUMI_STACK": STACK,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            # Otherwise every command looks on the internet for the real plugins: that takes seconds without a network, and with one
            # it downloads hundreds of megabytes that nothing uses.
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    def pulumi(self, *arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
        """Runs the real command line in the project's folder; its output goes to the terminal unless captured."""
        return subprocess.run(
            [str(self._paths.tools / "pulumi"), *arguments],
            cwd=PROJECT_DIR,
            env=self._environment(),
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=capture,
        )

    def _latest(self) -> dict[str, Any]:
        """The stack as Pulumi last wrote it; empty before the first `up`."""
        try:
            text = (self._paths.pulumi_backend / ".pulumi" / "stacks" / PROJECT_NAME / f"{STACK}.json").read_text()
        except FileNotFoundError:
            return {}
        return json.loads(text)["checkpoint"].get("latest") or {}

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs without the secret ones; empty before the first `up`.

        They are read from the backend's file, since starting pulumi would take a second of every command.
        """
        resources = self._latest().get("resources") or []
        outputs = next((each.get("outputs") or {} for each in resources if each["type"] == "pulumi:pulumi:Stack"), {})
        return {name: value for name, value in outputs.items() if not (isinstance(value, dict) and "ciphertext" in value)}

    def service_outputs(self) -> dict[str, Any]:
        """The outputs of a stack that has a service. Raises `StackError`."""
        outputs = self.outputs()
        if not outputs.get("service_url"):
            raise StackError("the stack has no service yet; run `make up` (or `python -m sandbox up`)")
        return outputs

    def _environment(self) -> dict[str, str]:
        """The environment of the commands that the sandbox runs itself, which `down` ends with everything else."""
        return {**os.environ, **self.variables(), MARK: str(self._paths.state)}
