"""Check that the packages of requirements.txt are installed, before anything else is imported.

DVC starts a stage with the first ``python`` on PATH. Without activation, that Python is not the environment's.
This module imports the standard library only.
"""

import sys
from importlib import metadata
from pathlib import Path


def missing_packages(requirements: Path) -> list[str]:
    """The names in a requirements file that are not installed."""
    lines = [line for line in requirements.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    missing = []
    for name in (line.split("==")[0].strip() for line in lines if "==" in line):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    return missing


def check_environment(requirements: Path) -> None:
    """End the process with one line if a required package is missing."""
    if missing := missing_packages(requirements):
        more = ", ..." if missing[3:] else ""
        sys.exit(
            f"{sys.executable} lacks {', '.join(missing[:3])}{more}: run `source .venv/bin/activate`, "
            "then the same command again"
        )
