"""Other answers to keep_top_p."""

import torch
import torch.nn.functional as F

from tests.grading.answers import right, wrong

INF = float("inf")


@right
def with_a_padded_sum(logits, p):
    if p == 1:
        return logits.clone()
    probabilities, ids = torch.sort(logits.float().softmax(-1), dim=-1, descending=True, stable=True)
    before = F.pad(probabilities.cumsum(-1), (1, -1))
    return torch.empty_like(logits).scatter(-1, ids, logits.gather(-1, ids).masked_fill(before >= p, -INF))


@right
def row_by_row(logits, p):
    result = torch.full_like(logits, -INF)
    for row, out in zip(logits.reshape(-1, logits.shape[-1]), result.view(-1, logits.shape[-1]), strict=True):
        shares, total = row.float().softmax(-1).tolist(), 0.0
        for token in sorted(range(len(shares)), key=lambda token: (-shares[token], token)):
            if total >= p and p < 1:
                break
            out[token] = row[token]
            total += shares[token]
    return result


@right
def counted_by_an_inverse_permutation(logits, p):
    if p >= 1:
        return logits + 0
    shares, order = logits.double().softmax(-1).sort(dim=-1, descending=True, stable=True)
    n_kept = (shares.cumsum(-1) - shares < p).sum(-1, keepdim=True)
    return logits.masked_fill(order.argsort(-1) >= n_kept, -INF)


@wrong(called="the best stays and the one that reaches p is cut")
def as_an_old_gist_without_its_shift(logits, p):
    if p == 1:
        return logits.clone()
    ordered, ids = torch.sort(logits.float(), descending=True, stable=True)
    remove = F.softmax(ordered, dim=-1).cumsum(dim=-1) > p
    remove[..., 0] = False
    return logits.masked_fill(torch.zeros_like(remove).scatter(-1, ids, remove), -INF)


@wrong(called="the token that reaches p is cut")
def strictly_below(logits, p):
    if p == 1:
        return logits.clone()
    ordered, ids = torch.sort(logits.float(), descending=True, stable=True)
    remove = ordered.softmax(-1).cumsum(-1) >= p
    return logits.masked_fill(torch.zeros_like(remove).scatter(-1, ids, remove), -INF)


@wrong()
def the_first_row_s_set(logits, p):
    kept = with_a_padded_sum(logits, p)
    first = kept.reshape(-1, logits.shape[-1])[0]
    return logits.masked_fill(first == -INF, -INF)


@wrong()
def all_rows_together(logits, p):
    return with_a_padded_sum(logits.flatten(), p).view_as(logits)


@wrong()
def at_least_two(logits, p):
    kept = with_a_padded_sum(logits, p)
    two = logits.topk(min(2, logits.shape[-1])).indices
    return kept.scatter(-1, two, logits.gather(-1, two))


@wrong()
def nothing_cut_below_a_half(logits, p):
    return with_a_padded_sum(logits, p if p == 1 else max(p, 0.5))


@wrong()
def half_precision_sums(logits, p):
    if p == 1:
        return logits.clone()
    shares, ids = logits.float().softmax(-1).to(logits.dtype).sort(dim=-1, descending=True, stable=True)
    remove = shares.cumsum(-1) - shares >= p
    return logits.masked_fill(torch.zeros_like(remove).scatter(-1, ids, remove), -INF)


@wrong()
def the_sum_of_squares(logits, p):
    shares, ids = logits.float().softmax(-1).square().sort(dim=-1, descending=True, stable=True)
    remove = (shares.cumsum(-1) - shares >= p) & (p < 1)
    return logits.masked_fill(torch.zeros_like(remove).scatter(-1, ids, remove), -INF)


@wrong()
def p_of_1_cuts_the_tail(logits, p):
    return with_a_padded_sum(logits, min(p, 1 - 1e-7))


@wrong()
def in_place(logits, p):
    return logits.copy_(with_a_padded_sum(logits, p))


@wrong()
def float32_comes_back(logits, p):
    return with_a_padded_sum(logits.float(), p)
