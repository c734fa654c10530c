"""Write the library files that each stage imports into its deps in dvc.yaml.

    python -m tools.deps

A stage's deps are its script, the library files that it imports, and the data that it reads. The data stand in dvc.yaml
as they are; the files are found in the syntax trees, through imports anywhere in a file.
"""

import ast
import re
import textwrap
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
DVC_YAML = ROOT / "dvc.yaml"
WIDTH = 120
STAGE = re.compile(r"^  (\w+):\n((?:    .*\n|\n)+)", re.MULTILINE)
DEPS = re.compile(r"^    deps: \[\n((?:      .*\n)*)    \]\n", re.MULTILINE)


def module_file(name: str) -> Path | None:
    """The file of a module of this repository, relative to its root; None for other modules."""
    path = ROOT / name.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate.relative_to(ROOT)
    return None


@cache
def direct_imports(file: Path) -> frozenset[Path]:
    """The files of this repository that a file imports, with the packages that they lie in.

    What a module's ``__getattr__`` imports is for users, and no stage goes through it: it does not count.

    Raises
    ------
    ValueError : an import is relative, which hides what it imports.
    """
    tree, names = ast.parse((ROOT / file).read_text(encoding="utf-8")), set()
    tree.body = [node for node in tree.body if getattr(node, "name", "") != "__getattr__"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{file}, line {node.lineno}: write an absolute import")
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    names |= {".".join(name.split(".")[:length]) for name in names for length in range(1, name.count(".") + 1)}
    return frozenset(path for name in names if (path := module_file(name)))


def library_files(*files: Path) -> list[str]:
    """The files themselves and every file that they import, directly or not, sorted."""
    found, waiting = set(), list(files)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += direct_imports(file)
    return sorted(str(file) for file in found)


def files_of_stage(stage: str) -> list[str]:
    """The script of a stage, and every file of this repository that it imports."""
    return library_files(Path("stages") / f"{stage}.py", Path("stages/__init__.py"))


def with_deps(text: str) -> str:
    """The text of dvc.yaml with the files of every stage renewed; what is no Python file stays."""
    head, separator, rest = text.partition("\nplots:")
    return (
        STAGE.sub(lambda match: DEPS.sub(lambda deps: _renewed(match[1], deps[1]), match[0]), head) + separator + rest
    )


def _renewed(stage: str, deps: str) -> str:
    data = [dep for dep in re.findall(r"[^\s,]+", deps) if not dep.endswith(".py")]
    lines = [f"{', '.join(names)}," for names in (data, files_of_stage(stage))]
    wrapped = [textwrap.fill(line, WIDTH - 6, break_on_hyphens=False) for line in lines]
    return "    deps: [\n" + textwrap.indent("\n".join(wrapped), " " * 6) + "\n    ]\n"


def main() -> None:
    DVC_YAML.write_text(with_deps(DVC_YAML.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
