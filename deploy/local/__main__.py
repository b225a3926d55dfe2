"""Installs ahead of time what the local stack runs from.

``python -m mmbroker.deploy.local install``
"""

import argparse
import sys
from functools import partial

from rich.console import Console

from mmbroker.deploy.local.errors import StackError
from mmbroker.deploy.local.install import cache_directory, install_kafka, install_triton


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mmbroker.deploy.local", description=__doc__)
    commands = parser.add_subparsers(required=True)
    install = commands.add_parser("install", help="install Kafka and Triton for this user")
    install.add_argument("--without-triton", action="store_true", help="install Kafka only")
    options = parser.parse_args()
    console = Console(stderr=True, highlight=False, markup=False)
    say = partial(console.print, soft_wrap=True)
    try:
        with console.status("installing"):
            install_kafka(say)
            if not options.without_triton:
                install_triton(say)
    except StackError as error:
        say(f"error: {error}")
        return 1
    say(f"installed in {cache_directory()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
