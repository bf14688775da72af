"""The examples in docstrings are true: those of the sampled models in their own tests, which have PyMC."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import experiments

MODULES = [
    module.name
    for module in pkgutil.walk_packages(experiments.__path__, "experiments.")
    if not module.name.startswith("experiments.pooled")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.failed == 0


def test_examples_are_found() -> None:
    assert len(MODULES) > 80
    assert doctest.testmod(import_module("experiments.analysis.delay")).attempted > 0
