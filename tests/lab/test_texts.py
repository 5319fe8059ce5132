"""Books of the King James Bible."""

import pytest

from llama_lessons.lab.texts import king_james_book


def test_a_book_begins_and_ends_as_it_should():
    ecclesiastes = king_james_book("Ecclesiastes")
    assert ecclesiastes.startswith("The words of the Preacher, the son of David, king in Jerusalem. Vanity of vanities")
    assert ecclesiastes.endswith("whether it be good, or whether it be evil.")


def test_an_unknown_book_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="there is no book 'Preacher'; there are Genesis, Exodus"):
        king_james_book("Preacher")
