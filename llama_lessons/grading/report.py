"""Show verdicts: a card in a notebook, plain text in a terminal, the same words in both."""

import html
import os
import sys
import textwrap
from typing import Any

from llama_lessons.settings import VERDICTS, plain

from .verdict import Result, Verdict

__all__ = ["CheckFailed", "show", "show_verdict", "verdict_html", "verdict_text"]

MIME = "application/vnd.llama-lessons.verdict+json"
# Taken out of the environment, so that no cell comes upon it by chance.
_WORD = os.environ.pop(VERDICTS, "")


class CheckFailed(Exception):
    """An answer is not right yet. Its text is the whole verdict; a notebook shows that as a card instead.

    Args:
        message: what to say.
        verdict: the verdict as data, where the answer could be graded.
        shown: whether a card says it already.
    """

    def __init__(self, message: str, *, verdict: Verdict | None = None, shown: bool = False) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.shown = shown

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of a traceback: the grader's frames tell a learner nothing."""
        return [f"CheckFailed: {_briefly(self.verdict)}" if self.shown and self.verdict else f"CheckFailed: {self}"]


def in_notebook() -> bool:
    """Whether output goes to a notebook that shows HTML, and plain text was not asked for."""
    return not plain() and _kernel()


def _kernel() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def show(text: str, markup: str) -> None:
    """Display `markup` with `text` as its plain twin, or print `text` where nothing shows HTML."""
    if in_notebook():
        _display({"text/html": markup, "text/plain": text})
    else:
        print(text)


def show_verdict(verdict: Verdict) -> None:
    """Show a verdict, and send it to `make grade` where that has asked.

    Raises:
        CheckFailed: if the answer is not right.
    """
    __tracebackhide__ = True
    if _WORD and _kernel():
        _display({MIME: {"word": _WORD, "verdict": verdict.to_json()}})
    text, shown = verdict_text(verdict), in_notebook()
    if verdict.passed or shown:
        show(text, verdict_html(verdict))
    if not verdict.passed:
        raise CheckFailed(text, verdict=verdict, shown=shown)


def _display(data: dict[str, Any]) -> None:
    from IPython.display import display

    display(data, raw=True)


