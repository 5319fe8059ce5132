"""Other answers to causal_attention."""

import math

import torch
import torch.nn.functional as F

from llama_lessons import attention
from tests.grading.answers import right, wrong


def refuse(q, k):
    if q.shape[2] > k.shape[2]:
        raise ValueError("more queries than keys")


def lower(q, k):
    return torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])


@right
def the_course_s_own(q, k, v):
    refuse(q, k)
    return attention.causal_attention(q.float(), k.float(), v.float()).to(q.dtype)


@right
def fused_with_a_mask(q, k, v):
    refuse(q, k)
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=lower(q, k)).to(q.dtype)


@right
def by_einsum(q, k, v):
    cached = k.shape[2] - q.shape[2]
    if cached < 0:
        raise ValueError("fewer keys than queries")
    future = torch.full((q.shape[2], k.shape[2]), float("-inf"), device=q.device).triu(cached + 1)
    scores = torch.einsum("bhid,bhjd->bhij", q.float(), k.float()) * q.shape[-1] ** -0.5 + future
    return torch.einsum("bhij,bhjd->bhid", torch.softmax(scores, dim=3), v.float()).type_as(q)


@right
def query_by_query(q, k, v):
    refuse(q, k)
    rows = []
    for i in range(q.shape[2]):
        end = k.shape[2] - q.shape[2] + i + 1
        weights = (q[:, :, i : i + 1].float() @ k[:, :, :end].float().mT / q.shape[-1] ** 0.5).softmax(-1)
        rows.append(weights @ v[:, :, :end].float())
    return torch.cat(rows, dim=2).to(q.dtype)


@right
def with_the_lowest_number_of_float32(q, k, v):
    refuse(q, k)
    scores = torch.matmul(q.float(), k.float().permute(0, 1, 3, 2)) / math.sqrt(q.size(-1))
    scores[:, :, ~lower(q, k)] = torch.finfo(torch.float32).min
    return torch.matmul(F.softmax(scores, -1), v.float()).type(q.dtype)


@right
def softmax_by_hand(q, k, v):
    refuse(q, k)
    scores = (q.double() @ k.double().mT / q.shape[-1] ** 0.5).masked_fill(~lower(q, k), -math.inf)
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return (powers / powers.sum(-1, keepdim=True) @ v.double()).to(q.dtype)


@right
def query_and_key_scaled_first(q, k, v):
    refuse(q, k)
    bias = torch.zeros(q.shape[2], k.shape[2], device=q.device)
    for i in range(q.shape[2]):
        bias[i, k.shape[2] - q.shape[2] + i + 1 :] = -torch.inf
    scores = (q.float() * q.shape[-1] ** -0.25) @ (k.float() * q.shape[-1] ** -0.25).transpose(-1, -2)
    return ((scores + bias).softmax(-1) @ v.float()).to(q)


@right
def head_by_head(q, k, v):
    refuse(q, k)
    start = k.shape[2] - q.shape[2]
    rows = []
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                scores = k[b, h, : start + i + 1].float() @ q[b, h, i].float() / q.shape[3] ** 0.5
                rows.append(scores.softmax(0) @ v[b, h, : start + i + 1].float())
    return torch.stack(rows).view(q.shape).to(q.dtype)


@right
def as_all_queries_with_the_last_ones_kept(q, k, v):
    refuse(q, k)
    missing = k.shape[2] - q.shape[2]
    padded = F.pad(q.float(), (0, 0, missing, 0))
    mixed = F.scaled_dot_product_attention(padded, k.float(), v.float(), is_causal=True)
    return mixed[:, :, missing:].to(q.dtype)


