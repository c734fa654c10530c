"""Write constraints.txt: the version of every package that the requirements pull in.

    python -m tools.constraints    # `make constraints`

pip resolves the requirements from nothing, downloads what it needs for that, and installs nothing. The next `make`
installs the new versions.
"""

import json
import logging
import subprocess
import sys
from pathlib import Path

logger = logging.getLogger(__name__)

REQUIREMENTS = "requirements.txt", "requirements-extra.txt", "requirements-scale.txt"
CONSTRAINTS = "constraints.txt"
HEAD = """\
# Every package that requirements.txt, requirements-extra.txt and requirements-scale.txt pull in, at the version that
# was run: Python 3.11 on Linux, x86-64, with PyTorch's build for CPUs. Another build of PyTorch brings more packages,
# at versions that it pins itself. `make constraints` writes this file.
"""


def pin(name: str, version: str) -> str:
    """One line of the file, without the local version that names a build.

    >>> pin("torch", "2.13.0+cpu")
    'torch==2.13.0'
    """
    return f"{name}=={version.split('+')[0]}"


def resolve() -> dict[str, str]:
    """Name and version of every package that pip would install into an empty environment."""
    files = [word for file in REQUIREMENTS for word in ("-r", file)]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = json.loads(subprocess.run([*command, *files], check=True, stdout=subprocess.PIPE).stdout)
    return {entry["metadata"]["name"]: entry["metadata"]["version"] for entry in report["install"]}


def main() -> None:
    lines = sorted((pin(*package) for package in resolve().items()), key=str.lower)
    Path(CONSTRAINTS).write_text(HEAD + "\n".join(lines) + "\n")
    logger.info("%s: %d packages", CONSTRAINTS, len(lines))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
