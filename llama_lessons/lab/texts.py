"""Texts that lessons let the real model read."""

import json

from llama_lessons.lab.materials import fetch

__all__ = ["king_james_book"]


def king_james_book(book: str) -> str:
    """The words of one book of the King James Bible, such as "Ecclesiastes", its verses joined by spaces.

    Raises:
        ValueError: if there is no such book.
        MaterialError: if the text is not in the cache and cannot be fetched.
    """
    verses = [json.loads(line) for line in fetch("king_james").read_text(encoding="utf-8").splitlines()]
    words = " ".join(verse["text"] for verse in verses if verse["book"] == book)
    if not words:
        raise ValueError(f"there is no book {book!r}; there are {', '.join(dict.fromkeys(v['book'] for v in verses))}")
    return words
