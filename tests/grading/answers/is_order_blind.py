"""Other answers to is_order_blind."""

import itertools
import random

import numpy as np
import torch

from llama_lessons.lab import probes
from tests.grading.answers import right, wrong

right(probes.is_order_blind)


def orders_of(x, tries=6):
    return [torch.randperm(x.shape[1]) for _ in range(tries)]


@right
def returns_at_the_first_difference(mix, x):
    for _ in range(10):
        order = torch.randperm(x.shape[1], device=x.device)
        if not torch.allclose(mix(x[:, order]), mix(x)[:, order], atol=1e-4):
            return False
    return True


@right
def by_swaps_of_neighbours_which_generate_every_order(mix, x):
    once = mix(x)
    for i in range(x.shape[1] - 1):
        order = list(range(x.shape[1]))
        order[i], order[i + 1] = i + 1, i
        if (mix(x[:, order]) - once[:, order]).abs().max().item() > 1e-4:
            return False
    return True


@right
def all_orders_stacked(mix, x):
    orders = torch.stack(orders_of(x, tries=16)).to(x.device)
    before = torch.stack([mix(x[:, order]) for order in orders])
    after = torch.stack([mix(x)[:, order] for order in orders])
    return bool(((before - after).abs() < 5e-4).all())


@wrong(called=None)
def all_120_orders_of_the_first_five_tokens(mix, x):
    rest = list(range(5, x.shape[1]))
    orders = [[*order, *rest] for order in itertools.permutations(range(min(5, x.shape[1])))]
    return all(torch.allclose(mix(x[:, order]), mix(x)[:, order], atol=1e-4) for order in orders)


@wrong(called=None)
def all_orders_of_five_tokens_alone(mix, x):
    orders = list(itertools.permutations(range(min(5, x.shape[1]))))
    five = x[:, : len(orders[0])]
    return all(torch.allclose(mix(five[:, list(o)]), mix(five)[:, list(o)], atol=1e-4) for o in orders)


@right
def with_numpy(mix, x):
    draw = np.random.default_rng(0)
    orders = [torch.from_numpy(draw.permutation(x.shape[1])) for _ in range(8)]
    return all(bool(np.allclose(mix(x[:, o]).cpu().numpy(), mix(x).cpu().numpy()[:, o], atol=1e-4)) for o in orders)


@right
def with_shuffled_list(mix, x):
    order = list(range(x.shape[1]))
    for _ in range(8):
        random.shuffle(order)
        if (mix(x[:, order]) - mix(x)[:, order]).abs().max() > 5e-4:
            return False
    return True


@right
def put_back_with_argsort(mix, x):
    return all(torch.allclose(mix(x[:, o])[:, o.argsort()], mix(x), atol=1e-5) for o in orders_of(x))


@right
def with_permutation_matrices(mix, x):
    matrices = [torch.eye(x.shape[1])[order].to(x) for order in orders_of(x)]
    return all(torch.allclose(mix(p @ x), p @ mix(x), atol=1e-4) for p in matrices)


@wrong()
def raises_instead_of_answering(mix, x):
    order = torch.randperm(x.shape[1])
    torch.testing.assert_close(mix(x[:, order]), mix(x)[:, order], rtol=0, atol=1e-4)
    return True


@wrong()
def forgets_channels(mix, x):
    return all(
        torch.allclose(mix(x[:, o])[..., 0].sum(1), mix(x)[:, o][..., 0].sum(1), atol=1e-3) for o in orders_of(x)
    )


@wrong(never=("average difference", "output not shuffled back", "the first two tokens exchanged"))
def middle_tokens_only(mix, x):
    order, middle = torch.randperm(x.shape[1]), x.shape[1] // 2
    return torch.allclose(mix(x[:, order])[:, middle], mix(x)[:, order[middle]], atol=1e-4)


@wrong()
def by_the_name_of_the_function(mix, x):
    return "position" not in mix.__name__