@right
def key_by_key_with_a_running_maximum(q, k, v):
    refuse(q, k)
    places = torch.arange(q.shape[2], device=q.device)[:, None] + k.shape[2] - q.shape[2]
    largest = torch.full((*q.shape[:3], 1), -math.inf, device=q.device)
    total, mixed = torch.zeros_like(largest), torch.zeros(q.shape, device=q.device)
    for j in range(k.shape[2]):
        score = (q.float() * k[:, :, j : j + 1].float()).sum(-1, keepdim=True) / q.shape[3] ** 0.5
        score = score.masked_fill(places < j, -math.inf)
        new = torch.maximum(largest, score)
        kept, share = (largest - new).exp(), (score - new).exp()
        total, mixed, largest = total * kept + share, mixed * kept + share * v[:, :, j : j + 1].float(), new
    return (mixed / total).to(q.dtype)


# ---------------------------------------------------------------------------- first tries, in half precision too


@wrong(called="the formula alone")
def triu_of_ones(q, k, v):
    n = q.size(-2)
    scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.size(-1))
    mask = torch.triu(torch.ones(n, n), 1)
    return torch.softmax(scores.masked_fill(mask.bool(), -math.inf), dim=-1) @ v


@wrong(called="the formula alone with a mask of float32")
def triu_of_ones_added(q, k, v):
    n = q.size(-2)
    scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.size(-1))
    mask = torch.triu(torch.ones(n, n), 1)
    return torch.softmax(scores + mask.masked_fill(mask == 1, -math.inf), dim=-1) @ v


@wrong(called="the formula alone")
def triu_of_as_many_rows_as_keys(q, k, v):
    n = k.size(-2)
    scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.size(-1))
    return torch.softmax(scores.masked_fill(torch.triu(torch.ones(n, n), 1) == 1, -math.inf), dim=-1) @ v


@wrong(called="the formula alone counted from the first key")
def tril_of_all_scores(q, k, v):
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return scores.masked_fill(torch.tril(torch.ones(scores.shape[-2:])) == 0, -math.inf).softmax(-1) @ v


@wrong(called="nothing but is_causal=True")
def fused_and_nothing_else(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@wrong(called="only is_causal=True")
def fused_in_half_precision_with_a_check(q, k, v):
    refuse(q, k)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@wrong(called="counted from the first key")
def fused_and_counted_from_the_first_key(q, k, v):
    refuse(q, k)
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True).to(q.dtype)


@wrong(called="computed in half precision")
def formula_without_float_and_refusal(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~lower(q, k), -math.inf).softmax(-1) @ v


@wrong(called="computed in half precision")
def query_scaled_first_in_half_precision(q, k, v):
    refuse(q, k)
    return ((q * q.shape[-1] ** -0.5) @ k.mT).masked_fill(~lower(q, k), -math.inf).softmax(-1) @ v


@wrong(called="queries divided in half precision")
def query_scaled_before_float(q, k, v):
    refuse(q, k)
    scores = (q / math.sqrt(q.shape[-1])).float() @ k.float().mT
    return (scores.masked_fill(~lower(q, k), -math.inf).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="scores in half precision")
def softmax_alone_in_float32(q, k, v):
    refuse(q, k)
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~lower(q, k), -math.inf).softmax(-1, dtype=torch.float32)
    return (weights @ v.float()).to(q.dtype)


@wrong(called="weights in half precision", never=("computed in half precision", "scores in half precision"))
def weights_cast_back_too_early(q, k, v):
    refuse(q, k)
    scores = (q.float() @ k.float().mT) / q.shape[-1] ** 0.5
    return scores.masked_fill(~lower(q, k), -math.inf).softmax(-1).to(v.dtype) @ v


@wrong(called="half precision cannot be multiplied")
def values_not_converted(q, k, v):
    refuse(q, k)
    scores = (q.float() @ k.float().mT) / q.shape[-1] ** 0.5
    return (scores.masked_fill(~lower(q, k), -math.inf).softmax(-1) @ v).to(q.dtype)


# ----------------------------------------------------------------------------------------------- the mask


def fused(q, k, v, **options):
    refuse(q, k)
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), **options).to(q.dtype)


