"""Other answers to left_pad."""

import torch
from torch.nn.utils.rnn import pad_sequence

from tests.grading.answers import right, wrong


@right
def by_torch_and_back(prompts, pad_token=0):
    backwards = [torch.tensor(prompt[::-1]) for prompt in prompts]
    tokens = pad_sequence(backwards, batch_first=True, padding_value=pad_token).flip(-1)
    mask = pad_sequence([torch.ones(len(p), dtype=torch.bool) for p in prompts], batch_first=True).flip(-1)
    return tokens, mask, (mask.long().cumsum(-1) - 1).clamp_min(0)


@right
def as_lists(prompts, pad_token=0):
    width = len(max(prompts, key=len))
    rows = [([pad_token] * width + p)[-width:] for p in prompts]
    real = [([False] * width + [True] * len(p))[-width:] for p in prompts]
    places = [([0] * width + list(range(len(p))))[-width:] for p in prompts]
    return torch.tensor(rows), torch.tensor(real), torch.tensor(places)


@right
def from_lengths(prompts, pad_token=0):
    lengths = torch.tensor([len(p) for p in prompts])
    places = torch.arange(int(lengths.max())) - (lengths.max() - lengths)[:, None]
    tokens = torch.full_like(places, pad_token)
    tokens[places >= 0] = torch.tensor([token for p in prompts for token in p])
    return tokens, places >= 0, places.where(places >= 0, 0)


@wrong(called="all on the right")
def right_padding(prompts, pad_token=0):
    tokens = pad_sequence([torch.tensor(p) for p in prompts], batch_first=True, padding_value=pad_token)
    mask = pad_sequence([torch.ones(len(p), dtype=torch.bool) for p in prompts], batch_first=True)
    return tokens, mask, (mask.cumsum(-1) - 1) * mask


@wrong(called="the mask from the tokens")
def mask_by_token(prompts, pad_token=0):
    tokens, _, positions = as_lists(prompts, pad_token)
    return tokens, tokens.ne(pad_token), positions


@wrong()
def everything_from_the_tokens(prompts, pad_token=0):
    tokens = as_lists(prompts, pad_token)[0]
    mask = tokens != pad_token
    return tokens, mask, (mask.cumsum(-1) - 1).clamp(min=0)


@wrong()
def leading_pad_tokens(prompts, pad_token=0):
    """Right, but for prompts that begin with the pad token."""
    tokens = as_lists(prompts, pad_token)[0]
    mask = (tokens != pad_token).long().cumsum(-1) > 0
    return tokens, mask, (mask.cumsum(-1) - 1).clamp(min=0)


@wrong()
def positions_without_a_last_one(prompts, pad_token=0):
    tokens, mask, positions = as_lists(prompts, pad_token)
    return tokens, mask, positions[:, :-1]


@wrong()
def in_int32(prompts, pad_token=0):
    tokens, mask, positions = as_lists(prompts, pad_token)
    return tokens.int(), mask, positions


@wrong()
def an_additive_mask(prompts, pad_token=0):
    tokens, mask, positions = as_lists(prompts, pad_token)
    return tokens, torch.zeros(mask.shape).masked_fill(~mask, -torch.inf), positions


@wrong()
def another_order(prompts, pad_token=0):
    tokens, mask, positions = as_lists(prompts, pad_token)
    return tokens, positions, mask


@wrong()
def sorted_by_length(prompts, pad_token=0):
    return as_lists(sorted(prompts, key=len), pad_token)


@wrong()
def pads_the_prompts_themselves(prompts, pad_token=0):
    result = as_lists(prompts, pad_token)
    for prompt in prompts:
        prompt[:0] = [pad_token] * (result[0].shape[1] - len(prompt))
    return result
