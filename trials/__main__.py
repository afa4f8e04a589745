"""`python -m trials COMMAND`: what measures the program and what tries to break it."""

import sys

from ops.dispatch import dispatch

if __name__ == "__main__":
    sys.exit(
        dispatch(
            "trials",
            {
                "bench": "how long it takes and what it costs as it grows, against the last saved run",
                "drills": "what breaks it: stock-outs, kills, faulty answers, events under load, random settings",
                "picture": "README's picture of the live page, from a sandbox that runs",
            },
            sys.argv[1:],
        )
    )