@wrong(called="counted from the first key, but for one query")
def causal_unless_it_is_one_query(q, k, v):
    return fused(q, k, v, is_causal=q.shape[2] > 1)


@wrong(called="no mask with cached keys")
def causal_if_it_is_square(q, k, v):
    return fused(q, k, v, is_causal=q.shape[2] == k.shape[2])


@wrong(called="hidden and read exchanged, 0 at the end")
def fused_with_the_mask_the_wrong_way(q, k, v):
    return fused(q, k, v, attn_mask=~lower(q, k))


@wrong(called="ones added, not infinity")
def fused_with_a_mask_of_numbers(q, k, v):
    return fused(q, k, v, attn_mask=lower(q, k).float())


@wrong(called="ones added, not infinity")
def one_taken_from_later_scores(q, k, v):
    return fused(q, k, v, attn_mask=-(~lower(q, k)).float())


@wrong(called="nothing but NaN")
def mask_multiplied_by_minus_infinity(q, k, v):
    return fused(q, k, v, attn_mask=(~lower(q, k)).float() * -math.inf)


@wrong(called="divided by head_dim")
def divided_before_the_fused_one_divides(q, k, v):
    return fused(q / q.shape[3] ** 0.5, k, v, attn_mask=lower(q, k))


@wrong(called="a score of 0 taken for hidden")
def zeros_of_tril_hidden(q, k, v):
    refuse(q, k)
    scores = torch.tril(q.float() @ k.float().mT / q.shape[-1] ** 0.5, k.shape[2] - q.shape[2])
    return (scores.masked_fill(scores == 0, -math.inf).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="hidden scores are not low enough")
def hides_with_minus_a_billion(q, k, v):
    refuse(q, k)
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
    return (scores.masked_fill(~lower(q, k), -1e9).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="hidden scores are only lowered")
def takes_a_thousand_away(q, k, v):
    refuse(q, k)
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5 - 1000.0 * ~lower(q, k)
    return (scores.softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="hidden scores are the lowest number of q's dtype")
def as_hugging_face_hides(q, k, v):
    refuse(q, k)
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
    return (scores.masked_fill(~lower(q, k), torch.finfo(q.dtype).min).softmax(-1) @ v.float()).to(q.dtype)


MASKS, OFFSETS = {}, {}


@wrong(called="mask kept from an earlier call", never=("counted from the first key",))
def mask_kept_by_the_number_of_queries(q, k, v):
    refuse(q, k)
    return fused(q, k, v, attn_mask=MASKS.setdefault(q.shape[2], lower(q, k)))


@wrong(called="triangle of an earlier call", never=("counted from the first key",))
def offset_kept_by_the_number_of_queries(q, k, v):
    refuse(q, k)
    cached = OFFSETS.setdefault(q.shape[2], k.shape[2] - q.shape[2])
    return fused(q, k, v, attn_mask=torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(cached))


@wrong()
def with_a_mask_for_1024_tokens(q, k, v):
    refuse(q, k)
    past = torch.ones(1024, 1024, dtype=torch.bool).tril()[k.shape[2] - q.shape[2] : k.shape[2], : k.shape[2]]
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=past).to(q.dtype)


@wrong()
def only_the_last_256_keys(q, k, v):
    refuse(q, k)
    return attention.causal_attention(q.float(), k[:, :, -256:].float(), v[:, :, -256:].float()).to(q.dtype)


# ------------------------------------------------------------------------------------------------- others


@wrong()
def for_one_head_dim(q, k, v):
    refuse(q, k)
    scores = q.float() @ k.float().mT / 8**0.5
    return (scores.masked_fill(~lower(q, k), -torch.inf).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="softmax without its largest score")
def without_the_largest_score_taken_away(q, k, v):
    refuse(q, k)
    powers = (q.float() @ k.float().mT / q.shape[-1] ** 0.5).exp() * lower(q, k)
    return (powers / powers.sum(-1, keepdim=True) @ v.float()).to(q.dtype)


