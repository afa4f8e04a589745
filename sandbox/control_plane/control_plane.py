"""One cluster's control plane on this machine: etcd, the API server, the scheduler and the controllers.

These are the real programs. Left out: kubelets (`node_agent`), Google's side of a cluster (`cloud`), admission that GKE
has and the sandbox does not need, the controllers of volumes and certificates. The flags are what is proven to run without root and within
about 500 MB.
"""

import secrets
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
import yaml
from kubernetes import client, config, utils

from sandbox.control_plane.kubernetes_front import KubernetesFront
from sandbox.google.access_tokens import AccessTokens
from sandbox.google.faults import FaultStore
from sandbox.google.latencies import Clock
from sandbox.host.certificates import FRONT_PROXY_NAME, Certificates, make_certificates, make_front_proxy_certificates
from sandbox.host.egress import EgressProxy
from sandbox.host.ports import free_ports, is_free, taken_by
from sandbox.host.processes import Spawner, end
from sandbox.host.state_files import read_object, unusable, write_object, write_text
from sandbox.toolchain.tools import GATEWAY_API_CRDS

MANIFESTS_DIR = Path(__file__).resolve().parent / "manifests"

#: The name that node objects give for reaching their kubelet; every node's is the node agent on loopback.
KUBELET_ADDRESS = "localhost"

_READY_SECONDS = 60.0

#: Half a second apart at most: somewhat longer than an API server takes to come back.
_CONNECT_TRIES = 60

#: What an API server answers that has too much to do, as on a machine with several sandboxes.
_BUSY = {409, 429, 500, 503, 504}

_PORTS_FILE = "ports.json"

#: How often other ports are tried for a new cluster whose ports were taken after they had been chosen.
_PORT_TRIES = 3

#: kube-controller-manager's defaults, which run on the sandbox's clock: how often a HorizontalPodAutoscaler is looked at,
#: and for how long one that says nothing of it keeps what was wanted before. Those that an object names are real seconds.
#: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
_HPA_SYNC_SECONDS = 15.0
_HPA_STABILIZATION_SECONDS = 300.0
_HPA_READINESS_DELAY_SECONDS = 30.0


#: Controllers that have nothing to do here, since nodes mount no volume and have no certificates, and one that checks admission policies'
#: types; they and what they watch take 13 MB.
_NO_CONTROLLERS = (
    *("persistentvolume-binder", "persistentvolume-expander", "persistentvolume-attach-detach", "persistentvolume-protection"),
    *("persistentvolumeclaim-protection", "ephemeral-volume", "volumeattributesclass-protection", "resourceclaim", "node-ipam"),
    *("certificatesigningrequest-signing", "certificatesigningrequest-approving", "certificatesigningrequest-cleaner"),
    *("validatingadmissionpolicy-status", "legacy-serviceaccount-token-cleaner", "kube-apiserver-serving-clustertrustbundle-publisher"),
)


class ControlPlaneError(Exception):
    """A control plane program did not come up, or ended; the message names it and its log."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Loopback TCP ports, kept for the life of a cluster so that its kubeconfig stays true over a restart."""

    api_server: int
    etcd: int
    etcd_peer: int
    #: Where clients from outside reach the API server.
    front: int


