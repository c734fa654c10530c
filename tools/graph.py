"""Draw the stages of dvc.yaml and the data that passes between them.

    python -m tools.graph              # writes docs/graph.svg
    python -m tools.graph graph.png    # writes another file; the ending of its name selects the format

An arrow goes from the stage that writes a path to a stage that reads this path. An arrow is left out where other arrows
already join the two stages. A box shows the name of a stage and the material that the stage writes.
"""

import argparse
from pathlib import Path, PurePosixPath

import matplotlib as mpl
import networkx as nx
from grandalf.graphs import Edge, Graph, Vertex
from grandalf.layouts import SugiyamaLayout, VertexViewer
from grandalf.routing import EdgeViewer
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from ruamel.yaml import YAML

WIDTH, HEIGHT, MARGIN = 1.75, 0.6, 0.06  # of a box and around the picture, in inches


def paths(entries: list) -> list[PurePosixPath]:
    """The paths of a stage's deps or outs. An entry is a path or, with options, ``{path: {option: value}}``."""
    return [PurePosixPath(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries]


def arrows(stages: dict) -> list[tuple[str, str]]:
    """The pairs of writer and reader, transitively reduced and sorted."""
    written = [(out, name) for name, stage in stages.items() for out in paths(stage.get("outs", []))]
    read = [(dep, name) for name, stage in stages.items() for dep in paths(stage.get("deps", []))]
    joined = [(a, b) for out, a in written for dep, b in read if dep.is_relative_to(out) or out.is_relative_to(dep)]
    return sorted(nx.transitive_reduction(nx.DiGraph([(a, b) for a, b in joined if a != b])).edges)


def layout(stages: dict) -> tuple[list[Vertex], list[Edge]]:
    """Boxes with their centres and arrows with the points that they pass, in inches (Sugiyama et al., 1981)."""
    boxes = {name: Vertex(name) for name in stages}
    for box in boxes.values():
        box.view = VertexViewer(WIDTH, HEIGHT)
    edges = [Edge(boxes[start], boxes[end]) for start, end in arrows(stages)]
    for edge in edges:
        edge.view = EdgeViewer()
    sugiyama = SugiyamaLayout(Graph(list(boxes.values()), edges).C[0])
    sugiyama.xspace, sugiyama.yspace, sugiyama.dw = 0.2, 0.35, 0.1  # between boxes, between rows, width of a line
    sugiyama.init_all()
    sugiyama.draw(10)  # rounds of ordering against crossings
    return list(boxes.values()), edges


def draw(stages: dict) -> Figure:
    """The picture. A stage that writes outside of data/ has another colour and a box as wide as the picture."""
    boxes, edges = layout(stages)
    outs = {name: paths(stage.get("outs", [])) for name, stage in stages.items()}
    wide = [name for name in stages if not all(out.is_relative_to("data") for out in outs[name])]
    x, y = zip(*(box.view.xy for box in boxes), strict=True)
    left, right, bottom = min(x) - WIDTH / 2, max(x) + WIDTH / 2, max(y) + HEIGHT / 2
    figure = Figure(figsize=(right - left + 2 * MARGIN, bottom + 2 * MARGIN))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left - MARGIN, right + MARGIN), ylim=(bottom + MARGIN, -MARGIN))
    axes.axis("off")
    for box in boxes:
        name, (x, y) = box.data, box.view.xy
        start, end, fill = (left, right, "#fdebc8") if name in wide else (x - WIDTH / 2, x + WIDTH / 2, "#dcebf7")
        axes.add_patch(Rectangle((start, y - HEIGHT / 2), end - start, HEIGHT, facecolor=fill, edgecolor="0.45"))
        material = [str(out) for out in outs[name] if not out.is_relative_to("data/figures")] or map(str, outs[name])
        middle = {"x": (start + end) / 2, "ha": "center", "va": "center"}
        axes.text(y=y - 0.1, s=name, fontsize=11, weight="bold", **middle)
        axes.text(y=y + 0.15, s=", ".join(material), fontsize=8, color="0.2", **middle)
    for edge in edges:
        bends = [(x, y + side) for x, y in edge.view._pts for side in (-HEIGHT / 2, HEIGHT / 2)][1:-1]
        if edge.v[1].data in wide:
            bends[-1] = bends[-2][0], bends[-1][1]
        axes.add_patch(FancyArrowPatch(path=mpl.path.Path(bends), arrowstyle="-|>", mutation_scale=10, color="0.45"))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.graph", description=__doc__.partition("\n")[0])
    parser.add_argument("to", nargs="?", type=Path, default=Path("docs/graph.svg"), help="the file to write")
    to = parser.parse_args().to
    mpl.rc("svg", fonttype="none", hashsalt="graph")  # text stays text; equal ids in every run, so equal bytes
    figure = draw(YAML(typ="safe").load(Path("dvc.yaml"))["stages"])
    figure.savefig(to, dpi=110, metadata={"Date": None} if to.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
