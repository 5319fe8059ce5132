"""Other answers to rotate_new_tokens."""

import torch

from llama_lessons import rope
from tests.grading.answers import right, wrong


def positions_of(q, first):
    return torch.arange(q.shape[2], device=q.device) + first


def turned(q, k, positions, theta):
    tables = rope.rope_tables(positions, rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


@right
def by_the_course_s_own(q, k, n_cached, theta=10_000.0):
    return turned(q, k, positions_of(q, n_cached), theta)


@wrong()
def by_hand_in_float32(q, k, n_cached, theta=10_000.0):
    def turn(x):
        size = x.shape[-1] // 2
        speeds = theta ** (-torch.arange(size, device=x.device) / size)
        angles = torch.outer(torch.arange(n_cached, n_cached + x.shape[-2], device=x.device), speeds)
        a, b = x[..., :size].float(), x[..., size:].float()
        return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1).to(x.dtype)

    return turn(q), turn(k)


@right
def tables_for_all_tokens_so_far(q, k, n_cached, theta=10_000.0):
    length = n_cached + q.shape[2]
    cos, sin = rope.rope_tables(torch.arange(length, device=q.device), rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, cos[n_cached:], sin[n_cached:]), rope.apply_rope(k, cos[n_cached:], sin[n_cached:])


@right
def returns_a_list(q, k, n_cached, theta=10_000.0):
    return list(turned(q, k, positions_of(q, n_cached), theta))


