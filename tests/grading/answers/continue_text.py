"""Other answers to continue_text."""

import torch

from llama_lessons.generation import generate, left_pad
from tests.grading.answers import right, wrong


def looped(model, prompts, n, positions=None, mask_new=True, column=-1):
    """Left padding with a mask; positions(mask, seq_len) gives them, the library's own without it."""
    device = next(model.parameters()).device
    tokens, mask = (x.to(device) for x in left_pad(prompts))
    cache, out = model.new_cache(len(prompts), mask.shape[1] + n), []
    for _ in range(n):
        where = positions(mask, tokens.shape[1]) if positions else None
        logits = model(tokens, where, attention_mask=mask, cache=cache)
        tokens = logits[:, column].argmax(-1, keepdim=True)
        out.append(tokens)
        mask = torch.cat([mask, torch.full_like(tokens, mask_new, dtype=torch.bool)], dim=1)
    return torch.cat(out, dim=1)


@right
def positions_left_to_the_model(model, prompts, max_new_tokens):
    return looped(model, prompts, max_new_tokens)


@right
def by_the_library(model, prompts, max_new_tokens):
    return torch.tensor(generate(model, prompts, max_new_tokens), device=next(model.parameters()).device)


@right
def positions_of_the_columns(model, prompts, max_new_tokens):
    """RoPE sees distances alone, so that all of a row may stand further to the right."""
    return looped(model, prompts, max_new_tokens, lambda mask, n: torch.arange(mask.shape[1], device=mask.device)[-n:])


@right
def positions_of_each_row(model, prompts, max_new_tokens):
    return looped(model, prompts, max_new_tokens, lambda mask, n: (mask.cumsum(-1) - 1).clamp(min=0)[:, -n:])


@wrong(called="positions restart")
def restarting(model, prompts, max_new_tokens):
    def positions(mask, n):
        return (
            (mask.cumsum(-1) - 1).clamp(min=0) if n > 1 or mask.shape[1] == 1 else torch.zeros_like(mask[:, :1]).long()
        )

    return looped(model, prompts, max_new_tokens, positions)


@wrong(called="new tokens are masked")
def masked(model, prompts, max_new_tokens):
    def positions(mask, n):
        seen = mask.clone()
        longest = max(map(len, prompts))
        seen[:, longest:] = True
        return (seen.cumsum(-1) - 1).clamp(min=0)[:, -n:]

    return looped(model, prompts, max_new_tokens, positions, mask_new=False)


@wrong()
def the_first_column(model, prompts, max_new_tokens):
    return looped(model, prompts, max_new_tokens, column=0)


@wrong()
def one_token_late(model, prompts, max_new_tokens):
    return looped(model, prompts, max_new_tokens + 1)[:, 1:]


@wrong()
def one_too_few(model, prompts, max_new_tokens):
    return looped(model, prompts, max_new_tokens)[:, :-1]


@wrong()
def as_columns(model, prompts, max_new_tokens):
    return looped(model, prompts, max_new_tokens).T


@wrong()
def the_first_prompt_for_all(model, prompts, max_new_tokens):
    return looped(model, prompts[:1] * len(prompts), max_new_tokens)


@wrong()
def positions_backwards(model, prompts, max_new_tokens):
    return looped(model, prompts, max_new_tokens, lambda mask, n: -torch.arange(mask.shape[1], device=mask.device)[-n:])


@wrong()
def everything_read_anew(model, prompts, max_new_tokens):
    rows = [list(prompt) for prompt in prompts]
    device = next(model.parameters()).device
    for _ in range(max_new_tokens):
        for row in rows:
            row.append(model(torch.tensor([row], device=device))[0, -1].argmax().item())
    return torch.tensor([row[-max_new_tokens:] for row in rows], device=device)


@wrong()
def a_draw(model, prompts, max_new_tokens):
    return torch.tensor(
        generate(model, prompts, max_new_tokens, temperature=1.0), device=next(model.parameters()).device
    )
