"""What the exercises of lesson 01 share."""

import torch
from torch import Tensor

from ...expect import exact


def exact_sum(table: Tensor, x: Tensor, start_pos: int = 0) -> Tensor:
    """Token i of each text plus row start_pos + i of the table, one place after another, in float64 on the CPU."""
    rows, tokens = exact(table), exact(x)
    return torch.stack([tokens[:, i] + rows[start_pos + i] for i in range(x.shape[1])], dim=1)


# Made in LearnedPositionalEmbedding and in read_batch, which read their rows by the same lines.
WRONG_ROWS = """
    start_pos ignored: table[start_pos:end] -> table[: x.shape[1]]
        Your rows do not depend on start_pos. The first token stands there: its row is row start_pos.
    positions counted from 1: table[start_pos:end] -> table[start_pos + 1 : end + 1]
        Your first token gets row start_pos + 1. Positions count from 0: its row is start_pos.
    start_pos for every token: table[start_pos:end] -> table[start_pos]
        All tokens of a text get row start_pos. Of several, token i needs row start_pos + i.
    the end does not move with start_pos: table[start_pos:end] -> table[start_pos : x.shape[1]]
        You read rows start_pos to seq_len, as in [start_pos:seq_len]: the end does not move with start_pos. It should.
    texts counted: table[start_pos:end] -> table[start_pos : start_pos + len(x)]
        You read as many rows as there are texts. They are lined up with the tokens, so that fits only where both
        numbers are equal, and a single text gets one row for all of its tokens. Count axis 1 of x.
    channels counted: table[start_pos:end] -> table[start_pos : start_pos + x.shape[2]]
        You read as many rows as a token has channels. A row is needed for each token of a text: count axis 1 of x.
    lined up with the batch: table[start_pos:end] -> table[start_pos:end, None]
        Your rows are lined up with the batch, as of shape (seq_len, 1, dim): one text becomes as many as it has tokens,
        and several crash, or get a row each. Where x is as given, rows of shape (seq_len, dim) lie along the tokens.
    the batch as one long text: table[start_pos:end] -> table[start_pos:][: len(x) * x.shape[1]].view_as(x)
        You number the tokens of the whole batch on. Each text of a batch begins at start_pos.
    tokens scaled: x + rows -> x * x.shape[2] ** 0.5 + rows
        You multiply the tokens by the root of the number of channels, as the original Transformer does. Here, only add.
    rows taken away: x + rows -> x - rows
        You subtract the rows from the tokens. Add them.
    multiplied, not added: x + rows -> x * rows
        You multiply the tokens by their rows. Add them.
    rows alone: x + rows -> rows.expand_as(x)
        You go on with the rows alone, and the tokens are lost. Rows are added to the tokens: x + rows.
    joined, not added: x + rows -> torch.cat((x, rows.expand_as(x)), dim=-1)
        You put the rows beside the tokens, as torch.cat does, which makes vectors of twice the length. Add the rows.
    no positions: x + rows -> x.clone()
        What comes out is what the tokens give as they were, without any row. Go on with the sum: x + rows.
    only the first text: x + rows -> torch.cat((x[:1] + rows, x[1:]))
        Rows are added to the first text of the batch alone. Each text gets them.
    no gradient at all: x + rows -> (x + rows).detach()
        The numbers are right, but no gradient reaches the table or x, as under torch.no_grad.
    no gradient to the table: table[start_pos:end] -> table[start_pos:end].detach()
        The numbers are right, but no gradient reaches the table: something cuts it off, such as .data, .detach(),
        torch.no_grad or a new tensor.
"""
