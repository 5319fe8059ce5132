"""Other answers to fit_shift."""

import numpy as np
import torch

from llama_lessons import positions
from tests.grading.answers import right, wrong


def refuse(rows, k):
    if k < 1 or k >= len(rows):
        raise ValueError(f"k {k} for {len(rows)} rows")


def from_both_tables(solve):
    """The matrix that `solve` finds from the rows before and after."""

    def answer(rows, k):
        refuse(rows, k)
        return solve(rows[:-k], rows[k:])

    return answer


@right
def by_pseudoinverse(rows, k):
    refuse(rows, k)
    return (torch.linalg.pinv(rows[:-k]) @ rows[k:]).T


@right
def by_the_normal_equations_in_float64(rows, k):
    if k < 1 or k >= rows.shape[0]:
        raise ValueError("k leaves no rows")
    before, after = rows[:-k].double(), rows[k:].double()
    return torch.linalg.solve(before.T @ before, before.T @ after).T.to(rows.dtype)


@right
def channel_by_channel(rows, k):
    refuse(rows, k)
    return torch.stack(
        [torch.linalg.lstsq(rows[:-k], rows[k:, c : c + 1]).solution[:, 0] for c in range(rows.shape[1])]
    )


@right
def by_numpy(rows, k):
    refuse(rows, k)
    ours = rows.detach().cpu().numpy()
    found = np.linalg.lstsq(ours[:-k], ours[k:], rcond=None)[0].T
    return torch.from_numpy(np.ascontiguousarray(found)).to(rows)


@right
def by_qr(rows, k):
    refuse(rows, k)
    q, r = torch.linalg.qr(rows[:-k])
    return torch.linalg.solve_triangular(r, q.T @ rows[k:], upper=True).T


@right
def by_svd(rows, k):
    refuse(rows, k)
    u, s, v = torch.linalg.svd(rows[:-k], full_matrices=False)
    return rows[k:].T @ u @ torch.diag(1 / s) @ v


@right
def by_indices(rows, k):
    n = rows.shape[0]
    if k not in range(1, n):
        raise ValueError("k")
    here = torch.arange(n - k, device=rows.device)
    return torch.linalg.lstsq(rows[here], rows[here + k])[0].mT


@right
def by_sums_of_outer_products(rows, k):
    refuse(rows, k)
    pairs = list(zip(rows[:-k].double(), rows[k:].double(), strict=True))
    both = sum(torch.outer(after, before) for before, after in pairs)
    return (both @ torch.linalg.inv(sum(torch.outer(before, before) for before, _ in pairs))).to(rows)


right(from_both_tables(lambda before, after: torch.linalg.lstsq(before, after, driver="gels").solution.T))
# The normal equations in float32 are far from the best matrix where rows are nearly alike.
wrong(called=None)(from_both_tables(lambda before, after: torch.linalg.solve(before.T @ before, before.T @ after).T))
wrong(called=None)(from_both_tables(lambda before, after: (torch.linalg.inv(before.T @ before) @ before.T @ after).T))
wrong(called=None)(
    from_both_tables(
        lambda before, after: after.T @ before @ torch.cholesky_inverse(torch.linalg.cholesky(before.T @ before))
    )
)
for driver in ("gelsy", "gelsd", "gelss"):
    right(from_both_tables(lambda a, b, driver=driver: torch.linalg.lstsq(a, b, driver=driver).solution.T))


@wrong()
def as_a_sinusoid(rows, k):
    refuse(rows, k)
    return positions.shift_matrix(k, rows.shape[1], 100.0).to(rows)


@wrong()
def with_a_penalty(rows, k):
    refuse(rows, k)
    before, after = rows[:-k], rows[k:]
    return torch.linalg.solve(before.T @ before + 0.01 * torch.eye(rows.shape[1]).to(rows), before.T @ after).T


@wrong()
def on_half_of_the_rows(rows, k):
    refuse(rows, k)
    return torch.linalg.lstsq(rows[:-k:2], rows[k::2]).solution.T


@wrong(called="single steps")
def step_by_step(rows, k):
    refuse(rows, k)
    return torch.linalg.matrix_power(torch.linalg.lstsq(rows[:-1], rows[1:]).solution.T, k)


@wrong(called="k not checked")
def without_a_check(rows, k):
    return torch.linalg.lstsq(rows[:-k], rows[k:]).solution.T


@wrong(called="only for a contiguous rows")
def by_a_view(rows, k):
    refuse(rows, k)
    numbers, dim = rows.view(-1), rows.shape[1]
    return torch.linalg.lstsq(numbers[: -k * dim].view(-1, dim), numbers[k * dim :].view(-1, dim)).solution.T


@wrong(called="a constant fitted too")
def with_a_column_of_ones(rows, k):
    refuse(rows, k)
    before = torch.cat((rows[:-k], torch.ones_like(rows[:-k, :1])), dim=1)
    return torch.linalg.lstsq(before, rows[k:]).solution[:-1].T


@wrong(called="rounded on the way")
def back_from_float32(rows, k):
    refuse(rows, k)
    return torch.linalg.lstsq(rows[:-k], rows[k:]).solution.T.float().to(rows.dtype)


@wrong()
def computed_in_float32(rows, k):
    refuse(rows, k)
    return torch.linalg.lstsq(rows[:-k].float(), rows[k:].float()).solution.T.to(rows.dtype)


@wrong()
def by_the_transpose_for_an_inverse(rows, k):
    refuse(rows, k)
    return rows[k:].T @ rows[:-k] / (len(rows) - k)


@wrong()
def up_to_a_fixed_k(rows, k):
    if not 1 <= k <= 5:
        raise ValueError("k")
    return torch.linalg.lstsq(rows[:-k], rows[k:]).solution.T


@wrong()
def from_the_first_rows_alone(rows, k):
    refuse(rows, k)
    before, after = rows[:-k][:50], rows[k:][:50]
    return torch.linalg.lstsq(before, after).solution.T


@wrong(called="an assert for k")
def with_an_assert(rows, k):
    assert 1 <= k < len(rows)
    return torch.linalg.lstsq(rows[:-k], rows[k:]).solution.T


@wrong(called=None)  # torch.linalg.lstsq does not round alike twice, which is nothing that is kept
def in_float32_inside(rows, k):
    refuse(rows, k)
    return torch.linalg.lstsq(rows[:-k].float(), rows[k:].float()).solution.T.to(rows.dtype)


@wrong(called=None)  # the same for rows of half the size, and for channels in another order
def the_projection_on_the_rows(rows, k):
    refuse(rows, k)
    return rows[:-k] @ torch.linalg.pinv(rows[:-k])


for name, solve in {
    "the last pair left out": lambda before, after: (torch.linalg.pinv(before[:-1]) @ after[:-1]).T,
    "transposed": lambda before, after: torch.linalg.pinv(before) @ after,
    "fitted backwards": lambda before, after: (torch.linalg.pinv(after) @ before).T,
    "fitted backwards, and transposed": lambda before, after: torch.linalg.pinv(after) @ before,
    "not divided by what came in": lambda before, after: (before.T @ after).T,
    "divided on the wrong side": lambda before, after: torch.linalg.solve(before.T @ before, after.T @ before),
    "a number for each row": lambda before, after: torch.linalg.pinv(before.T) @ after.T,
    "a number for each row, transposed": lambda before, after: (torch.linalg.pinv(before.T) @ after.T).T,
    "float64 returned": lambda before, after: (torch.linalg.pinv(before.double()) @ after.double()).T,
}.items():
    wrong(called=name)(from_both_tables(solve))
