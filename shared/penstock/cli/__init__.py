"""The ``penstock`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; imports wait until here so that ``penstock.cli.embedded_redis`` stays light."""
    if sys.argv[1:2] == ["health"]:
        # Every container asks this several times a minute: it must not pay for the commands it does not use.
        from penstock.cli.health import run_alone  # noqa: PLC0415 - see above

        run_alone(sys.argv[2:])
    from penstock.cli.app import run  # noqa: PLC0415 - see above

    run()
