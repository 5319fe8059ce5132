"""Equivalent mutants of lesson 01."""

__all__ = ["EQUIVALENT"]

DRAWN = "how the numbers of the table are drawn is up to the learner"
WORDS = "the words beside the two numbers are up to the learner"
SIGN = "the largest absolute difference is the same for both signs"
TOLERANCE = "any tolerance between rounding and the smallest influence is as good"

TABLE = "LearnedPositionalEmbedding"

EQUIVALENT: dict[tuple[str, str], str] = {
    (TABLE, "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) / 0.02)"): DRAWN,
    (TABLE, "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) + 0.02)"): DRAWN,
    (TABLE, "self.weight = nn.Parameter(torch.randn(max_seq_len, dim))"): DRAWN,
    (TABLE, "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) * 0.04)"): DRAWN,
    (TABLE, "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) * 1.02)"): DRAWN,
    (TABLE, "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) * 0.0)"): DRAWN,
    (TABLE, "error = ValueError(f'{end}other{max_seq_len}')"): WORDS,
    ("depends_on", "added = x - add(x)"): SIGN,
    ("depends_on", "position = (added[:, :1] - added).abs().max() > 0.0003"): SIGN,
    ("depends_on", "sequence = (added[:1] - added).abs().max() > 0.0003"): SIGN,
    ("depends_on", "position = (added - added[:, :1]).abs().max() >= 0.0003"): TOLERANCE,
    ("depends_on", "sequence = (added - added[:1]).abs().max() >= 0.0003"): TOLERANCE,
    ("depends_on", "position = (added - added[:, :1]).abs().max() > 0.0006"): TOLERANCE,
    ("depends_on", "sequence = (added - added[:1]).abs().max() > 0.0006"): TOLERANCE,
}
