"""Other answers to repeat_kv."""

import torch
import torch.nn.functional as F

from llama_lessons import attention
from tests.grading.answers import right, wrong

right(attention.repeat_kv)


def refuse(group_size):
    if group_size < 1:
        raise ValueError("no group")


@right
def as_meta_does(x, group_size):
    if group_size <= 0:
        raise ValueError("group_size must be positive")
    batch, heads, seq_len, head_dim = x.shape
    if group_size == 1:
        return x
    copies = x[:, :, None].expand(batch, heads, group_size, seq_len, head_dim)
    return copies.reshape(batch, heads * group_size, seq_len, head_dim)


@right
def by_stack(x, group_size):
    refuse(group_size)
    return torch.stack([x] * group_size, dim=2).flatten(1, 2)


@right
def by_index(x, group_size):
    refuse(group_size)
    return x[:, torch.arange(x.shape[1] * group_size, device=x.device) // group_size]


@right
def by_list(x, group_size):
    refuse(group_size)
    return torch.cat([x[:, i : i + 1] for i in range(x.shape[1]) for _ in range(group_size)], dim=1)


@right
def by_kron(x, group_size):
    refuse(group_size)
    return torch.kron(x.contiguous(), torch.ones(1, group_size, 1, 1, dtype=x.dtype, device=x.device))


@right
def by_tile_and_transpose(x, group_size):
    refuse(group_size)
    return x.tile(1, group_size, 1, 1).unflatten(1, (group_size, -1)).transpose(1, 2).flatten(1, 2)


@right
@torch.no_grad()
def without_gradients(x, group_size):
    refuse(group_size)
    return x.detach().repeat_interleave(group_size, dim=1)


@right
def through_numpy(x, group_size):
    refuse(group_size)
    return torch.from_numpy(x.double().cpu().numpy().repeat(group_size, axis=1)).to(x)


@right
def written_into_place(x, group_size):
    refuse(group_size)
    batch, heads, seq_len, head_dim = x.shape
    out = x.new_empty(batch, heads * group_size, seq_len, head_dim)
    for head in range(heads * group_size):
        out[:, head] = x[:, head // group_size]
    return out


@wrong()
def for_two_heads(x, group_size):
    refuse(group_size)
    return torch.cat([x[:, :1]] * group_size + [x[:, 1:2]] * group_size, dim=1)


@wrong()
def with_zeros_for_the_copies(x, group_size):
    refuse(group_size)
    return F.pad(x[:, :, None], (0, 0, 0, 0, 0, group_size - 1)).flatten(1, 2)


@wrong(called="float32 goes out")
def in_float32(x, group_size):
    return attention.repeat_kv(x, group_size).float()


@wrong(called="a group of one refused")
def refuses_a_group_of_one(x, group_size):
    if group_size <= 1:
        raise ValueError("no group")
    return x.repeat_interleave(group_size, dim=1)


@wrong(called="only for a contiguous x")
def only_of_contiguous_tensors(x, group_size):
    refuse(group_size)
    batch, heads, seq_len, head_dim = x.shape
    rows = x.view(batch * heads, 1, seq_len * head_dim)
    return rows.expand(-1, group_size, -1).reshape(batch, heads * group_size, seq_len, head_dim)


@wrong(called="an assert, no ValueError")
def asserts(x, group_size):
    assert group_size > 0
    return x.repeat_interleave(group_size, dim=1)


@wrong(called="a RuntimeError, no ValueError")
def leaves_it_to_stack(x, group_size):
    return torch.stack([x] * group_size, dim=2).flatten(1, 2)


@wrong(called="the row of heads repeated")
def list_of_whole_rows(x, group_size):
    refuse(group_size)
    return torch.cat([x] * group_size, dim=1)


@wrong(called="the row of heads repeated")
def expanded_before_the_heads(x, group_size):
    refuse(group_size)
    batch, heads, seq_len, head_dim = x.shape
    return x[:, None].expand(-1, group_size, -1, -1, -1).reshape(batch, group_size * heads, seq_len, head_dim)


@wrong(called="the row of heads repeated")
def head_i_modulo_heads(x, group_size):
    refuse(group_size)
    return x[:, torch.arange(x.shape[1] * group_size) % x.shape[1]]


@wrong(called="the tokens repeated and cut into heads")
def copies_behind_the_tokens(x, group_size):
    refuse(group_size)
    batch, heads, seq_len, head_dim = x.shape
    copies = x.unsqueeze(3).expand(batch, heads, seq_len, group_size, head_dim)
    return copies.reshape(batch, heads * group_size, seq_len, head_dim)


@wrong(called="expanded without a copy")
def viewed_after_expand(x, group_size):
    refuse(group_size)
    batch, heads, seq_len, head_dim = x.shape
    copies = x.unsqueeze(2).expand(batch, heads, group_size, seq_len, head_dim)
    return copies.view(batch, heads * group_size, seq_len, head_dim)


@wrong()
def group_size_taken_for_query_heads(x, group_size):
    refuse(group_size)
    return x.repeat_interleave(group_size // x.shape[1], dim=1)


@wrong(called="expanded without a copy")
def expanded_along_the_heads(x, group_size):
    refuse(group_size)
    return x.expand(-1, x.shape[1] * group_size, -1, -1)


@wrong(called="sizes do not match")
def copied_and_reshaped_as_before(x, group_size):
    refuse(group_size)
    return x.unsqueeze(2).expand(-1, -1, group_size, -1, -1).reshape(x.shape)


@wrong(called="sizes do not match")
def viewed_with_more_heads(x, group_size):
    refuse(group_size)
    batch, heads, seq_len, head_dim = x.shape
    return x.contiguous().view(batch, heads * group_size, seq_len, head_dim)


@wrong(called="the tokens repeated end to end")
def copies_joined_with_the_tokens(x, group_size):
    refuse(group_size)
    return x.unsqueeze(2).expand(-1, -1, group_size, -1, -1).flatten(2, 3)


@wrong(called="the tokens repeated")
def heads_sought_behind_the_tokens(x, group_size):
    refuse(group_size)
    return x.transpose(1, 2).repeat_interleave(group_size, dim=1).transpose(1, 2)


@wrong(called="float32 goes out")
def into_zeros_of_the_default_dtype(x, group_size):
    refuse(group_size)
    out = torch.zeros(x.shape[0], x.shape[1] * group_size, *x.shape[2:])
    for head in range(out.shape[1]):
        out[:, head] = x[:, head // group_size]
    return out


@wrong(called=None)
def prints_and_returns_nothing(x, group_size):
    if group_size < 1:
        print("no group")
        return None
    return x.repeat_interleave(group_size, dim=1)


@wrong(called=None)
def shared_out_among_the_copies(x, group_size):
    refuse(group_size)
    return x.repeat_interleave(group_size, dim=1) / group_size


memory = {}


@wrong()
def into_memory_of_an_earlier_call(x, group_size):
    refuse(group_size)
    out = x.repeat_interleave(group_size, dim=1)
    return memory.setdefault((out.shape, out.dtype), torch.empty_like(out)).copy_(out)


@wrong(called="0 and -1 accepted")
def expanded_without_a_check(x, group_size):
    batch, heads, seq_len, head_dim = x.shape
    return x[:, :, None].expand(batch, heads, group_size, seq_len, head_dim).flatten(1, 2)


@wrong(called="a size below 1 taken for 1")
def at_least_one(x, group_size):
    return x.repeat_interleave(max(group_size, 1), dim=1)


@wrong()
def a_sum_over_heads_with_weights_of_0_and_1(x, group_size):
    refuse(group_size)
    heads = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).repeat_interleave(group_size, dim=0)
    return torch.einsum("hn,bntd->bhtd", heads, x)
