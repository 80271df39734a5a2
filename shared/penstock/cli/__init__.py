"""The ``penstock`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line; imports wait until here so that ``penstock.cli.embedded_redis`` stays light."""
    from penstock.cli.app import run  # noqa: PLC0415 - see above

    run()
