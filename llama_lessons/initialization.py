"""Lesson 06. Initialization: how large the first random weights are, and what becomes of activations through depth.

A layer multiplies the variance of what it reads by about fan_in * std ** 2. Xavier and He choose std so that
this factor is 1 (He: 2, since ReLU halves the mean square), and a plain stack needs it. A Llama has residual
connections and norms, and one small std is enough for all of its matrices; GPT-2 draws those that write into the
residual stream smaller, the deeper the model.

Not done here: Xavier's and He's uniform variants, and a row of zeros for a padding token.

Sources: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks";
He et al. 2015, "Delving Deep into Rectifiers"; Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners", section 2.3.
"""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from llama_lessons.positions import LearnedPositionalEmbedding

__all__ = [
    "Role",
    "expected_first_loss",
    "gpt2_init_",
    "kaiming_std",
    "llama_init_",
    "parameter_roles",
    "rms",
    "rms_by_depth",
    "xavier_init_",
    "xavier_std",
]

Role = Literal["embedding", "head", "projection", "residual", "gain", "bias"]

_EMBEDDINGS = (nn.Embedding, LearnedPositionalEmbedding)
# What a linear layer is for does not show in its class: here its own name says it.
_LINEAR_ROLES: dict[str, Role] = {"o_proj": "residual", "down_proj": "residual", "head": "head"}


def xavier_std(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    """Standard deviation that suits a linear unit, forwards and backwards at once (Glorot and Bengio, eq. 12).

    gain * sqrt(2 / (fan_in + fan_out))

    Args:
        fan_in: channels that the layer reads.
        fan_out: channels that it writes.
        gain: 1 without an activation.

    Returns:
        The standard deviation of one weight.

    Raises:
        ValueError: if fan_in or fan_out is not positive.
    """
    _check_positive(fan_in=fan_in, fan_out=fan_out)
    return gain * math.sqrt(2 / (fan_in + fan_out))


def kaiming_std(fan_in: int, gain: float = math.sqrt(2)) -> float:
    """Standard deviation that keeps the size of activations through depth (He et al., eq. 10).

    gain / sqrt(fan_in)

    Args:
        fan_in: channels that the layer reads.
        gain: sqrt(2) for ReLU, which leaves half of the mean square; 1 without an activation.

    Returns:
        The standard deviation of one weight.

    Raises:
        ValueError: if fan_in is not positive.
    """
    _check_positive(fan_in=fan_in)
    return gain / math.sqrt(fan_in)


def parameter_roles(model: nn.Module) -> dict[str, Role]:
    """Say of each parameter what it is: the question that both initialization and weight decay ask.

    - "embedding": the table of an embedding, of tokens or positions. A weight tied to one is an embedding too.
    - "gain", "bias": of a norm, be it torch's, ours or a learner's: a `weight`, or a `bias`, of one axis.
    - "bias": of a linear layer.
    - "residual": the matrix of a linear layer named o_proj or down_proj, which writes into the residual stream.
    - "head": the matrix of a linear layer named head.
    - "projection": the matrix of any other linear layer.

    Args:
        model: made of linear layers, embeddings and norms.

    Returns:
        A role for each name of `model.named_parameters()`, in the same order.

    Raises:
        ValueError: if a parameter is anything else.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    roles: dict[str, Role] = {}
    for module_name, module in model.named_modules():
        for own_name, parameter in module.named_parameters(recurse=False):
            role = _role(module_name.rpartition(".")[2], module, own_name, parameter.ndim)
            if role is None:
                raise ValueError(
                    f"{names[parameter]} has no known role: it is `{own_name}` of a {type(module).__name__}, and known "
                    "are weight and bias of linear layers, embeddings and norms"
                )
            # A tied weight is met twice, and either place may come first.
            if names[parameter] not in roles or role == "embedding":
                roles[names[parameter]] = role
    return roles


def _role(module_name: str, module: nn.Module, own_name: str, ndim: int) -> Role | None:
    if own_name == "bias" and ndim == 1:
        return "bias"
    if own_name != "weight":
        return None
    if isinstance(module, _EMBEDDINGS):
        return "embedding"
    if isinstance(module, nn.Linear):
        return _LINEAR_ROLES.get(module_name, "projection")
    return "gain" if ndim == 1 else None


def llama_init_(model: nn.Module, std: float = 0.02, generator: torch.Generator | None = None) -> None:
    """Draw the weights as Hugging Face's Llama does: N(0, std ** 2) for every matrix and table.

    Here and in the other schemes gains become 1 and biases 0, weights are drawn in the order of
    `model.named_parameters()`, and a tied weight is drawn once, as an embedding.

    Args:
        model: changed in place; see `parameter_roles` for what it may be made of.
        std: one standard deviation for all.
        generator: where random numbers come from; by default torch's own.

    Raises:
        ValueError: if a parameter has no known role.
    """
    _draw(model, lambda role, weight: std, generator)


def gpt2_init_(model: nn.Module, std: float = 0.02, generator: torch.Generator | None = None) -> None:
    """Draw the weights as GPT-2 does: like `llama_init_`, but what writes into the residual stream is smaller.

    The residual stream is a sum of as many random terms as there are residual projections, N = 2 n_layers in a
    Llama. With std / sqrt(N) for each, their sum does not grow with depth (Radford et al., section 2.3).

    Args:
        model: changed in place; see `parameter_roles` for what it may be made of.
        std: standard deviation of all but the residual projections.
        generator: where random numbers come from; by default torch's own.

    Raises:
        ValueError: if a parameter has no known role.
    """
    n_residuals = list(parameter_roles(model).values()).count("residual")
    _draw(model, lambda role, weight: std / math.sqrt(n_residuals) if role == "residual" else std, generator)


def xavier_init_(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw the matrices by `xavier_std`, each from its own shape, and the tables from N(0, 0.02 ** 2).

    A table is no matrix that something is multiplied by: a token picks one row, so its length is no fan_in.

    Args:
        model: changed in place; see `parameter_roles` for what it may be made of.
        generator: where random numbers come from; by default torch's own.

    Raises:
        ValueError: if a parameter has no known role.
    """
    _draw(model, lambda role, weight: 0.02 if role == "embedding" else xavier_std(*reversed(weight.shape)), generator)


def _draw(model: nn.Module, std: Callable[[Role, Tensor], float], generator: torch.Generator | None) -> None:
    roles = parameter_roles(model)
    for name, parameter in model.named_parameters():
        if roles[name] == "gain":
            nn.init.ones_(parameter)
        elif roles[name] == "bias":
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=std(roles[name], parameter), generator=generator)


