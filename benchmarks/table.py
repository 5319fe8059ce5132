"""The table of figures, as Markdown: printed by the benchmarks, and kept in the README between two marks."""

import re
from typing import Any

__all__ = ["markdown", "put_into_readme"]

_MARKED = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)


def markdown(results: dict[str, Any]) -> str:
    """The table, and lines that say when and where its figures were taken."""
    lines = ["| What | Ours | Beside | | Better by | Of the limit |", "|---|---:|---|---:|---:|---:|"]
    taken: dict[str, list[str]] = {}
    for name, benchmark in results.items():
        for row in benchmark["rows"]:
            ours, theirs = (f"{_short(row[side])} {row['unit']}" for side in ("ours", "theirs"))
            share = "" if row["share_of_limit"] is None else f"{row['share_of_limit']:.0%}"
            lines.append(f"| {row['what']} | {ours} | {row['peer']} | {theirs} | {row['better']:.2f} x | {share} |")
        versions = ", ".join(f"{package} {version}" for package, version in benchmark["versions"].items())
        taken.setdefault(f"{benchmark['date']}: {benchmark['machine']}; {versions}", []).append(name)
    notes = [f"Taken on {where} ({', '.join(names)})." for where, names in taken.items()]
    return "\n".join(lines) + "\n\n" + "\n".join(notes) + "\n"


def put_into_readme(readme: str, results: dict[str, Any]) -> str:
    """The README with the table between its marks.

    Raises:
        ValueError: if the marks are not there.
    """
    if not _MARKED.search(readme):
        raise ValueError("the README has no <!-- benchmarks --> ... <!-- /benchmarks -->")
    return _MARKED.sub(lambda match: match[1] + markdown(results) + match[2], readme)


def _short(value: float) -> str:
    # Three digits that count, and no point where they stand before it.
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"
