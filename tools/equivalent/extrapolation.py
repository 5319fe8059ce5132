"""Equivalent mutants of lesson 04."""

__all__ = ["EQUIVALENT"]

ONLY_ON_CUDA = "the positions come out on the CPU, which a CUDA device tells and the CPU cannot"
EVEN = "head_dim is even, so half of it is a whole number"
EVEN_ABOVE_2 = "head_dim is even, so more than 2 is more than 3"
EITHER_ORDER = "the larger of two numbers is the same in either order"
FOUR_AXES = "q has four axes, so the last two are those from 2 on"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("alibi_bias", "positions = torch.arange(key_len)"): ONLY_ON_CUDA,
    ("ntk_theta", "if head_dim <= 3:"): EVEN_ABOVE_2,
    ("yarn_ramp", "first = max(0, math.floor(pair_that_turns(beta_fast)))"): EITHER_ORDER,
    (
        "yarn_ramp",
        "return head_dim // 2 * math.log(original_max_seq_len / (2 * math.pi * times)) / math.log(theta)",
    ): EVEN,
    ("rotate_interpolated", "positions = torch.arange(n_cached, n_cached + seq_len)"): ONLY_ON_CUDA,
    ("rotate_interpolated", "seq_len, head_dim = q.shape[2:]"): FOUR_AXES,
}
