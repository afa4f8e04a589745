"""Where the sandbox keeps things: one git-ignored folder, `.sandbox`, of a cache and of state.

The cache (tools, built once) survives `down`; the state (control plane data, Pulumi backend, logs) does not.
Nothing is ever written outside these two. Both can be moved: `SANDBOX_CACHE` (a CI machine keeps it between
clones) and `SANDBOX_STATE` (tests run beside a sandbox that a person uses).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[2]

#: Every process of a sandbox carries this variable, set to its state folder: what `down` ends, and how strays are found.
MARK = "FUNGIBILITY_SANDBOX"


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The files and folders of one sandbox; none of them is created by asking for its path."""

    cache: Path
    state: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Paths:
        home = PROJECT_DIR / ".sandbox"
        return cls(
            cache=Path(environment.get("SANDBOX_CACHE") or home / "cache").resolve(),
            state=Path(environment.get("SANDBOX_STATE") or home / "state").resolve(),
        )

    @property
    def tools(self) -> Path:
        return self.cache / "bin"

    @property
    def daemon_record(self) -> Path:
        return self.state / "daemon.json"

    @property
    def daemon_log(self) -> Path:
        return self.state / "daemon.log"

    @property
    def kubeconfig(self) -> Path:
        """Administrator's kubeconfig of the sandbox's cluster; there once a stack has made the cluster."""
        return self.state / "kubeconfig"

    @property
    def own_kubeconfig(self) -> Path:
        """The same past `kubernetes_front`, for the sandbox's own commands, which no faulty answer is meant for."""
        return self.state / "own-kubeconfig"

    @property
    def token(self) -> Path:
        """The bearer token that the API servers know; mode 0600."""
        return self.state / "token"

    @property
    def restart_request(self) -> Path:
        """There while the daemon is asked to restart the API servers; its text is the seconds that they stay away."""
        return self.state / "restart-api-server"

    @property
    def pulumi_home(self) -> Path:
        return self.state / "pulumi-home"

    @property
    def pulumi_backend(self) -> Path:
        return self.state / "pulumi-backend"

    @property
    def passphrase(self) -> Path:
        """The passphrase of the local Pulumi backend's secrets; random for each sandbox, mode 0600."""
        return self.state / "passphrase"

    @property
    def stack_config(self) -> Path:
        """Pulumi.sandbox.yaml: an environment's settings plus what is true of this machine alone."""
        return self.state / "Pulumi.sandbox.yaml"

    @property
    def secret_manager(self) -> Path:
        """What `sandbox.google.secret_manager` keeps; its files have mode 0600."""
        return self.state / "secret-manager"

    @property
    def stock(self) -> Path:
        """Node pools that are out of stock (`sandbox.google.stock`)."""
        return self.state / "stock.json"

    @property
    def trust(self) -> Path:
        """Certificates that the sandbox's processes trust; there once a stack reaches its cluster by the DNS endpoint."""
        return self.state / "trust.pem"
