"""Tokens a second in training: float32, AdamW, gradients clipped; eager and compiled, beside transformers' eager."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.peers import hugging_face
from benchmarks.side_by_side import Row, matrix_products_per_second, median_seconds
from llama_lessons.feed_forward import swiglu_hidden_dim
from llama_lessons.llama import Llama, LlamaConfig
from llama_lessons.training import next_token_loss

__all__ = ["rows"]


def _config(dim: int, n_layers: int, n_heads: int, n_kv_heads: int, seq_len: int, vocab_size: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=dim // n_heads,
        hidden_dim=swiglu_hidden_dim(dim, multiple_of=32),
        max_seq_len=seq_len,
    )


# Config, batch, rounds
CASES = [
    (_config(dim=128, n_layers=4, n_heads=4, n_kv_heads=4, seq_len=64, vocab_size=65), 12, 40),
    (_config(dim=256, n_layers=6, n_heads=8, n_kv_heads=2, seq_len=256, vocab_size=4096), 4, 15),
]


def rows() -> list[Row]:
    """Measure each case."""
    rate = matrix_products_per_second()
    found = []
    for config, batch, rounds in CASES:
        torch.manual_seed(0)
        eager, tokens = Llama(config), torch.randint(config.vocab_size, (batch, config.max_seq_len))
        torch.manual_seed(0)
        twin, theirs = Llama(config), hugging_face(eager).train()
        steps = {
            "eager": _step(eager, _our_loss, tokens),
            "compiled": _step(twin, torch.compile(_our_loss), tokens),
            "transformers": _step(theirs, _their_loss, tokens),
        }
        seconds = median_seconds(steps, rounds)
        # Multiplied and added, forwards and twice backwards, each weight meets each token. The embedding is looked up.
        n_weights = sum(p.numel() for p in eager.parameters()) - eager.embedding.weight.numel()
        fastest = rate / (6 * n_weights)
        sizes = f"{config.n_layers} layers, dim {config.dim}, {batch} x {config.max_seq_len} tokens"
        for way in ("eager", "compiled"):
            ours, peers = tokens.numel() / seconds[way], tokens.numel() / seconds["transformers"]
            found.append(
                Row(
                    what=f"training, {way}: {sizes}",
                    unit="tokens/s",
                    ours=ours,
                    peer="transformers, eager",
                    theirs=peers,
                    better=ours / peers,
                    share_of_limit=ours / fastest,
                )
            )
    return found


def _our_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return next_token_loss(model(tokens), tokens)


def _their_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens, labels=tokens, use_cache=False).loss


def _step(model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], tokens: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(model, tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step
