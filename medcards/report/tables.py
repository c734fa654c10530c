"""Figures as a person reads them, in Markdown."""


def cell(interval: dict | float | str) -> str:
    """A figure as a table shows it, with its interval if it has one."""
    if isinstance(interval, str):
        return interval
    if isinstance(interval, float):
        return f"{interval:.3f}"
    return f"{interval['mean']:.3f} [{interval['lo']:.3f}, {interval['hi']:.3f}]"


def table(rows: dict[str, dict], columns: list[str], head: str) -> str:
    """A Markdown table of intervals: a row a system, a column a figure; a dash where it has none."""
    lines = [f"| {head} | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(cell(row[key]) if key in row else "-" for key in columns) + " |")
    return "\n".join(lines)