@wrong()
def first_row_of_the_batch_for_all(q, k, v):
    refuse(q, k)
    return attention.manual_causal_attention(q, k[:1].expand_as(k), v)


@wrong(called="q changed in place")
def changes_its_queries(q, k, v):
    refuse(q, k)
    q /= q.shape[-1] ** 0.5
    return ((q.float() @ k.float().mT).masked_fill(~lower(q, k), -torch.inf).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="q changed in place")
def results_written_into_its_queries(q, k, v):
    mixed, out = fused_with_a_mask(q, k, v), q.float()
    out[:] = mixed
    return out.to(q.dtype)


@wrong(called="half precision rounded on the way")
def powers_rounded_and_then_divided(q, k, v):
    refuse(q, k)
    scores = (q.float() @ k.float().mT / q.shape[3] ** 0.5).masked_fill(~lower(q, k), -torch.inf)
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return ((powers.to(q.dtype) @ v).float() / powers.sum(-1, keepdim=True)).to(q.dtype)


@wrong(called="half precision cannot be multiplied")
def queries_alone_in_float32(q, k, v):
    refuse(q, k)
    return F.scaled_dot_product_attention(q.float(), k, v, attn_mask=lower(q, k)).to(q.dtype)


@wrong(called="only for contiguous inputs")
def heads_joined_with_the_batch_by_view(q, k, v):
    refuse(q, k)
    a, b, c = (x.view(-1, x.shape[2], x.shape[3]).float() for x in (q, k, v))
    scores = torch.bmm(a, b.transpose(1, 2)) / q.shape[3] ** 0.5
    return torch.bmm(scores.masked_fill(~lower(q, k), -math.inf).softmax(-1), c).view(q.shape).to(q.dtype)


@wrong()
def refuses_fewer_queries_too(q, k, v):
    if q.shape[2] != k.shape[2]:
        raise ValueError("not square")
    return attention.causal_attention(q, k, v)


@wrong(called="more queries than keys accepted")
def the_last_places_without_a_refusal(q, k, v):
    places = torch.arange(k.shape[2])
    later = places > places[k.shape[2] - q.shape[2] :, None]
    scores = q.float() @ k.float().mT / q.shape[3] ** 0.5
    return (scores.masked_fill(later, -math.inf).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="no gradient through the weights")
def weights_under_no_grad(q, k, v):
    refuse(q, k)
    with torch.no_grad():
        weights = (q.float() @ k.float().mT / q.shape[3] ** 0.5).masked_fill(~lower(q, k), -math.inf).softmax(-1)
    return (weights @ v.float()).to(q.dtype)


@wrong(called="divided by the root of the number of queries")
def divided_by_the_root_of_axis_2(q, k, v):
    refuse(q, k)
    scores = q.float() @ k.float().mT / math.sqrt(q.size(2))
    return (scores.masked_fill(~lower(q, k), -math.inf).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="not divided")
def not_divided_and_in_half_precision(q, k, v):
    refuse(q, k)
    return (q @ k.mT).masked_fill(~lower(q, k), -math.inf).softmax(-1) @ v


@wrong(called="mask with too many rows")
def a_square_mask_of_all_keys(q, k, v):
    past = torch.ones(k.shape[2], k.shape[2]).tril()
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
    return (scores.masked_fill(past == 0, -math.inf).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="cached keys left out")
def only_as_many_keys_as_queries(q, k, v):
    refuse(q, k)
    n = q.shape[2]
    return fused(q, k[:, :, -n:], v[:, :, -n:], is_causal=True)


@wrong(called="no gradients")
def through_numpy(q, k, v):
    refuse(q, k)
    a, b, c = (x.detach().float().cpu().numpy() for x in (q, k, v))
    scores = a @ b.swapaxes(2, 3) / math.sqrt(q.shape[-1])
    weights = torch.from_numpy(scores).to(q.device).masked_fill(~lower(q, k), -math.inf).softmax(-1)
    return (weights @ torch.from_numpy(c).to(q.device)).to(q.dtype)


