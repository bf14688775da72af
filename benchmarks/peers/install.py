"""Install the peers and the profiler into a folder of their own, once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.wrk import BenchmarkFailed

UNLEASH = "7.5.1"
FAST_FEATURE = "0.0.2"
GROWTHBOOK = "4.0.0"
PY_SPY = "0.4.3"
MABWISER = "2.7.4"
PYMAB = "2.0.1"
GBSTATS = "0.8.0"
OBP = "0.5.7"
INSTALL_S_MAX = 600


def python_with_peers(work: Path) -> Path:
    """A Python that has the peers in Python, beside the same Litestar and uvicorn as ours."""
    wanted = [
        f"fast-feature=={FAST_FEATURE}",
        f"growthbook=={GROWTHBOOK}",
        f"py-spy=={PY_SPY}",
        *(f"{name}=={version(name)}" for name in ("litestar", "msgspec", "uvicorn", "uvloop", "httptools")),
    ]
    return _python_with(work / "python-peers", wanted)


def python_with_bandits(work: Path) -> Path:
    """A Python that has the bandit libraries which decide by linear Thompson sampling, with our NumPy."""
    wanted = [f"mabwiser=={MABWISER}", f"pymab=={PYMAB}", f"numpy=={version('numpy')}"]
    return _python_with(work / "python-bandits", wanted)


def python_with_gbstats(work: Path) -> Path:
    """A Python that has GrowthBook's gbstats, which wants a NumPy below 2 and so cannot stand beside ours."""
    return _python_with(work / "python-gbstats", [f"gbstats=={GBSTATS}"])


def python_with_obp(work: Path) -> Path:
    """A Python that has Open Bandit Pipeline's estimators, with what it pins as far as our Python has it.

    Installed without its dependencies: of the PyTorch it asks for there is none (`obp_estimators.py`).
    """
    folder = work / "python-obp"
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q"]
    needed = ["numpy==1.23.5", "scipy==1.9.3", "scikit-learn==1.1.3", "pandas==1.5.2"]
    plotted = ["seaborn<0.12", "matplotlib<3.9", "PyYAML", "mypy-extensions", "tqdm"]
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "--no-deps", "--ignore-requires-python", f"obp=={OBP}"],
        [*pip, *needed, *plotted],
    ]
    _once(folder, f"obp=={OBP} {sys.version.split()[0]}", commands)
    return python


def unleash_folder(work: Path) -> Path:
    """The folder of unleash-server."""
    folder = work / "unleash"
    if shutil.which("npm") is None:
        raise BenchmarkFailed("npm is not installed, so unleash-server was not: install Node.js 20 or later")
    install = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder)]
    _once(folder, UNLEASH, [[*install, f"unleash-server@{UNLEASH}"]])
    return folder / "node_modules" / "unleash-server"


def _python_with(folder: Path, wanted: list[str]) -> Path:
    """The Python of an environment that has these packages."""
    python = folder / "bin" / "python"
    _once(
        folder,
        " ".join([*wanted, sys.version.split()[0]]),
        [[sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-q", *wanted]],
    )
    return python


def _once(folder: Path, wanted: str, commands: list[list[str]]) -> None:
    """Run the commands unless they have been run for the same versions."""
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S_MAX)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-300:]
            raise BenchmarkFailed(f"{Path(command[0]).name} could not install {wanted}: {said}")
    stamp.write_text(wanted, "utf-8")
