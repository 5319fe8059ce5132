"""Equivalent mutants of lesson 03."""

__all__ = ["EQUIVALENT"]

PROMOTED = "float16 and bfloat16 times the float32 table is float32 all the same"
FROM_ZERO = "a slice without a start starts at 0"
AXES = "transpose takes its two axes in either order"
FOUR_AXES = "q has four axes, so the last two are those from 2 on"
ONLY_ON_CUDA = "the tables come out on the CPU, which a CUDA device tells and the CPU cannot"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("apply_rope", "a, b = x.chunk(2, dim=-1)"): PROMOTED,
    ("apply_rope_interleaved", "a, b = (x[..., 0::2], x[..., 1::2].float())"): PROMOTED,
    ("apply_rope_interleaved", "a, b = (x[..., 0::2].float(), x[..., 1::2])"): PROMOTED,
    ("apply_rope_interleaved", "a, b = (x[..., ::2].float(), x[..., 1::2].float())"): FROM_ZERO,
    ("to_interleaved", "return heads.transpose(2, 1).flatten(0, 2)"): AXES,
    ("rotate_new_tokens", "positions = torch.arange(n_cached, n_cached + seq_len)"): ONLY_ON_CUDA,
    ("rotate_new_tokens", "seq_len, head_dim = q.shape[2:]"): FOUR_AXES,
}
