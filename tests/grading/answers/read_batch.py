"""Other answers to read_batch."""

import torch
from torch import nn

from tests.grading.answers import right, wrong


def attend(x):
    return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)


@right
def text_by_text(x, table, start_pos=0):
    rows = table[start_pos : start_pos + x.shape[1]]
    return torch.cat([attend(text[None] + rows) for text in x])


@right
def with_embedding_and_expand(x, table, start_pos=0):
    positions = torch.arange(start_pos, start_pos + x.size(1), device=x.device).expand(x.size(0), -1)
    return attend(x + nn.functional.embedding(positions, table))


@right
def with_a_mask_of_its_own(x, table, start_pos=0):
    x = x + table.narrow(0, start_pos, x.shape[1]).unsqueeze(0)
    scores = torch.einsum("bid,bjd->bij", x, x) / x.shape[-1] ** 0.5
    weights = (scores + torch.full(scores.shape[1:], -torch.inf, device=x.device).triu(1)).softmax(-1)
    return torch.einsum("bij,bjd->bid", weights, x)


@right
def sequence_first_and_back(x, table, start_pos=0):
    turned = x.permute(1, 0, 2)
    turned = turned + table[start_pos : start_pos + turned.size(0)].unsqueeze(1)
    return attend(turned.permute(1, 0, 2).contiguous())


@wrong()
def only_for_one_text(x, table, start_pos=0):
    positions = torch.arange(start_pos, start_pos + len(x), device=x.device)
    if len(x) == 1:
        return text_by_text(x, table, start_pos)
    return attend(x + table[positions].unsqueeze(1))


@wrong(called="only the first row of the batch")
def every_text_as_the_first(x, table, start_pos=0):
    return text_by_text(x[:1], table, start_pos).expand_as(x)


@wrong(called="the mask lost")
def not_causal_any_more(x, table, start_pos=0):
    x = x + table[start_pos : start_pos + x.shape[1]]
    return nn.functional.scaled_dot_product_attention(x, x, x)


@wrong()
def along_the_channels(x, table, start_pos=0):
    positions = torch.arange(start_pos, start_pos + x.shape[-1], device=x.device)
    return attend(x + table[positions][: x.shape[1]])


@wrong()
def added_twice(x, table, start_pos=0):
    rows = table[start_pos : start_pos + x.shape[1]]
    return attend(x + rows + rows)


@wrong()
def adds_in_place(x, table, start_pos=0):
    with torch.no_grad():
        x += table[start_pos : start_pos + x.shape[1]]
    return attend(x)


@wrong(called="no gradient to x")
def x_gets_no_gradient(x, table, start_pos=0):
    return text_by_text(x.detach(), table, start_pos)


@right
def rows_for_all_texts(x, table, start_pos=0):
    positions = torch.arange(x.size(1), device=x.device) + start_pos
    return attend(x + table[positions].unsqueeze(0))


@right
def transposed_for_the_sum(x, table, start_pos=0):
    rows = table[torch.arange(start_pos, start_pos + x.shape[1], device=x.device)][:, None]
    return attend((x.transpose(0, 1) + rows).transpose(0, 1))


@right
def place_by_place(x, table, start_pos=0):
    return attend(torch.stack([x[:, i] + table[start_pos + i] for i in range(x.shape[1])], dim=1))


@wrong(called="the planted bug")
def the_bug_as_a_slice(x, table, start_pos=0):
    rows = table[start_pos : start_pos + x.size(0)]
    return attend(x + rows[:, None, :])


@wrong(called="texts counted")
def only_unsqueeze_taken_out(x, table, start_pos=0):
    positions = torch.arange(start_pos, start_pos + len(x), device=x.device)
    return attend(x + table[positions])


@wrong(called="lined up with the batch")
def only_len_mended(x, table, start_pos=0):
    positions = torch.arange(start_pos, start_pos + x.shape[1], device=x.device)
    return attend(x + table[positions].unsqueeze(1))


@wrong(called="start_pos ignored")
def start_pos_dropped(x, table, start_pos=0):
    return attend(x + table[: x.shape[1]].unsqueeze(0))


@wrong(called="channels counted")
def shape_2_for_shape_1(x, table, start_pos=0):
    rows = table[start_pos : start_pos + x.shape[-1]]
    return attend(x + rows)


@wrong(called="transposed, and not back")
def sequence_first(x, table, start_pos=0):
    x = x.transpose(0, 1)
    return attend(x + table[torch.arange(start_pos, start_pos + len(x))].unsqueeze(1))


@wrong(called="x changed in place")
def plus_equals(x, table, start_pos=0):
    x += table[start_pos : start_pos + x.shape[1]]
    return attend(x)


@wrong(called="no gradient to the table")
def under_no_grad(x, table, start_pos=0):
    with torch.no_grad():
        rows = table[start_pos : start_pos + x.shape[1]]
    return attend(x + rows)


@wrong(called="start_pos for every token")
def one_row_for_all(x, table, start_pos=0):
    return attend(x + table[start_pos].expand_as(x))


@wrong()
def by_the_place_of_the_token_in_the_batch(x, table, start_pos=0):
    flat = x.reshape(-1, x.shape[2])
    return attend((flat + table[start_pos : start_pos + len(flat)]).view(x.shape))


@wrong(called="the sum added again")
def with_a_residual_connection(x, table, start_pos=0):
    told = x + table[start_pos : start_pos + x.shape[1]]
    return told + attend(told)
