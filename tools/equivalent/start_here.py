"""Equivalent mutants of lesson 00."""

__all__ = ["EQUIVALENT"]

INDEX = "an index may lie on the CPU, whatever the device of what it is used on"
SYMMETRIC = "it is asked whether two results are alike, and rounding is far from the tolerance either way"
TRIES = "how many random orders are tried is free"
TOLERANCE = "any tolerance between rounding and the smallest influence is as good"
BESIDES = "the reversed order comes on top of eight random ones, which notice all that it does"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("is_order_blind", "order = torch.randperm(x.shape[1])"): INDEX,
    ("is_order_blind", "reverse = torch.arange(x.shape[1] - 1, -1, -1)"): INDEX,
    ("is_order_blind", "if not torch.allclose(result[:, order], mix(x[:, order]), atol=0.0001):"): SYMMETRIC,
    ("is_order_blind", "return torch.allclose(result[:, reverse], mix(x[:, reverse]), atol=0.0001)"): SYMMETRIC,
    ("is_order_blind", "for _ in range(7):"): TRIES,
    ("is_order_blind", "for _ in range(9):"): TRIES,
    ("is_order_blind", "if not torch.allclose(mix(x[:, order]), result[:, order], atol=0.0002):"): TOLERANCE,
    ("is_order_blind", "return torch.allclose(mix(x[:, reverse]), result[:, reverse], atol=0.0002)"): TOLERANCE,
    ("is_order_blind", "return torch.allclose(mix(x[:, reverse]), result[:, reverse], atol=1.0001)"): BESIDES,
}
