"""Other answers to yarn_ramp."""

import math

import numpy as np
import torch

from llama_lessons import extrapolation, rope
from tests.grading.answers import right, wrong


@right
def by_logarithms_to_another_base(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    # A pair's number from its frequency: theta to the power -2i / head_dim is 2 pi times turns over length.
    base = theta ** (-2 / head_dim)
    first = math.floor(math.log(2 * math.pi * beta_fast / original_max_seq_len, base))
    last = min(math.ceil(math.log(2 * math.pi * beta_slow / original_max_seq_len, base)), head_dim - 1)
    first = 0 if first < 0 else first
    ramp = [min(max((i - first) / (last - first), 0.0), 1.0) for i in range(head_dim // 2)]
    return torch.tensor(ramp, dtype=torch.float64)


@right
def by_counting(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    # Counting instead of logarithms: pairs with so many turns come before all others.
    far = torch.arange(4 * head_dim, dtype=torch.float64)  # pairs that the head does not have
    turns = original_max_seq_len * theta ** (-2 * far / head_dim) / (2 * math.pi)
    first = max(int((turns >= beta_fast).sum()) - 1, 0)
    last = min(int((turns > beta_slow).sum()), head_dim - 1)
    pairs = torch.arange(head_dim // 2).double()
    return torch.clip((pairs - first) / (last - first), min=0.0, max=1.0)


@right
def from_the_library(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return extrapolation.yarn_ramp(rope.rope_frequencies(head_dim, theta), original_max_seq_len, beta_fast, beta_slow)


@right
def as_hugging_face_has_it(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    def dim_of(rotations):
        return (head_dim * math.log(original_max_seq_len / (rotations * 2 * math.pi))) / (2 * math.log(theta))

    low, high = max(math.floor(dim_of(beta_fast)), 0), min(math.ceil(dim_of(beta_slow)), head_dim - 1)
    return torch.clamp((torch.arange(head_dim // 2, dtype=torch.float64) - low) / (high - low), 0, 1)


@right
def by_interpolation(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    turns = np.log(original_max_seq_len / (2 * np.pi * np.array([beta_fast, beta_slow])))
    first, last = head_dim / 2 * turns / np.log(theta)
    first, last = max(np.floor(first), 0), min(np.ceil(last), head_dim - 1)
    return torch.from_numpy(np.interp(np.arange(head_dim // 2), [first, last], [0.0, 1.0]))


@right
def by_a_loop(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    def pair(turns):
        return math.log(original_max_seq_len / (math.tau * turns), theta) * head_dim / 2

    first, last = int(max(pair(beta_fast), 0)), min(-int(-pair(beta_slow) // 1), head_dim - 1)
    ramp = torch.zeros(head_dim // 2, dtype=torch.float64)
    for i in range(head_dim // 2):
        if i >= last:
            ramp[i] = 1
        elif i > first:
            ramp[i] = (i - first) / (last - first)
    return ramp


@wrong()
def of_smollm2(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return ((torch.arange(head_dim // 2, dtype=torch.float64) - 10) / 10).clamp(0, 1)


@wrong()
def that_skips_its_ends(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    ramp = from_the_library(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)
    inside = (ramp > 0) & (ramp < 1)
    ramp[inside] = torch.linspace(0, 1, int(inside.sum()), dtype=torch.float64)
    return ramp


@wrong()
def that_is_smooth(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    ramp = from_the_library(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)
    return ramp * ramp * (3 - 2 * ramp)


@wrong(called="int() below 0")
def whose_beginning_int_cuts_towards_0(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    def pair(turns):
        return head_dim / 2 * math.log(original_max_seq_len / (math.tau * turns)) / math.log(theta)

    first, last = int(pair(beta_fast)), min(math.ceil(pair(beta_slow)), head_dim - 1)
    return ((torch.arange(head_dim // 2, dtype=torch.float64) - first) / (last - first)).clamp(0, 1)


@wrong(called="a number for each channel")
def for_each_channel(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return from_the_library(head_dim, theta, original_max_seq_len, beta_fast, beta_slow).repeat(2)


def pairs_of(betas, head_dim, theta, length):
    return [head_dim * math.log(length / (2 * math.pi * beta)) / (2 * math.log(theta)) for beta in betas]


def between(first, last, head_dim):
    return ((torch.arange(head_dim // 2, dtype=torch.float64) - first) / (last - first)).clamp(0, 1)


@right
def by_int_plus_one(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    first, last = pairs_of((beta_fast, beta_slow), head_dim, theta, original_max_seq_len)
    return between(max(int(first), 0), min(int(last) + 1, head_dim - 1), head_dim)


@wrong(called="not rounded, and not limited")
def from_the_formula_alone(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return between(*pairs_of((beta_fast, beta_slow), head_dim, theta, original_max_seq_len), head_dim)


@wrong(called="not rounded, and not limited")
def linear_in_the_logarithm_of_the_turns(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    turns = original_max_seq_len * rope.rope_frequencies(head_dim, theta) / math.tau
    return ((math.log(beta_fast) - turns.log()) / (math.log(beta_fast) - math.log(beta_slow))).clamp(0, 1)


@wrong(called="float32 on the way")
def of_whole_numbers_and_then_double(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    first, last = pairs_of((beta_fast, beta_slow), head_dim, theta, original_max_seq_len)
    first, last = max(math.floor(first), 0), math.ceil(last)
    return ((torch.arange(head_dim // 2) - first) / (last - first)).clamp(0, 1).double()


@wrong(called="1 and 0 exchanged")
def the_mask_of_hugging_face(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return 1 - as_hugging_face_has_it(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)


@wrong(called="1 a pair too early")
def by_int_alone(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return between(*map(int, pairs_of((beta_fast, beta_slow), head_dim, theta, original_max_seq_len)), head_dim)


@wrong()
def by_linspace_up_to_the_end(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    first, last = pairs_of((beta_fast, beta_slow), head_dim, theta, original_max_seq_len)
    first, last = max(math.floor(first), 0), min(math.ceil(last), head_dim // 2)
    ramp = torch.zeros(head_dim // 2, dtype=torch.float64)
    ramp[last:] = 1
    ramp[first:last] = torch.linspace(0, 1, last - first, dtype=torch.float64)
    return ramp


@wrong(called="linear in the turns")
def as_the_paper_s_equation_has_it(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    turns = original_max_seq_len * rope.rope_frequencies(head_dim, theta) / math.tau
    return 1 - ((turns - beta_slow) / (beta_fast - beta_slow)).clamp(0, 1)


@wrong(called="ends at pair head_dim // 2 at the latest")
def by_counting_its_own_pairs(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    turns = original_max_seq_len * rope.rope_frequencies(head_dim, theta) / math.tau
    return between(max(int((turns >= beta_fast).sum()) - 1, 0), int((turns > beta_slow).sum()), head_dim)


@wrong(called="both rounded up")
def from_the_first_pair_that_turns_less(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    turns = original_max_seq_len * rope.rope_frequencies(head_dim, theta) / math.tau
    return between(int((turns >= beta_fast).sum()), int((turns > beta_slow).sum()), head_dim)


RAMPS, THETAS = {}, {}
WRITTEN_IN = ("theta written in", "betas written in", "beta_fast written in", "the length written in")


@wrong(never=WRITTEN_IN)
def kept_by_head_dim(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    ramp = from_the_library(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)
    return RAMPS.setdefault(head_dim, ramp)


@wrong(never=WRITTEN_IN)
def theta_kept_by_head_dim(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    theta = THETAS.setdefault(head_dim, theta)
    return from_the_library(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)


@wrong()
def with_no_defaults(head_dim, theta, original_max_seq_len, beta_fast, beta_slow):
    return from_the_library(head_dim, theta, original_max_seq_len, beta_fast, beta_slow)


@wrong(called="0 for all pairs", never=("no log(theta)",))
def with_the_logarithm_turned_around(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    turns = (original_max_seq_len / (2 * math.pi * beta) for beta in (beta_fast, beta_slow))
    first, last = (head_dim / 2 * math.log(1 / turn, theta) for turn in turns)
    return between(max(math.floor(first), 0), math.ceil(last), head_dim)


def limited(head_dim, theta, original_max_seq_len, beta_fast, beta_slow, most):
    def pair(beta):
        return head_dim / 2 * math.log(original_max_seq_len / beta / math.tau) / math.log(theta)

    first, last = max(0, math.floor(pair(beta_fast))), min(math.ceil(pair(beta_slow)), most)
    return ((torch.arange(head_dim // 2, dtype=torch.float64) - first) / (last - first)).clamp(0, 1)


@wrong(called="ends at head_dim at the latest")
def that_ends_at_head_dim(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return limited(head_dim, theta, original_max_seq_len, beta_fast, beta_slow, head_dim)


@wrong(called="its end not limited")
def that_ends_at_twice_head_dim(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    return limited(head_dim, theta, original_max_seq_len, beta_fast, beta_slow, 2 * head_dim)


@wrong(called="defaults exchanged")
def with_betas_by_default_the_wrong_way_round(head_dim, theta, original_max_seq_len, beta_fast=1, beta_slow=32):
    return limited(head_dim, theta, original_max_seq_len, beta_fast, beta_slow, head_dim - 1)


@wrong(called="its end not limited")
def by_counting_without_a_limit(head_dim, theta, original_max_seq_len, beta_fast=32, beta_slow=1):
    turns = original_max_seq_len * theta ** (-2 * torch.arange(99 * head_dim).double() / head_dim) / math.tau
    return between(max(int((turns >= beta_fast).sum()) - 1, 0), int((turns > beta_slow).sum()), head_dim)