def quiet_terminal() -> None:
    """Outside IPython, let an uncaught CheckFailed print its message without a traceback."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        return
    previous = sys.excepthook
    if getattr(previous, "is_quiet", False):
        return

    def hook(kind: type, value: BaseException, trace: Any) -> None:
        if isinstance(value, CheckFailed):
            print(f"CheckFailed: {value}", file=sys.stderr)
        else:
            previous(kind, value, trace)

    hook.is_quiet = True
    sys.excepthook = hook


def headline(verdict: Verdict) -> str:
    """The first line of a verdict, the same on every machine."""
    name, full, total = verdict.exercise, verdict.full, len(verdict.results)
    passed = sum(result.passed for result in verdict.results)
    if verdict.passed:
        return f"{name} is right: {total} of {total} checks, {full} of {full} points."
    if verdict.unsolved:
        return f"{name} is not solved yet: put your answer in place of the line that raises."
    if verdict.problem:
        return f"{name} cannot be checked: {verdict.problem}."
    return f"{name} is not right yet: {passed} of {total} checks, {verdict.points} of {full} points."


def _briefly(verdict: Verdict) -> str:
    """What the traceback says below a card."""
    if verdict.unsolved:
        return f"{verdict.exercise} is not solved yet"
    return f"{verdict.exercise} {'cannot be checked' if verdict.problem else 'is not right yet'}"


def advice(verdict: Verdict) -> str:
    """What to do next."""
    return f"Stuck? Run hint({verdict.exercise})."


def suspicion(verdict: Verdict) -> str:
    """How the mistake that was seen is introduced."""
    how = "What seems to have happened" if verdict.mistake.sure else "One of your mistakes may be"
    return f"{how} ({verdict.mistake.name}):"


def verdict_text(verdict: Verdict) -> str:
    """The verdict in plain text, at most about one screen."""
    lines = [headline(verdict)]
    if verdict.passed:
        return "\n".join(lines + _wrapped(verdict.reason))
    if not verdict.unsolved and not verdict.problem:
        if verdict.mistake:
            lines += ["", suspicion(verdict), *_wrapped(verdict.mistake.diagnosis)]
        first = verdict.first_failure
        lines += ["", f"First check that failed: {first.name}", *(f"  {line}" for line in _detail(first).splitlines())]
        lines += ["", *(f"  {_mark(result, first)}  {result.name}" for result in verdict.results)]
    lines += _printed(verdict)
    return "\n".join([*lines, "", advice(verdict)])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 98, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _mark(result: Result, first: Result) -> str:
    # What fails after the first failure may do so because of it, and is not held against anybody by name.
    return "ok  " if result.passed else "FAIL" if result is first else "open"


def _detail(result: Result) -> str:
    return f"Your code raised:\n{_shorten(result.trace)}" if result.trace else _shorten(result.message)


def _printed(verdict: Verdict) -> list[str]:
    if not verdict.printed.strip():
        return []
    return ["", "Your code printed:", *(f"  {line}" for line in _shorten(verdict.printed.rstrip(), 6).splitlines())]


def _shorten(text: str, most: int = 10) -> str:
    """The first and the last lines of a text, at most `most`, each at most 300 characters."""
    lines = [line if len(line) <= 300 else line[:297] + "..." for line in text.splitlines()]
    if len(lines) > most:
        lines = [*lines[: most // 2], f"... {len(lines) - most} lines left out ...", *lines[-(most // 2) :]]
    return "\n".join(lines)


# Signs and words say what colours say. Jupyter's own variables follow its light and dark themes.
_CARD = (
    "border-left: 4px solid {colour}; padding: 6px 12px; margin: 4px 0; max-width: 60em; "
    "color: var(--jp-content-font-color1, inherit); line-height: 1.45"
)
_CODE = (
    "margin: 4px 0; padding: 6px 8px; white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere; "
    "background: var(--jp-layout-color2, rgba(128, 128, 128, 0.12))"
)
GREEN, ORANGE, BLUE = "#2a9d3a", "#d1730b", "#3377bb"


def card(title: str, body: str, colour: str) -> str:
    """A box with a coloured edge; `title` is text, `body` is markup."""
    return (
        f'<div role="status" style="{_CARD.format(colour=colour)}">'
        f"<div><strong>{html.escape(title)}</strong></div>{body}</div>"
    )


def verdict_html(verdict: Verdict) -> str:
    """The verdict as a card."""
    if verdict.passed:
        return card(f"✓ {headline(verdict)}", _paragraph(verdict.reason) if verdict.reason else "", GREEN)
    if verdict.unsolved:
        return card(f"○ {headline(verdict)}", _paragraph(advice(verdict)), BLUE)
    parts = []
    if not verdict.problem:
        if verdict.mistake:
            how, text = html.escape(suspicion(verdict)), html.escape(verdict.mistake.diagnosis)
            parts.append(f'<div style="margin: 6px 0"><em>{how}</em> {text}</div>')
        first = verdict.first_failure
        parts.append(f"<div>First check that failed: <strong>{html.escape(first.name)}</strong></div>")
        parts.append(f'<pre style="{_CODE}">{html.escape(_detail(first))}</pre>')
        words = {"ok  ": "✓ passed", "FAIL": "✗ failed", "open": "○ open"}
        items = "".join(
            f"<li>{words[_mark(result, first)]}: {html.escape(result.name)}</li>" for result in verdict.results
        )
        count = f"All {len(verdict.results)} checks"
        parts.append(
            f'<details><summary style="cursor: pointer">{count}</summary>'
            f'<ul style="list-style: none; margin: 2px 0; padding-left: 8px">{items}</ul></details>'
        )
    printed = _printed(verdict)
    if printed:
        parts.append(f'<div>{printed[1]}</div><pre style="{_CODE}">{html.escape(chr(10).join(printed[2:]))}</pre>')
    parts.append(_paragraph(advice(verdict)))
    return card(f"✗ {headline(verdict)}", "".join(parts), ORANGE)


def _paragraph(text: str) -> str:
    return f'<div style="margin-top: 4px">{html.escape(text)}</div>'
