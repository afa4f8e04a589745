"""A container registry on this machine, which stands for Artifact Registry: Debian's `docker-registry`, on loopback.

It starts with the first push and ends with the daemon; its data are part of the sandbox's state. Left out: TLS and
authentication (Docker takes a registry on loopback without either), and its port is not the same after a restart.
"""

import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import requests
import yaml

from sandbox.host.ports import free_ports
from sandbox.host.processes import Spawner
from sandbox.images.oci_image import MANIFEST_TYPES, Fetch, digest_of

PROGRAM = "docker-registry"

_START_SECONDS = 20.0
_READ_SECONDS = 60.0


class RegistryError(Exception):
    """The registry does not start, or has not what was asked for."""


class LocalRegistry:
    """`root`: its settings, data and log."""

    def __init__(self, root: Path, spawner: Spawner, environment: Mapping[str, str]) -> None:
        self._root = root
        self._spawner = spawner
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    @property
    def available(self) -> bool:
        """Whether this machine has the program."""
        return shutil.which(PROGRAM, path=self._environment.get("PATH")) is not None

    def address(self) -> str:
        """`127.0.0.1:PORT`, where it answers; starts it if need be. Raises `RegistryError`."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            return self._address

    def manifest_digest(self, path: str, tag: str) -> str:
        """The registry's digest of what a tag names. Raises `RegistryError`."""
        response = self._get(f"{path}/manifests/{tag}")
        digest = digest_of(response.content)
        said = response.headers.get("Docker-Content-Digest")
        if said != digest:
            raise RegistryError(f"the registry calls {path}:{tag} {said}, and its content has the digest {digest}")
        return digest

    def reader(self, path: str) -> Fetch:
        """Reads manifests and blobs of one repository by digest."""

        def fetch(digest: str) -> bytes:
            try:
                return self._get(f"{path}/blobs/{digest}").content
            except RegistryError:
                # To the API, manifests are not blobs.
                return self._get(f"{path}/manifests/{digest}").content

        return fetch

    def _get(self, path: str) -> requests.Response:
        url = f"http://{self.address()}/v2/{path}"
        try:
            with requests.Session() as session:
                # A proxy of the environment is not for loopback.
                session.trust_env = False
                response = session.get(url, headers={"Accept": ", ".join(MANIFEST_TYPES)}, timeout=_READ_SECONDS)
        except requests.RequestException as error:
            raise RegistryError(f"the registry does not answer {url}: {error}") from error
        if not response.ok:
            raise RegistryError(f"the registry answers {response.status_code} to {url}: {response.text[:300]}")
        return response

    def _start(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{free_ports(1)[0]}"
        settings = self._root / "config.yml"
        settings.write_text(
            yaml.safe_dump(
                {
                    "version": 0.1,
                    "log": {"level": "warn", "accesslog": {"disabled": True}},
                    "storage": {"filesystem": {"rootdirectory": str(self._root / "data")}},
                    "http": {"addr": address, "relativeurls": True},
                }
            )
        )
        with (self._root / "log").open("ab") as log:
            self._process = self._spawner.spawn(
                [PROGRAM, "serve", str(settings)], env=self._environment, cwd=self._root, stdout=log, stderr=log
            )
        self._address = address
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if requests.get(f"http://{address}/v2/", timeout=2, proxies={"http": ""}).ok:
                    return
            except requests.RequestException:
                time.sleep(0.05)
        end = (self._root / "log").read_text(errors="replace")[-500:]
        raise RegistryError(f"{PROGRAM} did not start on {address}; the end of {self._root / 'log'}:\n{end}")
