"""Arguments that are too many: mostly a shell has taken apart what was meant as one."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class Unquoted(TyperCommand):
    """A command that says of surplus arguments what was probably meant."""

    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        typed = list(args)
        rest: list[str] = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            ctx.fail(f"too many arguments: {' '.join(ctx.args)}{_meant(typed, ctx.args)}")
        return rest


def _meant(typed: list[str], surplus: list[str]) -> str:
    if all("=" in word.lstrip("=") for word in surplus):
        return f"\nHint: did you mean {' '.join(f'--param {word}' for word in surplus)}?"
    # The stars of a cron stand for the files of the directory when nobody quotes them.
    return "\nHint: quote the cron: --cron '* * * * *'" if "--cron" in typed else ""