@right
def both_at_once(q, k, n_cached, theta=10_000.0):
    tables = rope.rope_tables(positions_of(q, n_cached), rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(torch.cat((q, k), dim=1), *tables).split((q.shape[1], k.shape[1]), dim=1)


@wrong()
def by_complex_numbers_in_float32(q, k, n_cached, theta=10_000.0):
    n = q.shape[-1] // 2
    positions = torch.arange(n_cached, n_cached + q.shape[-2], device=q.device)
    turns = torch.polar(torch.ones(()), positions[:, None] * theta ** (-torch.arange(n, device=q.device) / n))

    def turn(x):
        result = torch.complex(x[..., :n].float(), x[..., n:].float()) * turns
        return torch.cat((result.real, result.imag), -1).to(x.dtype)

    return turn(q), turn(k)


@right
def without_gradients(q, k, n_cached, theta=10_000.0):
    with torch.no_grad():
        return turned(q, k, positions_of(q, n_cached), theta)


@right
def detached(q, k, n_cached, theta=10_000.0):
    return turned(q.detach(), k.detach(), positions_of(q, n_cached), theta)


IGNORED = ("the cache is ignored", "10,000 whatever theta is")


@wrong(called="q and k exchanged")
def k_and_q_exchanged(q, k, n_cached, theta=10_000.0):
    return turned(q, k, positions_of(q, n_cached), theta)[::-1]


@wrong(called="the cache counted twice")
def length_of_the_cache_twice(q, k, n_cached, theta=10_000.0):
    return turned(q, k, positions_of(q, 2 * n_cached), theta)


@wrong(called=None)
def as_many_heads_as_keys(q, k, n_cached, theta=10_000.0):
    q, k = turned(q, k, positions_of(q, n_cached), theta)
    return q[:, : k.shape[1]], k


TABLES = {}


@wrong(never=IGNORED)
def tables_remembered_too_long(q, k, n_cached, theta=10_000.0):
    key = (q.shape[2], q.shape[3])
    if key not in TABLES:
        TABLES[key] = rope.rope_tables(torch.arange(q.shape[2]) + n_cached, rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, *TABLES[key]), rope.apply_rope(k, *TABLES[key])


FREQUENCIES = {}


@wrong(called="theta of an earlier call", never=IGNORED)
def frequencies_kept_by_head_dim(q, k, n_cached, theta=10_000.0):
    frequencies = FREQUENCIES.setdefault(q.shape[-1], rope.rope_frequencies(q.shape[-1], theta))
    tables = rope.rope_tables(positions_of(q, n_cached), frequencies)
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


COUNT = [0]


@wrong(never=IGNORED)
def own_counter(q, k, n_cached, theta=10_000.0):
    COUNT[0] = q.shape[2] if n_cached == 0 else COUNT[0] + q.shape[2]
    return turned(q, k, positions_of(q, COUNT[0] - q.shape[2]), theta)


@wrong(called="several new tokens start at 0", never=IGNORED)
def right_for_single_tokens(q, k, n_cached, theta=10_000.0):
    positions = torch.tensor([n_cached], device=q.device) if q.shape[2] == 1 else torch.arange(q.shape[2])
    return turned(q, k, positions.to(q.device), theta)


@wrong(never=IGNORED)
def right_for_chunks(q, k, n_cached, theta=10_000.0):
    return turned(q, k, positions_of(q, n_cached if q.shape[2] > 1 else 0), theta)


@wrong(called="every new token at n_cached")
def a_full_tensor(q, k, n_cached, theta=10_000.0):
    return turned(q, k, torch.full((q.shape[2],), n_cached, device=q.device), theta)


@wrong(called="the prompt begins at 1")
def without_the_minus(q, k, n_cached, theta=10_000.0):
    return turned(q, k, positions_of(q, max(n_cached, 1)), theta)


@wrong(called="keys one position behind")
def only_the_queries_mended(q, k, n_cached, theta=10_000.0):
    last = max(n_cached - 1, 0)
    return turned(q, q, positions_of(q, n_cached), theta)[0], turned(k, k, positions_of(k, last), theta)[1]


@wrong(called="keys left as they are")
def keys_come_turned_from_the_cache(q, k, n_cached, theta=10_000.0):
    return turned(q, q, positions_of(q, n_cached), theta)[0], k


@wrong(called="half-precision angles")
def everything_in_the_dtype_of_q(q, k, n_cached, theta=10_000.0):
    frequencies = rope.rope_frequencies(q.shape[-1], theta).to(q)
    angles = torch.arange(n_cached, n_cached + q.shape[2]).to(q)[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


@wrong(called="another default")
def llama_3_by_default(q, k, n_cached, theta=500_000.0):
    return turned(q, k, positions_of(q, n_cached), theta)


@wrong(called="10,000 whatever theta is")
def theta_forgotten(q, k, n_cached, theta=10_000.0):
    tables = rope.rope_tables(positions_of(q, n_cached), rope.rope_frequencies(q.shape[-1]))
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


@wrong(called="keys repeated")
def keys_for_each_query_head(q, k, n_cached, theta=10_000.0):
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return turned(q, k, positions_of(q, n_cached), theta)


@wrong(never=IGNORED)
def positions_start_over_at_each_ten(q, k, n_cached, theta=10_000.0):
    return turned(q, k, positions_of(q, n_cached) % 10, theta)


@wrong(called=None)
def no_position_beyond_the_prompt(q, k, n_cached, theta=10_000.0):
    return turned(q, k, positions_of(q, n_cached).clamp(max=8), theta)


@wrong()
def lists_of_positions(q, k, n_cached, theta=10_000.0):
    tables = rope.rope_tables(list(range(n_cached, n_cached + q.shape[2])), rope.rope_frequencies(q.shape[-1], theta))
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


@wrong(called="queries start at 0")
def only_the_keys_mended(q, k, n_cached, theta=10_000.0):
    return turned(q, q, positions_of(q, 0), theta)[0], turned(k, k, positions_of(k, n_cached), theta)[1]


@wrong(called="the cache is ignored")
def tables_for_all_tokens_cut_at_the_front(q, k, n_cached, theta=10_000.0):
    cos, sin = rope.rope_tables(torch.arange(n_cached + q.shape[2]), rope.rope_frequencies(q.shape[-1], theta))
    cos, sin = cos[: q.shape[2]].to(q.device), sin[: q.shape[2]].to(q.device)
    return rope.apply_rope(q, cos, sin), rope.apply_rope(k, cos, sin)


@wrong(called="the planted bug for several tokens")
def the_planted_bug_for_chunks_alone(q, k, n_cached, theta=10_000.0):
    return turned(q, k, positions_of(q, n_cached if q.shape[2] == 1 else max(n_cached - 1, 0)), theta)


@right
def by_complex_numbers(q, k, n_cached, theta=10_000.0):
    n = q.shape[-1] // 2
    positions = torch.arange(n_cached, n_cached + q.shape[-2]).double()
    turns = torch.polar(torch.ones(()).double(), positions[:, None] * theta ** (-torch.arange(n).double() / n))
    turns = turns.to(torch.complex64).to(q.device)

    def turn(x):
        result = torch.complex(x[..., :n].float(), x[..., n:].float()) * turns
        return torch.cat((result.real, result.imag), -1).to(x.dtype)

    return turn(q), turn(k)


@wrong(called="angles in float32")
def positions_and_frequencies_in_float32(q, k, n_cached, theta=10_000.0):
    frequencies = rope.rope_frequencies(q.shape[-1], theta).float().to(q.device)
    angles = torch.outer(positions_of(q, n_cached).float(), frequencies)
    return rope.apply_rope(q, angles.cos(), angles.sin()), rope.apply_rope(k, angles.cos(), angles.sin())


@wrong(called="frequencies in float32")
def frequencies_rounded(q, k, n_cached, theta=10_000.0):
    tables = rope.rope_tables(positions_of(q, n_cached), rope.rope_frequencies(q.shape[-1], theta).float())
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


@wrong(called="computed in half precision")
def all_in_the_dtype_of_q_but_the_angles(q, k, n_cached, theta=10_000.0):
    cos, sin = rope.rope_tables(positions_of(q, n_cached), rope.rope_frequencies(q.shape[-1], theta))

    def turn(x):
        a, b = x.chunk(2, dim=-1)
        c, s = cos.to(x), sin.to(x)
        return torch.cat((a * c - b * s, b * c + a * s), dim=-1)

    return turn(q), turn(k)


KEPT = {}


@wrong(called="theta kept from an earlier call", never=(*IGNORED, "theta of an earlier call"))
def tables_kept_by_place_and_size(q, k, n_cached, theta=10_000.0):
    tables = rope.rope_tables(positions_of(q, n_cached), rope.rope_frequencies(q.shape[-1], theta))
    tables = KEPT.setdefault((n_cached, *q.shape[2:]), tables)
    return rope.apply_rope(q, *tables), rope.apply_rope(k, *tables)


@wrong()
def a_whole_theta(q, k, n_cached, theta=10_000.0):
    return turned(q, k, positions_of(q, n_cached), int(theta))
