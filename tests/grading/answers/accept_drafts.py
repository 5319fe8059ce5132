"""Other answers to accept_drafts."""

import torch
import torch.nn.functional as F

from tests.grading.answers import right, wrong


def drawn(weights, v):
    sums = weights.cumsum(-1)
    return int(torch.searchsorted(sums, v * sums[-1:], right=True))


@right
def with_plain_numbers(target, draft, tokens, u, v):
    p, q = target.tolist(), draft.tolist()
    out = []
    for row, token in enumerate(tokens):
        if u[row] * q[row][token] < p[row][token]:
            out.append(token)
        else:
            weights = [max(0.0, a - b) for a, b in zip(p[row], q[row], strict=True)]
            break
    else:
        weights = p[-1]
    total = 0.0
    for token, weight in enumerate(weights):
        total += weight
        if total > v * sum(weights):
            return [*out, token]
    return [*out, max(range(len(weights)), key=weights.__getitem__)]


@right
def all_at_once(target, draft, tokens, u, v):
    n = len(tokens)
    ids = torch.tensor(tokens, dtype=torch.long, device=target.device)[:, None]
    p, q = target[:n].gather(1, ids).squeeze(1), draft.gather(1, ids).squeeze(1)
    kept = torch.tensor(u, device=target.device) * q < p
    n_kept = int(kept.long().cumprod(0).sum())
    padded = F.pad(draft, (0, 0, 0, 1))
    return [*tokens[:n_kept], drawn((target[n_kept] - padded[n_kept]).relu(), v)]


@right
def one_after_another(target, draft, tokens, u, v):
    if not tokens:
        return [drawn(target[0], v)]
    if u[0] * draft[0, tokens[0]] >= target[0, tokens[0]]:
        return [drawn(F.relu(target[0] - draft[0]), v)]
    return [tokens[0], *one_after_another(target[1:], draft[1:], tokens[1:], u[1:], v)]


def judged(keeps, weights, last=None):
    """A judge that keeps a token where `keeps` says so, and draws from `weights` after a refusal."""

    def answer(target, draft, tokens, u, v):
        for i, token in enumerate(tokens):
            if not keeps(target[i, token].item(), draft[i, token].item(), u[i]):
                return [*tokens[:i], drawn(weights(target[i], draft[i]), v)]
        return [*tokens, drawn(target[-1] if last is None else last(target, draft), v)]

    return answer


def missing(p, q):
    return (p - q).clamp(min=0)


def by_rule(p, q, u):
    return u * q < p


@wrong(called="every draft is kept")
def trusting(target, draft, tokens, u, v):
    return judged(lambda p, q, u: True, missing)(target, draft, tokens, u, v)


@wrong(called="kept only where p is not less")
def strict(target, draft, tokens, u, v):
    return judged(lambda p, q, u: p >= q, missing)(target, draft, tokens, u, v)


@wrong(called="drawn from the model")
def redrawn(target, draft, tokens, u, v):
    return judged(by_rule, lambda p, q: p)(target, draft, tokens, u, v)


@wrong(called="the size of the difference")
def distance(target, draft, tokens, u, v):
    return judged(by_rule, lambda p, q: (p - q).abs())(target, draft, tokens, u, v)


@wrong(called="never keeps")
def safe(target, draft, tokens, u, v):
    return [drawn(target[0], v)]


@wrong()
def half_of_them(target, draft, tokens, u, v):
    return judged(lambda p, q, u: u < 0.5, missing)(target, draft, tokens, u, v)


@wrong()
def a_little_generous(target, draft, tokens, u, v):
    """As in lossy variants: a token is kept a little more often than it may be."""
    return judged(lambda p, q, u: u * q < 1.3 * p, missing)(target, draft, tokens, u, v)


@wrong()
def the_square_of_the_ratio(target, draft, tokens, u, v):
    return judged(lambda p, q, u: u < (p / q) ** 2, missing)(target, draft, tokens, u, v)


@wrong()
def a_softmax_of_what_is_missing(target, draft, tokens, u, v):
    return judged(by_rule, lambda p, q: missing(p, q).softmax(-1))(target, draft, tokens, u, v)


@wrong()
def the_most_missing(target, draft, tokens, u, v):
    return judged(by_rule, lambda p, q: (p - q == (p - q).max()).float())(target, draft, tokens, u, v)


@wrong()
def nothing_after_the_last(target, draft, tokens, u, v):
    result = judged(by_rule, missing)(target, draft, tokens, u, v)
    return result[:-1] if tokens and len(result) > len(tokens) else result


@wrong()
def its_own_chance(target, draft, tokens, u, v):
    fresh = torch.rand(len(tokens)).tolist()
    return judged(by_rule, missing)(target, draft, tokens, fresh, v)


@wrong()
def the_same_v_for_u(target, draft, tokens, u, v):
    return judged(by_rule, missing)(target, draft, tokens, [v] * len(tokens), v)


@wrong()
def from_the_last_token_back(target, draft, tokens, u, v):
    for i in reversed(range(len(tokens))):
        if u[i] * draft[i, tokens[i]] < target[i, tokens[i]]:
            return [*tokens[: i + 1], drawn(target[i + 1], v)]
    return [drawn(missing(target[0], draft[0]) if tokens else target[0], v)]


@wrong()
def extends_the_list_that_was_given(target, draft, tokens, u, v):
    result = judged(by_rule, missing)(target, draft, list(tokens), u, v)
    tokens.append(0)
    return result


@wrong()
def tensors(target, draft, tokens, u, v):
    return torch.tensor(judged(by_rule, missing)(target, draft, tokens, u, v))
