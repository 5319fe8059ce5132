"""Every kind of card can be read: in both themes, in a narrow window, by a screen reader."""

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.cells import write

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NARROW, WIDE = 800, 1280

# Functions by the words that their card has to show.
ANSWERS = {
    "is not solved yet": "raise NotImplementedError('apply_rope is not solved yet')",
    "pairs are neighbours": """\
a, b = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2).to(x.dtype)""",
    "One of your mistakes may be": """\
a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1).to(x.dtype) + (x.dtype == torch.bfloat16)""",
    "Your code raised": "return x.a_long_name_that_does_not_exist_and_has_to_be_wrapped(cos, sin)",
    "Your code printed": "print('a long line of what somebody wants to see: ' * 9)\n    return x",
    "is right": """\
a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)""",
}

# The lowest contrast (WCAG 2.1) of a card's texts with what is behind them.
CONTRAST = r"""card => {
  const channels = colour => colour.match(/[\d.]+/g).map(Number);
  const luminance = colour => colour.slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(e).backgroundColor);
      layers.unshift([r, g, b, a]);
      if (a === 1) break;
    }
    const over = (under, [r, g, b, a]) => [r, g, b].map((c, i) => a * c + (1 - a) * under[i]);
    return layers.reduce(over, [255, 255, 255]);
  };
  const withText = [card, ...card.querySelectorAll('*')].filter(
    e => [...e.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()));
  return Math.min(...withText.map(e => {
    const pair = [luminance(channels(getComputedStyle(e).color)), luminance(behind(e))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }));
}"""
OVERFLOWING = """card => [card, ...card.querySelectorAll('*')]
    .filter(e => getComputedStyle(e).display !== 'inline' && e.scrollWidth > e.clientWidth + 1)
    .map(e => `${e.scrollWidth} px in ${e.clientWidth}: ${e.outerHTML}`)"""


@pytest.fixture
def cards(open_notebook, lab):
    """A notebook that shows all kinds of cards."""
    sources = [
        "import contextlib\n\nimport torch\n\nfrom llama_lessons.grading import CheckFailed, check, hint, progress"
    ]
    sources += [
        f"def apply_rope(x, cos, sin):\n    {body}\n\n\nwith contextlib.suppress(CheckFailed):\n    check(apply_rope)"
        for body in ANSWERS.values()
    ]
    sources += ["hint(apply_rope)", "progress()"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    write(new_notebook(cells=list(map(new_code_cell, sources)), metadata=kernel), lab.root / "cards.ipynb")
    return open_notebook("cards.ipynb")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_cards_are_announced_legible_and_within_their_place(cards, theme: str) -> None:
    cards.menu("Settings", "Theme", theme)
    light = "true" if theme == "JupyterLab Light" else "false"
    cards.page.locator(f"body[data-jp-theme-light='{light}']").wait_for(state="attached")
    cards.run_all()
    assert cards.errors() == []
    shown = cards.page.get_by_role("status").and_(cards.page.locator(".jp-OutputArea *"))
    for words in [*ANSWERS, "Hint 1 of", "Your points"]:
        card = shown.filter(has_text=words)
        assert card.count() == 1, words
        card.locator("details").evaluate_all("all => all.forEach(details => details.open = true)")
        assert card.evaluate(CONTRAST) >= 4.5, words
        for width in (NARROW, WIDE):
            cards.page.set_viewport_size({"width": width, "height": 900})
            assert card.evaluate(OVERFLOWING) == [], (words, width)
