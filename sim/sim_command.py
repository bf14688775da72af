"""`rialto sim`: the simulator's own subcommands, each imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

SUBCOMMANDS: dict[str, str] = {
    "claims": "sim.claims.command:claims_command",
    "drive": "sim.closed_loop.command:drive",
    "fit": "sim.fitting.command:fit_command",
    "list": "sim.runner.command:list_command",
    "ope": "sim.ope.command:ope",
    "plan": "sim.planner.plan_command:plan",
    "run": "sim.runner.command:run_command",
}
"""Name -> module:command; a part of the simulator registers its subcommand here with one line."""


class Lazy(click.Group):
    """A group whose subcommands are imported when they are called or described."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands."""
        return sorted(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, name = SUBCOMMANDS[cmd_name].split(":")
        return getattr(import_module(module), name)


@click.group(cls=Lazy, short_help="Simulate: plan a test before a customer is risked, and more.")
def sim() -> None:
    """Know before you risk a customer: what a test will take, cost and find."""