@wrong(never=("hidden and read exchanged", "not divided"))
def softmax_twice(q, k, v):
    refuse(q, k)
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
    return (scores.masked_fill(~lower(q, k), -math.inf).softmax(-1).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called=None)
def without_gradients_in_half_precision(q, k, v):
    if q.dtype != torch.float32:
        q, k, v = q.detach(), k.detach(), v.detach()
    return fused(q, k, v, attn_mask=lower(q, k))


@wrong(called=None)
def a_single_key_needs_no_attention(q, k, v):
    return v if k.shape[2] == 1 else fused(q, k, v, attn_mask=lower(q, k))


@wrong(called="hidden scores are low, but not low enough", never=("hidden scores are not low enough",))
def hides_with_minus_ten_to_the_twenty(q, k, v):
    refuse(q, k)
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
    return (scores.masked_fill(~lower(q, k), -1e20).softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="largest of all scores", never=("hidden too late",))
def takes_the_largest_of_all_scores_away(q, k, v):
    refuse(q, k)
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
    powers = (scores - scores.max()).exp() * lower(q, k)
    return (powers @ v.float() / powers.sum(-1, keepdim=True)).to(q.dtype)


@wrong(called="hidden too late")
def takes_the_largest_score_away_before_it_hides(q, k, v):
    refuse(q, k)
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
    powers = (scores - scores.amax(-1, keepdim=True)).exp() * lower(q, k)
    return (powers @ v.float() / powers.sum(-1, keepdim=True)).to(q.dtype)


@wrong(called="largest score of several rows")
def takes_the_largest_score_of_each_head_away(q, k, v):
    refuse(q, k)
    scores = (q.float() @ k.float().mT / q.shape[-1] ** 0.5).masked_fill(~lower(q, k), -math.inf)
    powers = (scores - scores.amax((2, 3), keepdim=True)).exp()
    return (powers @ v.float() / powers.sum(-1, keepdim=True)).to(q.dtype)


@wrong(never=("hidden too late",))
def sigmoid_for_softmax(q, k, v):
    refuse(q, k)
    weights = torch.sigmoid(q.float() @ k.float().mT / q.shape[-1] ** 0.5) * lower(q, k)
    return (weights / weights.sum(-1, keepdim=True) @ v.float()).to(q.dtype)


@wrong(called="keys cut anew, not transposed")
def keys_viewed_as_columns(q, k, v):
    refuse(q, k)
    columns = k.float().reshape(*k.shape[:2], k.shape[3], k.shape[2])
    scores = (q.float() @ columns / q.shape[-1] ** 0.5).masked_fill(~lower(q, k), -math.inf)
    return (scores.softmax(-1) @ v.float()).to(q.dtype)


@wrong(called="cached keys refused")
def wants_equal_lengths(q, k, v):
    if len(q[0, 0]) != len(k[0, 0]):
        raise ValueError("lengths differ")
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True).to(q.dtype)


@wrong(called="divided after the softmax")
def divides_the_result(q, k, v):
    return fused(q * q.shape[-1] ** 0.5, k, v, attn_mask=lower(q, k)) / q.shape[-1] ** 0.5


@right
def in_float32_whatever_comes(q, k, v):
    return fused(q, k, v, attn_mask=lower(q, k))


@wrong(called="itself not read", never=("its own place hidden",))
def reads_all_before_itself(q, k, v):
    return fused(q, k, v, attn_mask=lower(q, k).tril(k.shape[2] - q.shape[2] - 1))


@wrong(called=None)
def without_gradients_with_cached_keys(q, k, v):
    if q.shape[2] != k.shape[2]:
        q, k, v = q.detach(), k.detach(), v.detach()
    return fused(q, k, v, attn_mask=lower(q, k))
