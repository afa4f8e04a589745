"""`python -m sandbox`: the project's program on this machine, without a cloud account."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module

from sandbox.cli import lifecycle
from sandbox.cli.lifecycle import SandboxError, Terminated
from sandbox.cli.stack import StackError
from sandbox.google.stock import StockError
from sandbox.host import ca_bundle
from sandbox.host.disk_space import NoRoom
from sandbox.host.doors import use_doors
from sandbox.host.paths import Paths
from sandbox.host.state_files import StateError
from sandbox.toolchain.tools import ToolError

#: Command -> (its module in `sandbox.cli.commands`, loaded for this command alone, and what it does).
COMMANDS = {
    "up": ("up", "build what is missing, start everything, run `pulumi up`, and test the service"),
    "down": ("administration", "end everything and remove all state; the cache of tools stays"),
    "status": ("cluster", "nodes by pool, and the pods on them"),
    "live": ("live", "the ladder as a live page in the browser, with buttons that make trouble"),
    "env": ("administration", 'variables for a shell: eval "$(python -m sandbox env)", then pulumi and kubectl work'),
    "chat": ("cluster", "one chat completion from the stack's service"),
    "scale": ("cluster", "scale the Deployment, and wait until every replica has settled"),
    "preempt": ("cluster", "take a Spot, preemptible or flex-start node away, as Google does"),
    "stock": ("trouble", "set which pools' machines are in stock; works before the first `up` too"),
    "hang": ("trouble", "make the server of a pod hang without dying"),
    "crash": ("trouble", "kill the server of a pod, and let it fail at every start until the pod is deleted"),
    "traffic": ("cluster", "send requests at a steady rate and count those that are answered, failed and cut"),
    "faults": ("trouble", "faulty answers of the stand-in cloud's and the cluster's API; works before the first `up` too"),
    "login": ("administration", "log in the sandbox's Google account, with a lifetime of access tokens, or revoke its login"),
    "restart-api-server": ("administration", "kill the cluster's API server and start it again"),
    "logs": ("administration", "the containers' logs, or the daemon's"),
}

_WHAT_STAYS = (
    " What was made so far stays, and the stand-in cloud keeps running: `python -m sandbox up` continues, `python -m sandbox down` ends "
    "everything."
)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed with a message, 2 wrong arguments, 3 the sandbox is not running."""
    words = sys.argv[1:] if argv is None else argv
    name = next(iter(words), "")
    arguments = _parser(name).parse_args(words)
    paths = Paths.from_environment()
    if os.environ.get(ca_bundle.VARIABLE) == str(paths.trust) and not paths.trust.exists():
        # The shell may have it from `env` of a sandbox that is down by now; clients would then trust no certificate.
        del os.environ[ca_bundle.VARIABLE]
    if name != "up":
        use_doors(paths)
    try:
        if not sys.platform.startswith("linux"):
            raise SandboxError(f"the sandbox runs on Linux; this is {sys.platform} (127.88.0.0/16 is not loopback there)")
        status: int = arguments.run(paths, arguments)
        return status
    except (SandboxError, StackError, ToolError, StockError, StateError, NoRoom) as error:
        return _failed(str(error), paths)
    except KeyboardInterrupt:
        print(f"sandbox: interrupted.{_WHAT_STAYS if name == 'up' else ''}", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print("sandbox: `up` was told to end (SIGTERM), as `python -m sandbox down` tells one that is under way", file=sys.stderr)
        return 128 + signal.SIGTERM
    except Exception as error:
        # The clients whose errors these are take half a second to load.
        message = import_module("sandbox.cli.errors").explain(error)
        if message is None:
            raise
        return _failed(message, paths)


def _failed(message: str, paths: Paths) -> int:
    print(f"sandbox: {message}", file=sys.stderr)
    if (why := lifecycle.explain_failure(paths)) and why not in message:
        print(f"sandbox: {why}", file=sys.stderr)
    return 1


def _parser(chosen: str) -> argparse.ArgumentParser:
    """The parser: it knows every command by name, and the arguments of the chosen one."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            add_arguments, run = import_module(f"sandbox.cli.commands.{module}").COMMANDS[name]
            add_arguments(command)
            command.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
