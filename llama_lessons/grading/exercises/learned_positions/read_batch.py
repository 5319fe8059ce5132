"""Exercise 5: a table laid along the batch."""

from collections.abc import Callable

import torch  # noqa: F401  (slips use it)
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ...exercise import Exercise
from ...expect import draw, expect_close, expect_gradients, expect_like, expect_same_for_views
from ...families import batch_of_one, needs_contiguous, no_gradient
from .common import WRONG_ROWS, exact_sum


def causal_attention(x: Tensor) -> Tensor:
    """Lesson 00's attention: each token sees itself and the tokens before it."""
    return scaled_dot_product_attention(x, x, x, is_causal=True)


def read_batch(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    end = start_pos + x.shape[1]
    rows = table[start_pos:end]
    told = x + rows
    return causal_attention(told)


def exact_read(x: Tensor, table: Tensor, start_pos: int = 0) -> Tensor:
    return causal_attention(exact_sum(table, x, start_pos))


def cases() -> list[tuple]:
    table = draw(40, 8, seed=9)
    shapes = ((4, 6, 0), (2, 5, 7), (5, 2, 3), (3, 3, 0), (4, 4, 2), (1, 5, 0), (1, 5, 4), (3, 1, 5), (2, 8, 1))
    made: list[tuple] = [(draw(n, length, 8, seed=i), table, pos) for i, (n, length, pos) in enumerate(shapes)]
    made += [(draw(2, 4, 8, seed=20), table), (draw(3, 2, 8, seed=21).transpose(0, 1), table, 4)]
    return [*made, (draw(2, 3, 8).requires_grad_(), draw(40, 8, seed=9).requires_grad_(), 1)]


exercise = Exercise(
    read_batch,
    points=5,
    minutes=6,
    cases=cases,
    returns=Tensor,
    hints=(
        "Nothing is wrong with causal_attention. What is added before it? Your depends_on of exercise 2 can be asked "
        "about the sum alone, lambda x: x + rows; or print the shapes of x and of rows for 4 texts of 6 tokens.",
        "How many rows are read for that batch: as many as there are texts, or as many as a text has tokens? And to "
        "which axis of x does the long axis of rows get lined up?",
        "Rows of shape (seq_len, dim), added to (batch, seq_len, dim), are lined up from the right: each text gets all "
        "of them, one for each token. An axis of length 1 in the middle prevents that.",
    ),
)


def expect_read(answer: Callable, x: Tensor, table: Tensor, start_pos: int) -> None:
    where = f"x of shape {tuple(x.shape)}, start_pos {start_pos}"
    got = answer(x, table, start_pos)
    expect_like(got, shape=tuple(x.shape), dtype=x.dtype, where=where)
    expect_close(got, exact_read(x, table, start_pos), where=where, rtol=2e-5, atol=2e-5)


@exercise.property("one text: token i gets row i, and sees itself and the tokens before it")
def one_text(answer: Callable) -> None:
    expect_read(answer, draw(1, 5, 8), draw(40, 8, seed=9), 0)
    expect_read(answer, draw(1, 12, 4, seed=1), draw(12, 4, seed=9), 0)


@exercise.property("several texts, as many as tokens or as rows, or more: each gets the rows 0, 1, 2, ...")
def several_texts(answer: Callable) -> None:
    for batch, seq_len, n_rows in ((4, 6, 40), (6, 4, 40), (2, 9, 40), (3, 1, 40), (2, 2, 40), (5, 5, 5), (9, 3, 4)):
        expect_read(answer, draw(batch, seq_len, 8, seed=batch), draw(n_rows, 8, seed=9), 0)


@exercise.property("start_pos is the row of the first token, 0 where it is not given")
def start_pos_is_used(answer: Callable) -> None:
    table = draw(2_100, 8, seed=9)
    for batch, seq_len, start_pos in ((1, 5, 4), (3, 6, 17), (4, 4, 1), (2, 1, 39), (2, 3, 2_090)):
        expect_read(answer, draw(batch, seq_len, 8, seed=seq_len), table, start_pos)
    x = draw(2, 5, 8)
    expect_close(answer(x, table), exact_read(x, table), where="start_pos not given", rtol=2e-5, atol=2e-5)


@exercise.property("a text's result does not depend on its place in the batch")
def place_in_the_batch(answer: Callable) -> None:
    x, table = draw(5, 6, 8), draw(40, 8, seed=9)
    together = answer(x, table, 3)
    for i in range(len(x)):
        expect_close(together[i : i + 1], answer(x[i : i + 1], table, 3), where=f"text {i} of 5, against it alone")
    expect_close(answer(x.flip(0), table, 3).flip(0), together, where="five texts in the other order")


@exercise.property("numbers need not lie in memory in the order of their axes")
def not_contiguous(answer: Callable) -> None:
    expect_same_for_views(answer, draw(2, 5, 8), draw(12, 8, seed=9), 3, where="x and a table")


@exercise.property("gradients: x and the rows of all positions read learn, and no others")
def gradients(answer: Callable) -> None:
    for start_pos in (0, 4):
        args = draw(2, 5, 8), draw(12, 8, seed=9), start_pos
        expect_gradients(answer, exact_read, *args, names=("x", "the table"))


exercise.slips(
    """
    the planted bug: rows = table[start_pos:end] -> rows = table[torch.arange(start_pos, start_pos + len(x))][:, None]
        The bug is still there: every token of a text gets the same row, and it is row start_pos plus the text's number
        in the batch. Which axis of x is counted, and which one should be?
""",
    given=True,
)
exercise.slips(WRONG_ROWS)
exercise.slips("""
    the mask lost: return causal_attention(told) -> return scaled_dot_product_attention(told, told, told)
        The causal mask got lost: each token sees those after it too. causal_attention was right as it stood.
    mixed without positions: causal_attention(told) -> scaled_dot_product_attention(told, told, x, is_causal=True)
        Scores come from tokens with rows, but what is mixed are the tokens without rows. Give causal_attention the sum,
        and it does both.
    transposed, and not back: told = x + rows -> told = x.transpose(0, 1) + rows[:, None]
        Your result is that of x transposed, (seq_len, batch, dim), as if to fit the table, and left so: attention mixes
        the texts of the batch, and the axes come out exchanged. Give the rows the right shape, and leave x as it is.
    transposed back late: causal_attention(told) -> causal_attention(x.transpose(0, 1) + rows[:, None]).transpose(0, 1)
        Your result is that of x transposed, as if to fit the table, and transposed back only after attention: so
        attention runs along the batch, and mixes texts that have nothing to do with each other.
    added after attention: return causal_attention(told) -> return causal_attention(x) + rows
        The rows are added to what attention gives: it compares and mixes the tokens without their rows. Add first.
    no attention: return causal_attention(told) -> return told
        Attention is gone: what comes out is the sum alone. Only the rows needed mending.
    tokens added again: causal_attention(told) -> x + causal_attention(told)
        The tokens are added to what attention gives, as in a residual connection. Its result alone is asked for.
    the sum added again: causal_attention(told) -> told + causal_attention(told)
        The sum is added to what attention gives, as in a residual connection. Its result alone is asked for.
    x changed in place: told = x + rows -> told = x.add_(rows)
        The numbers are right, but x itself is changed, as by x += rows, and its caller may still need it.
""")
no_gradient(exercise, "x", "Nothing below would learn.")
batch_of_one(exercise, "x")
needs_contiguous(exercise, "x")