@wrong(called="x changed in place")
def shuffles_x_itself(mix, x):
    before = mix(x)
    for order in orders_of(x):
        x[:] = x[:, order]
        after, before = mix(x), before[:, order]
        if not torch.allclose(after, before, atol=1e-4):
            return False
    return True


@wrong(called="tolerance too large")
def very_loose(mix, x):
    return all(torch.allclose(mix(x[:, o]), mix(x)[:, o], atol=0.5) for o in orders_of(x))


@wrong(called="output not shuffled back")
def compares_with_the_first_order(mix, x):
    return all((mix(x[:, order]) - mix(x)).abs().max() < 1e-4 for order in orders_of(x, tries=20))


@wrong(called="output not shuffled back")
def shuffled_back_by_the_same_order(mix, x):
    return all(torch.allclose(mix(x[:, o])[:, o], mix(x), atol=1e-4) for o in orders_of(x))


@wrong(called="one order only")
def returns_in_the_first_round(mix, x):
    for _ in range(10):
        order = torch.randperm(x.shape[1])
        return bool((mix(x[:, order]) - mix(x)[:, order]).abs().max() < 1e-4)
    return True


@wrong(called="only reversed")
def flipped(mix, x):
    return torch.allclose(mix(x.flip(1)).flip(1), mix(x), atol=1e-4)


@wrong(called="average difference")
def by_the_mean_absolute_error(mix, x):
    return all(torch.nn.functional.l1_loss(mix(x[:, o]), mix(x)[:, o]).item() < 1e-4 for o in orders_of(x, 10))


@wrong(called="only the total, reversed")
def backwards_and_summed_as_in_the_lesson(mix, x):
    backwards = mix(x.flip(1))
    return torch.allclose(backwards.sum(dim=1), mix(x).sum(dim=1), atol=1e-3)


@wrong(called="exact equality")
def by_a_double_equals_sign(mix, x):
    return all(bool((mix(x[:, o]) == mix(x)[:, o]).all()) for o in orders_of(x))


@wrong(called="answer turned round")
def true_where_a_difference_is_found(mix, x):
    return any(not torch.allclose(mix(x[:, o]), mix(x)[:, o], atol=1e-4) for o in orders_of(x, 12))


@wrong()
def any_order_is_enough(mix, x):
    return any(torch.allclose(mix(x[:, o]), mix(x)[:, o], atol=1e-4) for o in orders_of(x, 12))


@wrong(never=("exact equality", "always True", "always False"))
def squared_differences(mix, x):
    return all(((mix(x[:, o]) - mix(x)[:, o]) ** 2).mean().item() < 1e-6 for o in orders_of(x))


@wrong(called="channels shuffled")
def shuffles_the_last_axis(mix, x):
    orders = [torch.randperm(x.shape[-1]) for _ in range(8)]
    return all(torch.allclose(mix(x[..., o]), mix(x)[..., o], atol=1e-4) for o in orders)


@wrong(called="only one token")
def the_last_but_one_token_only(mix, x):
    return all(torch.allclose(mix(x[:, o])[:, -2], mix(x)[:, o][:, -2], atol=1e-4) for o in orders_of(x, tries=9))


@wrong(called="batch shuffled")
def shuffles_the_first_axis(mix, x):
    orders = [torch.randperm(len(x)) for _ in range(8)]
    return all(torch.allclose(mix(x[o]), mix(x)[o], atol=1e-4) for o in orders)


@wrong(called="one order, and a tolerance too small")
def one_order_and_the_tolerance_of_torch(mix, x):
    order = torch.randperm(x.shape[1])
    return torch.allclose(mix(x[:, order]), mix(x)[:, order])


@wrong(called="tolerance too large")
def a_tolerance_of_what_counts(mix, x):
    return all(torch.allclose(mix(x[:, o]), mix(x)[:, o], atol=1e-3) for o in orders_of(x, tries=10))


@wrong(never=("output not shuffled back", "exact equality"))
def a_large_relative_tolerance(mix, x):
    return all(torch.allclose(mix(x[:, o]), mix(x)[:, o], rtol=1e-2, atol=1e-4) for o in orders_of(x, tries=10))


