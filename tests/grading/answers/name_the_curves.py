"""Other answers to name_the_curves."""

from tests.grading.answers import right, wrong


@right
def as_a_list():
    return [4, 8, 2, 1, 5, 3, 7, 9]


@right
def with_points():
    return 4.0, 8.0, 2.0, 1.0, 5.0, 3.0, 7.0, 9.0


@wrong()
def curve_D_called_slow():
    return 4, 8, 2, 6, 5, 3, 7, 9


@wrong()
def all_right():
    return (1,) * 8


@wrong(called=None)
def one_too_few():
    return 4, 8, 2, 1, 5, 3, 7


@wrong(called=None)
def letters():
    return tuple("dhbaecgi")


@wrong(called=None)
def counted_from_0():
    return 3, 7, 1, 0, 4, 2, 6, 8
