"""Equivalent mutants of lesson 02."""

__all__ = ["EQUIVALENT"]

FROM_ZERO = "a slice without a start starts at 0"
ONLY_ON_CUDA = "positions come out on the CPU, which a CUDA device tells and the CPU cannot"
ALL_FILLED = "every number of the table is written over"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("sinusoidal_positions", "table[:, ::2], table[:, 1::2] = (angles.sin(), angles.cos())"): FROM_ZERO,
    ("embed_with_positions", "places = torch.arange(start_pos, start_pos + tokens.shape[1])"): ONLY_ON_CUDA,
    ("tutorial_table", "table = torch.ones(max_seq_len, dim)"): ALL_FILLED,
}