class ControlPlane:
    """Starts, watches and stops the programs of one cluster; its data survives `stop` until `erase`."""

    def __init__(
        self,
        *,
        state_dir: Path,
        tools: Path,
        token: str,
        environment: Mapping[str, str],
        spawner: Spawner,
        clock: Clock,
        access_tokens: AccessTokens,
        faults: FaultStore,
    ):
        self._dir = state_dir
        self._tools = tools
        self._token = token
        self._environment = dict(environment)
        self._spawner = spawner
        self._clock = clock
        self._egress = EgressProxy()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = self._load_ports()
        self.certificates: Certificates = make_certificates(
            state_dir / "certificates",
            names=("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
            addresses=("127.0.0.1", "10.96.0.1"),
        )
        self._front_proxy = make_front_proxy_certificates(state_dir / "certificates")
        self._access_tokens, self._faults = access_tokens, faults
        self._front = self._make_front()
        #: Programs that are down on request.
        self._away: set[str] = set()

    def _make_front(self) -> KubernetesFront:
        return KubernetesFront(
            port=self.ports.front,
            api_server=self.ports.api_server,
            certificate=self.certificates.server,
            key=self.certificates.server_key,
            authority=self.certificates.ca,
            administrator=self._token,
            tokens=self._access_tokens,
            faults=self._faults,
        )

    @property
    def endpoint(self) -> str:
        """`127.0.0.1:PORT`: of the API server itself, for the cluster's own programs."""
        return f"127.0.0.1:{self.ports.api_server}"

    @property
    def public_endpoint(self) -> str:
        """`127.0.0.1:PORT`: what GKE gives as a cluster's endpoint, with the port that a shared address needs."""
        return f"127.0.0.1:{self.ports.front}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, of the sandbox itself."""
        return self._dir / "kubeconfigs" / "admin"

    @property
    def public_kubeconfig(self) -> Path:
        """The administrator's, for a person: by the way that everybody takes from outside."""
        return self._dir / "kubeconfigs" / "public"

    def api_client(self) -> client.ApiClient:
        """A client of its own connection pool, as administrator."""
        configuration = client.Configuration()
        # The node agent's pods all use one client at a time; beyond its pool, connections are made and thrown away.
        configuration.connection_pool_maxsize = 64
        # An API server that restarts is away for a moment, which no part of the cluster may end by.
        configuration.retries = urllib3.Retry(
            total=None, connect=_CONNECT_TRIES, read=3, status=10, other=0, backoff_factor=0.05, backoff_max=0.5
        )
        return config.new_client_from_config(str(self.kubeconfig), client_configuration=configuration)

    def start(self) -> None:
        """Brings everything up and applies the manifests. Raises `ControlPlaneError`."""
        for tries_left in reversed(range(_PORT_TRIES)):
            try:
                self._check_ports()
                self._write_users()
                self._start_etcd()
                self._egress.start()
                self._start_api_server()
                self._wait_until_ready()
                break
            except ControlPlaneError:
                if not self._new or not tries_left or all(map(is_free, self._numbers())):
                    raise
                # Nobody knows the ports of a cluster that has never been up, so it can have others.
                self.stop()
                self._egress = EgressProxy()
                (self._dir / _PORTS_FILE).unlink()
                self.ports = self._load_ports()
                self._front = self._make_front()
        self._front.start()
        self._start_clients()
        self._apply_manifests()

    def _check_ports(self) -> None:
        for name, port in self.ports.__dict__.items():
            if not is_free(port):
                raise ControlPlaneError(
                    f"port {port} ({name.replace('_', ' ')}) is taken {taken_by(port)}, and the cluster keeps it, since kubeconfig and "
                    "the stack's state name it: end that program and run `python -m sandbox up` again, or start again with "
                    "`python -m sandbox down`"
                )

    def _numbers(self) -> list[int]:
        return list(self.ports.__dict__.values())

    def _write_users(self) -> None:
        users = {"admin": "system:masters", "system:kube-scheduler": "", "system:kube-controller-manager": ""}
        tokens = {user: self._token if user == "admin" else secrets.token_hex(16) for user in users}
        self._token_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._token_file, "".join(f'{tokens[user]},{user},{user},"{group}"\n' for user, group in users.items()), mode=0o600)
        for user in users:
            self._write_kubeconfig(self._kubeconfig_of(user), self.endpoint, tokens[user])
        self._write_kubeconfig(self.public_kubeconfig, self.public_endpoint, self._token)

    def ended(self) -> str | None:
        """The name of a program that has ended without a request, with its exit status and its log."""
        for name, process in list(self._processes.items()):
            if name not in self._away and (code := process.poll()) is not None:
                return f"{name} ended with status {code}; its log: {self._log(name)}"
        return None

    def restart_api_server(self, away_seconds: float) -> None:
        """Kills the API server, and starts it again so much later; returns when it is ready. Raises `ControlPlaneError`."""
        name = "kube-apiserver"
        self._away.add(name)
        try:
            self._processes[name].kill()
            self._processes[name].wait()
            time.sleep(away_seconds)
            self._start_api_server()
        finally:
            self._away.discard(name)
        self._wait_until_ready()

    def stop(self) -> None:
        """Ends the programs, clients first."""
        self._front.stop()
        for name in reversed(list(self._processes)):
            process = self._processes.pop(name)
            if name == "kube-apiserver":
                # It holds nothing, and asked to end it would keep open watches for a minute.
                process.kill()
            end(process, 5)
        self._egress.stop()

    # --- the programs

    def _start_etcd(self) -> None:
        client_url, peer_url = (f"http://127.0.0.1:{port}" for port in (self.ports.etcd, self.ports.etcd_peer))
        self._spawn(
            "etcd",
            f"--data-dir={self._dir / 'etcd'}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            # A sandbox's data is not worth waiting for a disk.
            "--unsafe-no-fsync",
        )

    def _start_api_server(self) -> None:
        certificates, front_proxy = self.certificates, self._front_proxy
        egress_file = self._dir / "egress.yaml"
        egress_file.write_text(yaml.safe_dump(self._egress.configuration()))
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.ports.etcd}",
            "--bind-address=127.0.0.1",
            # An address for the `kubernetes` Service, which may not be a loopback one.
            "--advertise-address=10.128.0.2",
            f"--secure-port={self.ports.api_server}",
            f"--cert-dir={self._dir / 'apiserver'}",
            f"--tls-cert-file={certificates.server}",
            f"--tls-private-key-file={certificates.server_key}",
            f"--token-auth-file={self._token_file}",
            # Nobody has a client certificate, but API servers behind this one want to know whose would count.
            f"--client-ca-file={certificates.ca}",
            "--authorization-mode=RBAC,Node",
            "--anonymous-auth=false",
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={certificates.service_account_key}",
            f"--service-account-key-file={certificates.service_account_key}",
            "--kubelet-preferred-address-types=InternalDNS",
            "--endpoint-reconciler-type=none",
            # API servers that run as pods (custom metrics) are reached at their endpoints: nothing serves Service addresses.
            f"--egress-selector-config-file={egress_file}",
            "--enable-aggregator-routing=true",
            f"--requestheader-client-ca-file={front_proxy.ca}",
            f"--requestheader-allowed-names={FRONT_PROXY_NAME}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={front_proxy.client}",
            f"--proxy-client-key-file={front_proxy.client_key}",
            "--profiling=false",
        )

    def _start_clients(self) -> None:
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={self._kubeconfig_of('system:kube-controller-manager')}",
            "--leader-elect=false",
            "--secure-port=0",
            "--allocate-node-cidrs=false",
            f"--controllers=*,{','.join(f'-{name}-controller' for name in _NO_CONTROLLERS)}",
            f"--service-account-private-key-file={self.certificates.service_account_key}",
            f"--root-ca-file={self.certificates.ca}",
            "--use-service-account-credentials=true",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            f"--horizontal-pod-autoscaler-sync-period={self._scaled(_HPA_SYNC_SECONDS)}",
            f"--horizontal-pod-autoscaler-downscale-stabilization={self._scaled(_HPA_STABILIZATION_SECONDS)}",
            f"--horizontal-pod-autoscaler-initial-readiness-delay={self._scaled(_HPA_READINESS_DELAY_SECONDS)}",
            "--profiling=false",
        )
        self._spawn(
            "kube-scheduler",
            f"--kubeconfig={self._kubeconfig_of('system:kube-scheduler')}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        )

    def _scaled(self, seconds: float) -> str:
        """On the sandbox's clock, but at least a second: the controllers are real programs, and no faster than usual."""
        return f"{max(1.0, self._clock.scaled(seconds)):g}s"

    def _spawn(self, name: str, *flags: str) -> None:
        log = self._log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._processes[name] = self._spawner.spawn(
                [str(self._tools / name), *flags],
                # Some of these write below the home folder. They collect their garbage two and a half times as often as Go programs do
                # by themselves, since a sandbox has little to do and shares its machine's memory.
                env={**self._environment, "HOME": str(self._dir), "GOGC": "40"},
                cwd=self._dir,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _log(self, name: str) -> Path:
        return self._dir / "logs" / f"{name}.log"

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        answer = "no answer yet"
        while time.monotonic() < deadline:
            if ended := self.ended():
                raise ControlPlaneError(ended)
            try:
                response = requests.get(
                    f"https://{self.endpoint}/readyz",
                    headers={"Authorization": f"Bearer {self._token}"},
                    verify=str(self.certificates.ca),
                    timeout=5,
                )
                if response.ok:
                    return
                answer = f"status {response.status_code}"
            except requests.RequestException as error:
                answer = type(error).__name__
            time.sleep(0.1)
        raise ControlPlaneError(
            f"kube-apiserver was not ready within {_READY_SECONDS:.0f} s ({answer}); its log: {self._log('kube-apiserver')}"
        )

    def _apply_manifests(self) -> None:
        for name in ("compute-class-crd.yaml", "compute-class-toleration.yaml", "pod-monitoring-crd.yaml"):
            self._apply(MANIFESTS_DIR / name)

    def _apply(self, manifest: Path) -> None:
        api = self.api_client()
        for document in yaml.safe_load_all(manifest.read_text()):
            create(api, document)

    def set_gateway_api(self, on: bool) -> None:
        """Whether there are the definitions of the Gateway API and of GKE's policies for it; returns once they are served."""
        definitions = client.ApiextensionsV1Api(self.api_client())
        manifests = (self._tools / GATEWAY_API_CRDS.name, MANIFESTS_DIR / "gke-gateway-crds.yaml")
        names = [
            each["metadata"]["name"] for path in manifests if path.exists() for each in yaml.load_all(path.read_text(), yaml.CSafeLoader)
        ]
        if not on:
            known = {each.metadata.name for each in definitions.list_custom_resource_definition().items}
            for name in known.intersection(names):
                definitions.delete_custom_resource_definition(name)
            return
        for path in manifests:
            self._apply(path)
        deadline = time.monotonic() + _READY_SECONDS
        while not all(map(_is_established, definitions.list_custom_resource_definition().items)):
            if time.monotonic() > deadline:
                raise ControlPlaneError(f"the Gateway API was not served within {_READY_SECONDS:.0f} s")
            time.sleep(0.1)

    # --- files

    @property
    def _token_file(self) -> Path:
        return self._dir / "tokens.csv"

    def _load_ports(self) -> Ports:
        record = self._dir / _PORTS_FILE
        self._new = not record.exists()
        if not self._new:
            try:
                return Ports(**read_object(record))
            except TypeError as error:
                raise unusable(record, error) from error
        api_server, etcd, etcd_peer, front = free_ports(4)
        ports = Ports(api_server=api_server, etcd=etcd, etcd_peer=etcd_peer, front=front)
        self._dir.mkdir(parents=True, exist_ok=True)
        write_object(record, ports.__dict__)
        return ports

    def _kubeconfig_of(self, user: str) -> Path:
        return self._dir / "kubeconfigs" / user.replace(":", "_")

    def _write_kubeconfig(self, path: Path, endpoint: str, token: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, yaml.safe_dump(kubeconfig_document(endpoint=endpoint, ca=self.certificates.ca, token=token)), mode=0o600)


def create(api: client.ApiClient, document: dict[str, Any], *, seconds: float = _READY_SECONDS) -> None:
    """Makes an object that may be there already, as after a restart or a request that timed out. Raises `ControlPlaneError`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            utils.create_from_dict(api, document)
            return
        except utils.FailToCreateError as error:
            statuses = {each.status for each in error.api_exceptions}
            if statuses == {409}:
                return
            if not statuses <= _BUSY or time.monotonic() > deadline:
                raise ControlPlaneError(f"{document['kind']} {document['metadata']['name']} could not be made: {error}") from error
        time.sleep(0.5)


def _is_established(definition: Any) -> bool:
    return any(each.type == "Established" and each.status == "True" for each in definition.status.conditions or [])


def kubeconfig_document(*, endpoint: str, ca: Path, token: str) -> dict[str, Any]:
    """A kubeconfig of one user who has a token; `endpoint` is `HOST:PORT`."""
    named = {"name": "sandbox"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{**named, "cluster": {"server": f"https://{endpoint}", "certificate-authority": str(ca)}}],
        "users": [{**named, "user": {"token": token}}],
        "contexts": [{**named, "context": {"cluster": "sandbox", "user": "sandbox"}}],
        "current-context": "sandbox",
    }
