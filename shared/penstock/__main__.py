"""``python -m penstock``: the ``penstock`` command, also where the script is not on PATH."""

from __future__ import annotations

from penstock.cli import main

main()
