"""Measure this run on the test questions, and keep what the report says of them in final/.

    python -m tools.final                                  # make final
    python -m tools.final -S answer.test_questions=500     # with other parameters

The measurement is an experiment that differs in `answer.split` alone, in a folder of its own: rerank_eval ranks the
test questions too, answer answers them, and report writes about them. The parameters and results here stay as they are.
Experiments are chosen on validation questions. Measure on test questions once, when nothing more will be chosen.

final/ then holds REPORT.md, metrics/ and plots/ of that experiment, and run.lock, its dvc.lock.
"""

import argparse
import io
import subprocess
import sys
import tarfile
from pathlib import Path

from medcards.base.files import atomic

EXPERIMENT = "final"
PUBLISHED = ("REPORT.md", "metrics", "plots")
FINAL = Path("final")


def published_files(revision: str) -> dict[str, bytes]:
    """The files that a commit's report published, and its dvc.lock as run.lock, by their names in final/."""
    packed = subprocess.run(
        ["git", "archive", revision, "dvc.lock", *PUBLISHED], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
    files["run.lock"] = files.pop("dvc.lock")
    files["REPORT.md"] = files["REPORT.md"].replace(b"](docs/", b"](../docs/")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.final", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    changes = ["answer.split=test", *parser.parse_args().changes]
    if _output("dvc", "status", "--json", "dvc.yaml") != "{}":
        sys.exit("final: data/ is not that of the parameters and the code here: run `dvc repro` first")
    options = [word for change in changes for word in ("-S", change)]
    ignored = _output("git", "ls-files", "--others", "--directory", "decks", "models").splitlines()
    options += [word for path in ignored for word in ("--copy-paths", path)]  # the user's own files
    subprocess.run(["dvc", "exp", "remove", "-q", EXPERIMENT], check=False, stderr=subprocess.DEVNULL)  # of a last time
    if subprocess.run(["dvc", "exp", "run", "--temp", "-n", EXPERIMENT, *options], check=False).returncode:
        sys.exit(f"final: the run failed, and {FINAL}/ is as it was")
    revision = _output("git", "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{EXPERIMENT}")
    files = published_files(revision)
    subprocess.run(["dvc", "exp", "remove", "-q", EXPERIMENT], check=True)
    with atomic(FINAL) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    print(f"\n{FINAL}/REPORT.md holds the result. There is no experiment to apply: its parameters are those here.")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
