"""Other answers to alibi_bias."""

import torch

from llama_lessons import extrapolation
from tests.grading.answers import right, wrong


def refuse(query_len, key_len):
    if query_len > key_len:
        raise ValueError(f"{query_len} queries, {key_len} keys")


@right
def by_einsum(slopes, query_len, key_len):
    if key_len < query_len:
        raise ValueError(f"{query_len} queries do not fit {key_len} keys")
    positions = torch.arange(key_len, device=slopes.device)
    past = (positions[None, :] - positions[-query_len:, None]).clamp(max=0)
    return torch.einsum("h,qk->hqk", slopes, past.to(slopes.dtype))


@right
def by_a_cumulative_sum(slopes, query_len, key_len):
    if query_len > key_len:
        raise ValueError("too many queries")
    # How many later places up to the query there are: ones below the diagonal, summed from the right.
    ones = torch.ones(key_len, key_len, device=slopes.device).tril(-1)
    past = ones.flip(1).cumsum(1).flip(1)[key_len - query_len :]
    return -(slopes.view(-1, 1, 1) * past)


@right
def by_loops(slopes, query_len, key_len):
    refuse(query_len, key_len)
    heads = []
    for slope in slopes:
        rows = []
        for q in range(key_len - query_len, key_len):
            rows.append(torch.stack([slope * min(k - q, 0) for k in range(key_len)]))
        heads.append(torch.stack(rows))
    return torch.stack(heads)


@right
def by_triangle(slopes, query_len, key_len):
    refuse(query_len, key_len)
    line = torch.arange(key_len, device=slopes.device, dtype=slopes.dtype)
    square = (line - line[:, None]).tril()[-query_len:]
    return slopes.reshape(-1, 1, 1).mul(square)


@right
def by_outer_product(slopes, query_len, key_len):
    refuse(query_len, key_len)
    distances = (torch.arange(query_len)[:, None] + (key_len - query_len) - torch.arange(key_len)).relu()
    flat = torch.outer(slopes, distances.flatten().to(slopes))
    return -flat.view(-1, query_len, key_len)


@right
def by_where(slopes, query_len, key_len):
    refuse(query_len, key_len)
    q = torch.arange(key_len, device=slopes.device)[None, -query_len:, None]
    k = torch.arange(key_len, device=slopes.device)[None, None]
    return torch.where(k > q, torch.zeros((), device=slopes.device), -slopes[:, None, None] * (q - k))


@wrong(called="the key's position alone")
def that_needs_no_keys_axis(slopes, query_len, key_len):
    refuse(query_len, key_len)
    # The same for each query up to a constant, which a softmax ignores; but not what is asked for.
    return (slopes[:, None, None] * torch.arange(key_len)).expand(-1, query_len, -1)


@wrong(called="no gradient to slopes")
def without_gradients(slopes, query_len, key_len):
    refuse(query_len, key_len)
    return by_triangle(torch.tensor(slopes.tolist()), query_len, key_len)


@wrong(called="slopes of the rule, whatever they are")
def with_slopes_of_its_own(slopes, query_len, key_len):
    refuse(query_len, key_len)
    return extrapolation.alibi_bias(len(slopes), query_len, key_len)


@wrong()
def cut_at_a_thousand(slopes, query_len, key_len):
    return by_triangle(slopes, query_len, key_len).clamp(min=-1000)


@wrong()
def in_half_precision_inside(slopes, query_len, key_len):
    return by_triangle(slopes.bfloat16(), query_len, key_len).float()


@wrong(called="distances in half precision")
def of_distances_in_half_precision(slopes, query_len, key_len):
    refuse(query_len, key_len)
    distances = torch.arange(key_len - query_len, key_len)[:, None] - torch.arange(key_len)
    return -slopes[:, None, None] * distances.clamp(min=0).half().float()


@wrong(called="the sizes of slopes")
def of_the_slopes_sizes(slopes, query_len, key_len):
    return by_triangle(slopes.abs(), query_len, key_len)


def distances(query_len, key_len):
    return torch.arange(key_len - query_len, key_len)[:, None] - torch.arange(key_len)


@wrong(called="later keys get a bonus, and queries counted from 0")
def from_the_formula_alone(slopes, query_len, key_len):
    q, k = torch.arange(query_len)[:, None], torch.arange(key_len)[None]
    return -slopes[:, None, None] * (q - k)


@wrong(called="later keys get a bonus")
def with_no_clamp_and_no_guard(slopes, query_len, key_len):
    return -slopes.view(-1, 1, 1) * distances(query_len, key_len)


@wrong(called="the diagonal of the first key")
def by_tril_of_the_product(slopes, query_len, key_len):
    refuse(query_len, key_len)
    return torch.tril(-slopes[:, None, None] * distances(query_len, key_len))


@wrong(called="later keys are hidden")
def hidden_by_masked_fill(slopes, query_len, key_len):
    refuse(query_len, key_len)
    distance = distances(query_len, key_len)
    return (-slopes[:, None, None] * distance).masked_fill(distance < 0, float("-inf"))


@wrong()
def hidden_by_a_large_number(slopes, query_len, key_len):
    refuse(query_len, key_len)
    distance = distances(query_len, key_len)
    return (-slopes[:, None, None] * distance).masked_fill(distance < 0, -1e9)


@wrong(called="no gradient to slopes")
def number_by_number(slopes, query_len, key_len):
    refuse(query_len, key_len)
    found = torch.zeros(len(slopes), query_len, key_len)
    for h in range(len(slopes)):
        for i in range(query_len):
            for j in range(key_len - query_len + i):
                found[h, i, j] = -slopes[h].item() * (key_len - query_len + i - j)
    return found


@wrong(called="queries counted from 0")
def the_first_rows(slopes, query_len, key_len):
    refuse(query_len, key_len)
    return -slopes[:, None, None] * distances(key_len, key_len).clamp(min=0)[:query_len]


@wrong(called="a slope for each key")
def with_no_axes(slopes, query_len, key_len):
    refuse(query_len, key_len)
    return -slopes * distances(query_len, key_len).clamp(min=0)


@wrong()
def that_looks_128_tokens_back(slopes, query_len, key_len):
    refuse(query_len, key_len)
    return -slopes[:, None, None] * distances(query_len, key_len).clamp(0, 128)


@wrong()
def from_a_table_of_2048(slopes, query_len, key_len):
    refuse(query_len, key_len)
    table = distances(2048, 2048).clamp(min=0)
    return -slopes[:, None, None] * table[key_len - query_len : key_len, :key_len]


DISTANCES, BIASES = {}, {}


@wrong()
def distances_kept_by_key_len(slopes, query_len, key_len):
    refuse(query_len, key_len)
    return -slopes[:, None, None] * DISTANCES.setdefault(key_len, distances(query_len, key_len).clamp(min=0))


@wrong(never=("slopes of the rule, whatever they are",))
def biases_kept_by_sizes(slopes, query_len, key_len):
    refuse(query_len, key_len)
    found = -slopes[:, None, None] * distances(query_len, key_len).clamp(min=0)
    return BIASES.setdefault((len(slopes), query_len, key_len), found)


@wrong()
def that_serves_too_many_queries(slopes, query_len, key_len):
    return -slopes[:, None, None] * distances(key_len, key_len).clamp(min=0)[-query_len:]


@wrong(called="the sizes of slopes")
def by_absolute_slopes(slopes, query_len, key_len):
    if query_len > key_len:
        raise ValueError("more queries than keys")
    keys = torch.arange(key_len, device=slopes.device)
    return -slopes.abs()[:, None, None] * (keys[key_len - query_len :, None] - keys).clamp(min=0)
