"""A scenario by its name, or from a file of one's own: a world, an experiment document, and how long."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import yaml

from experiments.document import parse_document
from experiments.errors import InvalidDocument
from sim.runner.errors import UnknownScenario
from sim.worlds.document import from_document
from sim.worlds.errors import InvalidWorld
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios import scenarios

FIELDS = frozenset({"title", "claim", "ground_truth", "days", "world", "experiment"})


def find_scenario(name: str, *, days: int | None = None) -> Scenario:
    """The scenario of that name or in that file, for so many days if they are given."""
    found = scenarios().get(name)
    if found is None:
        path = Path(name)
        if not path.is_file():
            raise UnknownScenario(name, sorted(scenarios()))
        found = read_scenario(path)
    return found if days is None else replace(found, days=days)


def read_scenario(path: Path) -> Scenario:
    """Read a file of YAML or JSON with `world` and `experiment` (a document), and `days`."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidWorld(f"{path}: {error}") from error
    if not isinstance(plain, dict):
        raise InvalidWorld(f"{path}: a scenario is a mapping with world, experiment and days")
    document = cast("Mapping[str, Any]", plain)
    unknown, missing = document.keys() - FIELDS, {"world", "experiment", "days"} - document.keys()
    if unknown or missing:
        told = [f"unknown: {', '.join(sorted(unknown))}"] if unknown else []
        told += [f"missing: {', '.join(sorted(missing))}"] if missing else []
        raise InvalidWorld(f"{path}: {'; '.join(told)}; a scenario has {', '.join(sorted(FIELDS))}")
    if not isinstance(document["days"], int) or not isinstance(document["experiment"], dict):
        raise InvalidWorld(f"{path}: days is a whole number, experiment an experiment document")
    world = from_document(document["world"])
    try:
        experiment = parse_document(document["experiment"], currency_default=world.currency)
    except InvalidDocument as error:
        raise InvalidWorld(f"{path}: experiment: {error}") from error
    return Scenario(
        key=path.stem,
        title=str(document.get("title", path.stem)),
        claim=str(document.get("claim", "")),
        ground_truth=str(document.get("ground_truth", "")),
        world=world,
        experiment=experiment,
        days=document["days"],
    )
