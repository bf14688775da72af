"""The `rialto` command: loads the commands that packages register, and has no logic of its own."""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, entry_points

import click

GROUP = "rialto.commands"


class Registered(click.Group):
    """Commands of the entry-point group; only the one that is asked for is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of every registered command."""
        return sorted(_registered())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        # numpy reads it when it is imported; threads would spin beside the loop for products of microseconds.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        found = _registered().get(cmd_name)
        return None if found is None else found.load()


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@click.command(cls=Registered, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rialto", prog_name="rialto")
def main() -> None:
    """Decide which offer a shopper sees here and now, and tell honestly what it earned."""


if __name__ == "__main__":
    sys.exit(main())
