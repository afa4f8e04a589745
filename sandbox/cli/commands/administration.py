"""Commands on the sandbox itself: down, env, logs, login, and the API server's restart."""

import argparse
import os
import shlex
import subprocess
import time

from sandbox.cli import arguments as kinds
from sandbox.cli import lifecycle
from sandbox.cli.arguments import Command, no_arguments
from sandbox.cli.lifecycle import SandboxError, require_running
from sandbox.cli.stack import SandboxStack
from sandbox.google.access_tokens import LIFETIME_SECONDS, AccessTokens, Login
from sandbox.host.paths import Paths
from sandbox.host.state_files import write_text

_RESTART_SECONDS = 90.0


def _down(paths: Paths, arguments: argparse.Namespace) -> int:
    if not paths.state.exists():
        print("the sandbox is not running")
        return 0
    lifecycle.stop(paths, report=print)
    print("the sandbox is down; all its processes have ended, and only the cache of tools is kept")
    return 0


def _env(paths: Paths, arguments: argparse.Namespace) -> int:
    for name, value in SandboxStack(paths, require_running(paths)).variables().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _logs_arguments(logs: argparse.ArgumentParser) -> None:
    logs.add_argument("pod", nargs="?", help="one pod; all of the service by default")
    logs.add_argument("--daemon", action="store_true", help="the daemon's own log")
    logs.add_argument("--tail", type=int, default=20, help="lines of each container (default %(default)s)")


def _logs(paths: Paths, arguments: argparse.Namespace) -> int:
    record = require_running(paths)
    if arguments.daemon:
        print(paths.daemon_log.read_text(errors="replace"), end="")
        return 0
    stack = SandboxStack(paths, record)
    outputs = stack.service_outputs()
    selected = [arguments.pod] if arguments.pod else ["--selector=app=vllm"]
    return subprocess.run(
        [
            str(paths.tools / "kubectl"),
            "logs",
            "--namespace",
            outputs["namespace"],
            *selected,
            "--all-containers",
            "--prefix",
            "--tail",
            str(arguments.tail),
        ],
        env={**os.environ, **stack.variables()},
    ).returncode


def _login_arguments(login: argparse.ArgumentParser) -> None:
    how = login.add_mutually_exclusive_group()
    how.add_argument(
        "--lifetime", type=kinds.seconds, default=LIFETIME_SECONDS, help="seconds that an access token lives (default %(default)g)"
    )
    how.add_argument("--revoked", action="store_true", help="revoke the login: no token is valid, and none is issued")


def _login(paths: Paths, arguments: argparse.Namespace) -> int:
    AccessTokens(paths.state).set_login(Login(lifetime=arguments.lifetime, revoked=arguments.revoked))
    if arguments.revoked:
        print("the login is revoked: no access token is valid any more; `python -m sandbox login` logs in again")
    else:
        print(f"logged in; access tokens from now on live {arguments.lifetime:g} s")
    return 0


def _restart_arguments(restart: argparse.ArgumentParser) -> None:
    restart.add_argument("--away", type=kinds.seconds, default=1.0, help="seconds in between (default %(default)g)")


def _restart_api_server(paths: Paths, arguments: argparse.Namespace) -> int:
    require_running(paths)
    request = paths.restart_request
    write_text(request, f"{arguments.away:g}")
    deadline = time.monotonic() + arguments.away + _RESTART_SECONDS
    while request.exists():
        require_running(paths)
        if time.monotonic() > deadline:
            raise SandboxError("the API server is not back yet; `python -m sandbox logs --daemon` shows why")
        time.sleep(0.1)
    print(f"the API server was away for {arguments.away:g} s and answers again")
    return 0


COMMANDS: dict[str, Command] = {
    "down": (no_arguments, _down),
    "env": (no_arguments, _env),
    "logs": (_logs_arguments, _logs),
    "login": (_login_arguments, _login),
    "restart-api-server": (_restart_arguments, _restart_api_server),
}
