"""`python -m ops COMMAND`: the commands that a team runs beside the program."""

import sys

from ops.dispatch import dispatch

if __name__ == "__main__":
    sys.exit(
        dispatch(
            "ops",
            {
                "preflight": "what has to be true of a project before `pulumi up`",
                "cost": "what a stack costs an hour",
                "smoke": "whether a stack's service answers",
                "benchmark": "how fast each rung serves, and what its tokens cost",
                "live": "the ladder as a live page, of any cluster that kubectl reaches",
                "recovery": "after an update that was killed: find what it had begun",
                "ci": "what a pipeline records, comments and files",
                "pages": "what is generated in README and docs",
            },
            sys.argv[1:],
        )
    )
