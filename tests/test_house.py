"""The house itself: import rules, extras, lock, command line, and documents that keep up with the code."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator
from packaging.requirements import Requirement

from experiments.document import parse_document
from experiments.document_schema import experiment_schema
from service.app import CALLS, create_app
from service.entry import GROUP
from service.openapi import openapi_document
from service.settings import Settings
from service.store_settings import StoreDocument
from sim.sim_command import SUBCOMMANDS
from tests.markdown import blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = ("experiments", "service", "sim", "dashboard")
HEAVY = (
    "pymc",
    "arviz",
    "pytensor",
    "nutpie",
    "numba",
    "streamlit",
    "altair",
    "pandas",
    "duckdb",
    "pyspark",
    "asyncpg",
    "psycopg",
    "opentelemetry",
)
COMMANDS = {point.name: point for point in entry_points(group=GROUP)}
CONFIGURATION = (DOCS / "configuration.md").read_text("utf-8")


def test_import_rules_hold() -> None:
    result = _python("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", result.stdout), result.stdout


def test_import_rules_find_a_breach(tmp_path: Path) -> None:
    """The core imports the service, the service the pooled model: the contracts must pass neither."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "experiments" / "pooled").mkdir()
    (tmp_path / "experiments" / "pooled" / "__init__.py").write_text("")
    (tmp_path / "experiments" / "fold.py").write_text("import service\n")
    (tmp_path / "service" / "app.py").write_text("import experiments.pooled\n")
    lines = ["[importlinter]", "root_packages =", *(f"  {name}" for name in settings["root_packages"])]
    lines.append("include_external_packages = True")
    for number, contract in enumerate(settings["contracts"]):
        lines += [f"[importlinter:contract:{number}]", f"name = {contract['name']}", "type = forbidden"]
        for key in ("source_modules", "forbidden_modules"):
            lines += [f"{key} =", *(f"  {name}" for name in contract[key])]
    (tmp_path / ".importlinter").write_text("\n".join(lines))
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as l; l()"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "experiments.fold -> service" in result.stdout
    assert "service.app -> experiments.pooled" in result.stdout