def expected_first_loss(vocab_size: int, logit_std: float = 0.0) -> float:
    """Cross-entropy to expect before the first step: ln(vocab_size) + logit_std ** 2 / 2.

    The first term is the guess that holds all tokens equally likely. The second is what random logits cost on top:
    the mean of exp(logit) is exp(logit_std ** 2 / 2). So it holds for logits that are normal with mean 0, say nothing
    about the target, and are many: from logit_std near sqrt(2 ln(vocab_size)) on, the largest logit outweighs
    all others, and the loss grows only like logit_std * sqrt(2 ln(vocab_size)).

    Tied embeddings break it, since the residual stream still holds the row of the token just read, and the head
    scores that very row: this one logit is large and not random. Drawn with std 1 it is about dim, and the model is
    sure that each token comes again. The loss is then about dim too where another token comes, and near 0 where it
    was right.

    Args:
        vocab_size: logits per token.
        logit_std: their standard deviation.

    Returns:
        The loss in nats per token.

    Raises:
        ValueError: if vocab_size is not positive, or logit_std is negative.
    """
    _check_positive(vocab_size=vocab_size)
    if logit_std < 0:
        raise ValueError(f"logit_std ({logit_std}) must not be negative")
    return math.log(vocab_size) + logit_std**2 / 2


def rms(x: Tensor) -> float:
    """Root mean square of all numbers in x, in float64: squares of what has vanished are too small for float32."""
    return x.detach().to("cpu", torch.float64).square().mean().sqrt().item()


def rms_by_depth(blocks: Iterable[nn.Module], loss: Callable[[], Tensor]) -> tuple[list[float], list[float]]:
    """Measure how large the activations are after each block, and the gradients of the loss with respect to them.

    Gradients of the parameters are left as they are, and nothing stays behind on the blocks.

    Args:
        blocks: what to listen to, each giving one tensor; `model.blocks`, say.
        loss: runs the model and returns the loss, a scalar.

    Returns:
        rms of activations and rms of gradients, one number each time a block runs, first to last.

    Raises:
        ValueError: if loss runs none of the blocks.
    """
    activations: list[Tensor] = []
    # A block that stands in the stack twice gets one hook, which sees both runs.
    hooks = [block.register_forward_hook(lambda _, inputs, output: activations.append(output)) for block in set(blocks)]
    try:
        value = loss()
    finally:
        for hook in hooks:
            hook.remove()
    if not activations:
        raise ValueError(f"loss() ran none of the blocks ({len(hooks)}): it must run the model that they belong to")
    gradients = torch.autograd.grad(value, activations)
    return [rms(x) for x in activations], [rms(x) for x in gradients]


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size <= 0:
            raise ValueError(f"{name} ({size}) must be positive")