def shuffled(x):
    order = torch.randperm(x.shape[1])
    return order, order.argsort()


@wrong(called="one order, not shuffled back")
def compared_as_they_come(mix, x):
    order, _ = shuffled(x)
    return bool(torch.allclose(mix(x), mix(x[:, order]), atol=1e-4))


@wrong(called="the first token stays", never=("one order only",))
def all_but_the_first_shuffled(mix, x):
    orders = [torch.cat((torch.zeros(1, dtype=torch.long), 1 + torch.randperm(x.shape[1] - 1))) for _ in range(6)]
    return all(torch.allclose(mix(x[:, o]), mix(x)[:, o], atol=1e-4) for o in orders)


@wrong(called="the last token stays", never=("one order only",))
def all_but_the_last_shuffled(mix, x):
    last = torch.tensor([x.shape[1] - 1])
    orders = [torch.cat((torch.randperm(x.shape[1] - 1), last)) for _ in range(6)]
    return all(torch.allclose(mix(x[:, o]), mix(x)[:, o], atol=1e-4) for o in orders)


@wrong(called=None)
def the_last_token_stays_and_is_compared(mix, x):
    last = torch.tensor([x.shape[1] - 1])
    orders = [torch.cat((torch.randperm(x.shape[1] - 1), last)) for _ in range(10)]
    return all(torch.allclose(mix(x[:, o])[:, -1], mix(x)[:, -1], atol=1e-4) for o in orders)


@wrong(called=None)
def the_last_four_tokens_shifted(mix, x):
    order = torch.arange(x.shape[1])
    order[-4:] = order[-4:].roll(1)
    return torch.allclose(mix(x[:, order]), mix(x)[:, order], atol=1e-4)


@wrong(called="the last two tokens exchanged", never=("the first two tokens exchanged",))
def two_exchanged_at_the_end(mix, x):
    order = list(range(x.shape[1]))
    order[-2:] = order[:-3:-1]
    return torch.allclose(mix(x[:, order]), mix(x)[:, order], atol=1e-4)


@wrong(called="only sums over channels", never=("only the first channel",))
def summed_over_channels(mix, x):
    return all(torch.allclose(mix(x[:, o]).sum(-1), mix(x)[:, o].sum(-1), atol=3e-4) for o in orders_of(x))


@wrong(called=None)
def averaged_over_the_batch(mix, x):
    return all((mix(x[:, o]) - mix(x)[:, o]).mean(0).abs().max().item() < 1e-4 for o in orders_of(x))


@wrong(called=None)
def tokens_of_its_own(mix, x):
    own = torch.randn(1, 8, x.shape[-1], device=x.device)
    order = torch.randperm(8)
    return torch.allclose(mix(own[:, order]), mix(own)[:, order], rtol=0, atol=2e-4)


@wrong(called=None)
def shifted_and_reversed(mix, x):
    shifts = [torch.arange(x.shape[1]).roll(n) for n in range(x.shape[1])]
    orders = [order for shift in shifts for order in (shift, shift.flip(0))]
    return all(torch.allclose(mix(x[:, o]), mix(x)[:, o], atol=1e-4) for o in orders)


@wrong(called=None)
def lengths_alone(mix, x):
    return all(torch.allclose(mix(x[:, o]).norm(dim=-1), mix(x)[:, o].norm(dim=-1), atol=1e-4) for o in orders_of(x))


@wrong(never=("always False",))
def one_order_and_true_where_it_matters(mix, x):
    order, back = shuffled(x)
    return bool((mix(x[:, order])[:, back] - mix(x)).abs().max() > 2e-4)


@wrong()
def reorders_the_batch_too(mix, x):
    orders = [torch.randperm(x.shape[1], device=x.device) for _ in range(8)]
    return all(torch.allclose(mix(x.flip(0)[:, o]), mix(x).flip(0)[:, o], rtol=0, atol=2e-4) for o in orders)