@pytest.mark.parametrize(
    "module", ["experiments", "service.app", "service.entry", "dashboard.commands", "sim.calibrate_command"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = _python("-c", code)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_the_whole_core_loads_numpy_and_scipy_at_most() -> None:
    """All but the pooled model, which nothing else of the core imports."""
    files = [f for f in sorted((ROOT / "experiments").rglob("*.py")) if f.parent.name != "pooled"]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    others = {"sqlalchemy", "litestar", "msgspec", "httpx", "yaml", "click", "rich", "service", *HEAVY}
    loaded = f"print(sorted({others!r} & sys.modules.keys()), 'scipy' in sys.modules)"
    result = _python("-c", f"import sys, {', '.join(modules)}; {loaded}".replace(".__init__", ""))
    assert result.stdout.strip() == "[] True", result.stdout + result.stderr


def test_core_reads_no_clock_environment_or_global_randomness() -> None:
    forbidden = {"os", "time", "random", "secrets", "socket", "subprocess", "threading"}
    for file in sorted((ROOT / "experiments").rglob("*.py")):
        imported = {name.partition(".")[0] for name in _imports(ast.parse(file.read_text("utf-8")))}
        assert not imported & forbidden, f"{file.name} imports {imported & forbidden}"
        text = file.read_text("utf-8")
        assert not re.search(r"\.(now|utcnow|today)\(|np\.random\.(seed|rand|normal|uniform)\(", text), (
            file.name
        )


def test_base_install_carries_neither_pymc_nor_streamlit() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    base = {Requirement(text).name for text in project["dependencies"]}
    assert {"litestar", "numpy", "sqlmodel"} <= base
    assert not base & {*HEAVY, "pytest", "ruff", "playwright"}
    analysis = {Requirement(text).name for text in project["optional-dependencies"]["analysis"]}
    assert analysis == {"arviz", "h5netcdf", "h5py", "nutpie", "pyarrow", "pymc"}


def test_lock_is_universal_hashed_and_names_no_place() -> None:
    assert not (ROOT / "uv.lock").exists()
    # PySpark is locked apart: it is larger than all the rest, and nobody's service needs it.
    text = "".join((ROOT / f"requirements{part}.lock").read_text("utf-8") for part in ("", "-spark"))
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an option in the lock: an address, or an editable path"
    pins = re.findall(r"^([a-z0-9.-]+)==.*?\n((?:    --hash=.*\n?)*)", text, re.MULTILINE)
    assert len(pins) > 50
    assert all("sha256:" in hashes for _, hashes in pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    stated = project["dependencies"] + [
        r for extra in project["optional-dependencies"].values() for r in extra
    ]
    locked = {name for name, _ in pins}
    missing = {Requirement(r).name.lower() for r in stated} - locked
    assert not missing, f"make lock: {missing}"
    pythons = re.findall(r"^pymc==\S+ ; python_full_version (\S+) '3\.12'", text, re.MULTILINE)
    assert sorted(pythons) == ["<", ">="], "PyMC 6 needs Python 3.12, so a universal lock holds PyMC 5 too"


def test_every_entry_point_is_installed_and_every_command_helps() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"][GROUP]
    assert declared == {name: point.value for name, point in COMMANDS.items()}
    wanted = {"init", "serve", "dashboard", "apply", "replay", "verify", "demo"}
    assert wanted <= COMMANDS.keys()
    listed = _python("-m", "service.entry", "--help")
    assert listed.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", listed.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", sorted([*COMMANDS, *(f"sim {name}" for name in SUBCOMMANDS)]))
def test_command_helps_and_all_its_options_are_documented(name: str) -> None:
    first, *below = name.split()
    command = COMMANDS[first].load()
    for part in below:
        command = command.get_command(click.Context(command), part)
    result = _python("-m", "service.entry", *name.split(), "--help")
    assert result.returncode == 0, result.stderr
    section = _section(CONFIGURATION, f"### rialto {name}")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            for option in parameter.opts:
                assert f"`{option}" in section, f"docs/configuration.md says nothing of {name} {option}"
    stated = set(re.findall(r"`(--[a-z-]+)", section))
    assert stated <= {option for parameter in command.params for option in parameter.opts}


def test_every_environment_variable_is_documented() -> None:
    used: set[str] = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            used |= set(re.findall(r"RIALTO_[A-Z_]+", file.read_text("utf-8")))
    assert used
    documented = set(re.findall(r"^\| `(RIALTO_[A-Z_]+)`", CONFIGURATION, re.MULTILINE))
    assert used == documented


def test_every_store_setting_is_documented_with_its_default() -> None:
    section = _section(CONFIGURATION, "## Store settings")
    shown = dict(re.findall(r"^\| `(\w+)` \|.*\| `([^`]+)` \|$", section, re.MULTILINE))
    defaults = msgspec.to_builtins(StoreDocument())
    assert shown.keys() == defaults.keys()
    for name, default in defaults.items():
        assert shown[name] == (default if isinstance(default, str) else json.dumps(default)) or (
            default == float(shown[name])
        ), f"{name} is {default!r}, documented {shown[name]}"


def test_every_call_is_documented_by_example() -> None:
    shown = "\n".join(block.text for block in blocks(DOCS / "api.md") if block.language == "bash")
    for method, path, _ in CALLS:
        pattern = r"[^ /?\"']+".join(map(re.escape, re.split(r"\{[^}]+\}", path)))
        asked = f'call {method} "?' if path.startswith("/v1/") else "http://127.0.0.1:8000"
        assert re.search(asked + pattern + r"[ ?\"\n]", shown), f"docs/api.md lacks {method} {path}"


def test_every_metric_is_defined() -> None:
    from experiments.metric_keys import METRIC_KEYS

    text = (DOCS / "metrics.md").read_text("utf-8")
    assert METRIC_KEYS
    for key in METRIC_KEYS:
        assert f"`{key}`" in text


def test_document_shown_in_full_names_every_field_and_is_valid() -> None:
    (shown,) = [yaml.safe_load(b.text) for b in blocks(DOCS / "experiments.md") if b.language == "yaml"]
    parse_document(shown)
    schema = experiment_schema()
    assert shown.keys() == schema["properties"].keys() - {"salt"}
    policy = schema["properties"]["policy"]["properties"]
    assert shown["policy"].keys() == policy.keys() - {"shares", "prior"}


def test_examples_of_arms_are_valid() -> None:
    small = {"key": "small", "touchpoint": "cart", "currency": "EUR"}
    offers = [{"key": "none", "is_control": True, "offer": {"kind": "none"}}]
    offers += [{"key": "socks", "offer": {"kind": "cross_sell", "sku": "SOCK-3"}}]
    shown = [yaml.safe_load(b.text) for b in blocks(DOCS / "arms.md") if b.language == "yaml"]
    assert len(shown) == 3
    for part in shown:
        parse_document({**small, "variants": offers, **part})


def test_openapi_document_is_valid_and_publishes_the_experiment_schema(tmp_path: Path) -> None:
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path / 'none.db'}"))
    document = json.loads(json.dumps(openapi_document(app)))
    assert document["openapi"].startswith("3.1")
    operations = [call for path in document["paths"].values() for call in path.values()]
    assert len(operations) == len(CALLS)
    identifiers = [operation["operationId"] for operation in operations]
    assert len(set(identifiers)) == len(identifiers)
    for schema in [*document["components"]["schemas"].values(), *_schemas(document["paths"])]:
        Draft202012Validator.check_schema(schema)
    for reference in _references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    body = document["paths"]["/v1/experiments"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert body["properties"] == experiment_schema()["properties"]


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks", "tests"])
def test_files_stay_within_400_lines_and_functions_within_70(package: str) -> None:
    for file in sorted((ROOT / package).rglob("*.py")):
        if "versions" in file.parts:
            continue
        text = file.read_text("utf-8")
        assert text.count("\n") <= 400, file.relative_to(ROOT)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0].lineno
                assert (node.end_lineno or first) - first < 70, f"{file.relative_to(ROOT)}: {node.name}"


def test_every_module_of_the_packages_can_be_imported() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if parts[:2] == ("experiments", "pooled") and importlib.util.find_spec("pymc") is None:
                continue  # the extra `analysis`
            # pages run when Streamlit opens them, migrations when Alembic does
            if not {"migrations", "pages"} & set(parts) and parts[-2:] != ("dashboard", "app"):
                importlib.import_module(".".join(part for part in parts if part != "__init__"))


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _section(text: str, title: str) -> str:
    """From a heading to the next of its level or above."""
    level = len(title) - len(title.lstrip("#"))
    start = re.search(rf"^{re.escape(title)}\b.*$", text, re.MULTILINE)
    assert start is not None, f"no section {title}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{level}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def _schemas(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        if "schema" in node:
            yield node["schema"]
        for member in node.values():
            yield from _schemas(member)
    elif isinstance(node, list):
        for member in node:
            yield from _schemas(member)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for member in node.values():
            yield from _references(member)
    elif isinstance(node, list):
        for member in node:
            yield from _references(member)
