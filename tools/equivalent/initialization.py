"""Equivalent mutants of lesson 06."""

__all__ = ["EQUIVALENT"]

NEAR = "a prediction counts within 5%, and this one is much nearer"
TIED = "the head's own weight is thrown away for the table, and its shape with it"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("predict_first_losses", "return (math.log(84), math.log(49152), 577.0, 0.0)"): NEAR,
    ("predict_first_losses", "return (math.log(85), math.log(49152), 576.0, 0.0)"): NEAR,
    ("predict_first_losses", "return (math.log(83), math.log(49152), 576.0, 0.0)"): NEAR,
    ("predict_first_losses", "return (math.log(84), math.log(49153), 576.0, 0.0)"): NEAR,
    ("predict_first_losses", "return (math.log(84), math.log(49151), 576.0, 0.0)"): NEAR,
    ("TiedModel", "self.head = nn.Linear(vocab_size, dim, bias=False)"): TIED,
}
