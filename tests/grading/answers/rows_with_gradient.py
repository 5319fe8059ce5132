"""Other answers to rows_with_gradient."""

import numpy as np
import torch

from tests.grading.answers import right, wrong


@right
def in_numpy_with_where(grad):
    if grad is None:
        return []
    return np.where((grad.double().cpu().numpy() != 0).any(axis=1))[0].tolist()


@right
def unique_rows_of_nonzero(grad):
    return [] if grad is None else grad.nonzero()[:, 0].unique().tolist()


@right
def number_by_number(grad):
    found = []
    for i in range(0 if grad is None else grad.shape[0]):
        for j in range(grad.shape[1]):
            if grad[i, j].item() != 0.0:
                found.append(i)
                break
    return found


@right
def rows_that_differ_from_zeros(grad):
    if grad is None:
        return []
    return [i for i in range(len(grad)) if not torch.equal(grad[i], torch.zeros_like(grad[i]))]


@wrong()
def a_tensor_of_rows(grad):
    return torch.tensor([]) if grad is None else (grad != 0).any(1).nonzero().flatten()


@wrong(called=None)
def a_list_of_tensors(grad):
    return [] if grad is None else list((grad != 0).any(1).nonzero().flatten())


@wrong(called=None)
def a_list_of_lists(grad):
    return [] if grad is None else (grad != 0).any(1).nonzero().tolist()


@wrong(called="stops at None")
def stops_for_none(grad):
    return (grad != 0).any(1).nonzero().flatten().tolist()


@wrong(called="None for None")
def none_for_none(grad):
    return None if grad is None else unique_rows_of_nonzero(grad)


@wrong(called="falling order")
def in_no_order(grad):
    return unique_rows_of_nonzero(grad)[::-1]


@wrong(called=None)
def floats(grad):
    return [float(row) for row in unique_rows_of_nonzero(grad)]


@wrong()
def by_the_norm(grad):
    return [] if grad is None else [i for i, row in enumerate(grad) if row.norm() > 1e-6]


@wrong(called=None)
def in_the_last_channel(grad):
    return [] if grad is None else (grad[:, -1] != 0).nonzero().flatten().tolist()


@wrong(called="small ones left out")
def by_a_tiny_tolerance(grad):
    return [] if grad is None else [i for i, row in enumerate(grad) if row.abs().max() > 1e-12]


@right
def by_the_largest(grad):
    if grad is None:
        return []
    largest = grad.abs().amax(dim=1)
    return [row for row in range(len(largest)) if largest[row] > 0]


@right
def sorted_set(grad):
    return sorted({row for row, _ in grad.nonzero().tolist()}) if grad is not None else []


@right
def by_counting(grad):
    found = []
    for row in grad if grad is not None else ():
        found.append(bool(row.count_nonzero()))
    return [i for i, flag in enumerate(found) if flag]


@right
def by_sums_of_sizes(grad):
    return [] if grad is None else torch.where(grad.abs().sum(dim=-1) > 0)[0].tolist()


@right
def by_argwhere(grad):
    return [] if grad is None else torch.argwhere(grad.bool().any(-1)).squeeze(1).tolist()


@wrong(called="order of a set")
def as_a_set(grad):
    return [] if grad is None else list(set(grad.nonzero()[:, 0].tolist()))


@wrong(called="order of a set")
def as_a_set_comprehension(grad):
    return list({i for i in range(len(grad)) for g in grad[i] if g != 0}) if grad is not None else []


@wrong(called=None)
def numpy_s_ints(grad):
    return [] if grad is None else list(np.nonzero((grad.cpu().numpy() != 0).any(1))[0])


@wrong(called="cancelling numbers lost")
def by_the_mean(grad):
    return [] if grad is None else (grad.mean(dim=1) != 0).nonzero().flatten().tolist()


@wrong(called="squares")
def by_the_length(grad):
    return [] if grad is None else (grad.norm(dim=1) > 0).nonzero().flatten().tolist()


@wrong(called="squares")
def by_the_length_of_each_row(grad):
    return [] if grad is None else [i for i, row in enumerate(grad) if torch.linalg.vector_norm(row) != 0]


@wrong(called="small ones left out")
def by_isclose(grad):
    return [] if grad is None else [i for i, r in enumerate(grad) if not torch.allclose(r, torch.zeros_like(r))]


@wrong(called="1e-60 lost in float64")
def by_a_float32_array(grad):
    return [] if grad is None else np.flatnonzero(grad.cpu().float().numpy().any(axis=1)).tolist()


@wrong(called="once for each number")
def by_two_loops(grad):
    if grad is None:
        return []
    return [i for i in range(grad.shape[0]) for j in range(grad.shape[1]) if grad[i, j] != 0]


@wrong(called="largest number")
def by_max(grad):
    return [] if grad is None else (grad.max(dim=1).values != 0).nonzero().squeeze(1).tolist()


@wrong()
def the_naive_sum(grad):
    return (grad.sum(1) != 0).nonzero().squeeze().tolist()


@wrong()
def squeezed_to_a_number(grad):
    return [] if grad is None else (grad != 0).any(1).nonzero().squeeze().tolist()


@wrong(called="those without")
def rows_of_zeros(grad):
    return [] if grad is None else [i for i, row in enumerate(grad) if not row.any()]


@wrong(called="rows and channels mixed")
def unique_places(grad):
    return [] if grad is None else grad.nonzero().unique().tolist()


@wrong()
def largest_first(grad):
    return [] if grad is None else [i for i in grad.abs().sum(1).argsort(descending=True).tolist() if grad[i].any()]


@wrong(called="only for a contiguous grad")
def by_view(grad):
    if grad is None:
        return []
    return torch.where(grad.view(-1) != 0)[0].div(grad.shape[1], rounding_mode="floor").unique().tolist()


def by_row(called, name, found):
    """A wrong answer that lists the rows for which found(grad), a bool for each, is True."""

    def answer(grad):
        return [] if grad is None else found(grad).nonzero().flatten().tolist()

    answer.__name__ = name
    wrong(called=called)(answer)


by_row(None, "beside_the_largest", lambda grad: grad.abs().amax(1) > grad.abs().max() * 1e-7)
by_row(None, "by_the_mean_size", lambda grad: grad.abs().mean(dim=1) > 0)
by_row("different numbers", "by_the_range", lambda grad: grad.amax(1) != grad.amin(1))
by_row("different numbers", "by_the_spread", lambda grad: grad.double().std(dim=1, unbiased=False) != 0)


@wrong(called=None)
def counted_in_the_dtype_of_grad(grad):
    if grad is None:
        return []
    numbers = torch.arange(len(grad)).to(grad)
    return [int(number) for number in numbers[(grad != 0).any(1)]]


@wrong(called="not in bfloat16")
def in_numpy_as_it_is(grad):
    return [] if grad is None else np.flatnonzero(grad.cpu().numpy().any(axis=1)).tolist()
