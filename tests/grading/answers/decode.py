"""Other answers to decode."""

import torch

from tests.grading.answers import right, wrong


@right
def prompt_first(model, prompt, max_new_tokens, stop_tokens=()):
    device = next(model.parameters()).device
    cache = model.new_cache(1, 10_000)
    logits = model(torch.tensor(prompt, device=device).unsqueeze(0), cache=cache)
    new = []
    while True:
        token = logits[:, -1, :].topk(1).indices.item()
        if token in set(stop_tokens):
            return new
        new.append(token)
        if len(new) == max_new_tokens:
            return new
        logits = model(torch.full((1, 1), token, device=device), cache=cache)


@right
def by_itself(model, prompt, max_new_tokens, stop_tokens=()):
    def go_on(tokens, left):
        if not left:
            return []
        best = model(torch.tensor([tokens], device=device), cache=cache)[0, -1].argmax().tolist()
        return [] if best in stop_tokens else [best, *go_on([best], left - 1)]

    device, cache = next(model.parameters()).device, model.new_cache(1, len(prompt) + max_new_tokens)
    return go_on(prompt, max_new_tokens)


@right
def as_tensors(model, prompt, max_new_tokens, stop_tokens=()):
    device = next(model.parameters()).device
    cache, tokens, out = model.new_cache(1, len(prompt) + max_new_tokens), torch.tensor([prompt], device=device), []
    for _ in range(max_new_tokens):
        tokens = model(tokens, cache=cache)[:, -1:].argmax(-1)
        if any(tokens.item() == stop for stop in stop_tokens):
            break
        out.append(tokens)
    return torch.cat(out, dim=1)[0].tolist() if out else []


@wrong(called="with the prompt")
def the_whole_text(model, prompt, max_new_tokens, stop_tokens=()):
    return [*prompt, *prompt_first(model, prompt, max_new_tokens, stop_tokens)]


@wrong()
def a_tensor(model, prompt, max_new_tokens, stop_tokens=()):
    return torch.tensor(prompt_first(model, prompt, max_new_tokens, stop_tokens))


@wrong()
def a_list_of_tensors(model, prompt, max_new_tokens, stop_tokens=()):
    return [torch.tensor(token) for token in prompt_first(model, prompt, max_new_tokens, stop_tokens)]


@wrong(called="everything read anew without a cache")
def without_a_cache(model, prompt, max_new_tokens, stop_tokens=()):
    text = list(prompt)
    for _ in range(max_new_tokens):
        best = model(torch.tensor([text]))[0, -1].argmax().item()
        if best in stop_tokens:
            break
        text.append(best)
    return text[len(prompt) :]


def looped(model, cache, new, max_new_tokens, stop_tokens):
    out = []
    for _ in range(max_new_tokens):
        best = model(torch.tensor([new]), cache=cache)[0, -1].argmax().item()
        if best in stop_tokens:
            break
        out.append(best)
        new = [best]
    return out


@wrong()
def a_cache_for_the_prompt_alone(model, prompt, max_new_tokens, stop_tokens=()):
    return looped(model, model.new_cache(1, len(prompt)), prompt, max_new_tokens, stop_tokens)


@wrong()
def the_prompt_s_last_token_twice(model, prompt, max_new_tokens, stop_tokens=()):
    cache = model.new_cache(1, len(prompt) + max_new_tokens + 1)
    model(torch.tensor([prompt]), cache=cache)
    return looped(model, cache, prompt[-1:], max_new_tokens, stop_tokens)


@wrong()
def appends_to_the_prompt(model, prompt, max_new_tokens, stop_tokens=()):
    n = len(prompt)
    prompt += prompt_first(model, list(prompt), max_new_tokens, stop_tokens)
    return prompt[n:]


@wrong()
def a_stop_token_of_the_prompt_ends_it(model, prompt, max_new_tokens, stop_tokens=()):
    out = prompt_first(model, prompt, max_new_tokens, ())
    for i in range(len(out)):
        if set(stop_tokens) & set(out[: i + 1][:-1]):
            return out[:i]
    return out


@wrong()
def a_token_late(model, prompt, max_new_tokens, stop_tokens=()):
    return prompt_first(model, prompt, max_new_tokens + 1, stop_tokens)[1:]
