"""Mutants that are as right as the solution: each reason why no test can tell, with exercise and changed line."""

__all__ = ["EQUIVALENT"]

BY_REASON: dict[str, list[tuple[str, str]]] = {
    "an index may lie on the CPU, whatever the device of what it is used on": [
        ("is_order_blind", "order = torch.randperm(x.shape[1])"),
        ("is_order_blind", "reverse = torch.arange(x.shape[1] - 1, -1, -1)"),
    ],
    "it is asked whether two results are alike, and rounding is far from the tolerance either way": [
        ("is_order_blind", "if not torch.allclose(result[:, order], mix(x[:, order]), atol=0.0001):"),
        ("is_order_blind", "return torch.allclose(result[:, reverse], mix(x[:, reverse]), atol=0.0001)"),
    ],
    "how many random orders are tried is free": [
        ("is_order_blind", "for _ in range(7):"),
        ("is_order_blind", "for _ in range(9):"),
    ],
    "any tolerance between rounding and the smallest influence is as good": [
        ("is_order_blind", "if not torch.allclose(mix(x[:, order]), result[:, order], atol=0.0002):"),
        ("is_order_blind", "return torch.allclose(mix(x[:, reverse]), result[:, reverse], atol=0.0002)"),
        ("depends_on", "position = (added - added[:, :1]).abs().max() >= 0.0003"),
        ("depends_on", "sequence = (added - added[:1]).abs().max() >= 0.0003"),
        ("depends_on", "position = (added - added[:, :1]).abs().max() > 0.0006"),
        ("depends_on", "sequence = (added - added[:1]).abs().max() > 0.0006"),
    ],
    "the reversed order comes on top of eight random ones, which notice all that it does": [
        ("is_order_blind", "return torch.allclose(mix(x[:, reverse]), result[:, reverse], atol=1.0001)"),
    ],
    "how the numbers of the table are drawn is up to the learner": [
        ("LearnedPositionalEmbedding", "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) / 0.02)"),
        ("LearnedPositionalEmbedding", "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) + 0.02)"),
        ("LearnedPositionalEmbedding", "self.weight = nn.Parameter(torch.randn(max_seq_len, dim))"),
        ("LearnedPositionalEmbedding", "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) * 0.04)"),
        ("LearnedPositionalEmbedding", "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) * 1.02)"),
        ("LearnedPositionalEmbedding", "self.weight = nn.Parameter(torch.randn(max_seq_len, dim) * 0.0)"),
    ],
    "where all positions are shifted alike, distances stay, and attention sees distances alone": [
        ("Llama", "start = caches[0].length if caches else 1"),
        ("Llama", "start = caches[0].length if caches else -1"),
    ],
    "before the first block all caches are of one length": [
        ("Llama", "start = caches[-1].length if caches else 0"),
    ],
    "the words beside the tensor's name are up to the learner": [
        ("load", "error = ValueError(f'{name}other')"),
        ("load", "error = ValueError(f'{name}other{tuple(weight.shape)}')"),
        ("load", "error = ValueError(f'{name} has another shape: {weight.shape}')"),
        ("load", "error = ValueError(f'{name} has another shape: {tuple()}')"),
    ],
    "the words beside the two numbers are up to the learner": [
        ("LearnedPositionalEmbedding", "error = ValueError(f'{end}other{max_seq_len}')"),
    ],
    "the largest absolute difference is the same for both signs": [
        ("depends_on", "added = x - add(x)"),
        ("depends_on", "position = (added[:, :1] - added).abs().max() > 0.0003"),
        ("depends_on", "sequence = (added[:1] - added).abs().max() > 0.0003"),
    ],
    "a slice without a start starts at 0": [
        ("sinusoidal_positions", "table[:, ::2], table[:, 1::2] = (angles.sin(), angles.cos())"),
        ("apply_rope_interleaved", "a, b = (x[..., ::2].float(), x[..., 1::2].float())"),
    ],
    "it comes out on the CPU, which a CUDA device tells and the CPU cannot": [
        ("Llama", "positions = torch.arange(start, start + tokens.shape[1])"),
        ("embed_with_positions", "places = torch.arange(start_pos, start_pos + tokens.shape[1])"),
        ("rotate_new_tokens", "positions = torch.arange(n_cached, n_cached + seq_len)"),
        ("rope_tables", "return (angles.cos().float(), angles.sin().float().to(positions.device))"),
        ("rope_tables", "return (angles.cos().float().to(), angles.sin().float().to(positions.device))"),
        ("rope_tables", "return (angles.cos().float().to(positions.device), angles.sin().float())"),
        ("rope_tables", "return (angles.cos().float().to(positions.device), angles.sin().float().to())"),
        ("alibi_bias", "positions = torch.arange(key_len)"),
        ("rotate_interpolated", "positions = torch.arange(n_cached, n_cached + seq_len)"),
        ("causal_attention", "places = torch.arange(key_len)"),
        ("KVCache", "self.keys = torch.zeros(batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype)"),
    ],
    "every number of the table is written over": [
        ("tutorial_table", "table = torch.ones(max_seq_len, dim)"),
    ],
    "float16 and bfloat16 times the float32 table is float32 all the same": [
        ("apply_rope", "a, b = x.chunk(2, dim=-1)"),
        ("apply_rope_interleaved", "a, b = (x[..., 0::2], x[..., 1::2].float())"),
        ("apply_rope_interleaved", "a, b = (x[..., 0::2].float(), x[..., 1::2])"),
    ],
    "whole numbers times float64 frequencies are float64, and devices without it are no CPU": [
        ("rope_tables", "angles = positions.cpu()[:, None] * frequencies"),
        ("rope_tables", "angles = positions.double()[:, None] * frequencies"),
    ],
    "what is cut off the quotient of two whole numbers is cut off either way": [
        ("swiglu_hidden_dim", "hidden_dim = int(multiplier * int(2 * 4 * dim // 3))"),
    ],
    "topk takes the last axis by itself": [
        ("top_k_router", "best, experts = logits.float().topk(k)"),
    ],
    "the softmax of half precision is computed in float32 by itself": [
        ("top_k_router", "best, experts = logits.topk(k, dim=-1)"),
    ],
    "both lists are of one length": [
        ("load", "for name, place in zip(theirs, ours):"),
        ("load", "for name, place in zip(theirs, ours, strict=False):"),
    ],
    "transpose takes its two axes in either order": [
        (
            "next_token_loss",
            "losses = F.cross_entropy(logits[:, :-1].float().transpose(2, 1), targets, reduction='none')",
        ),
        ("accumulate", "losses = F.cross_entropy(logits.transpose(2, 1), tokens[:, 1:], reduction='none')"),
        ("to_interleaved", "return heads.transpose(2, 1).flatten(0, 2)"),
        ("causal_attention", "scores = q.float() @ k.float().transpose(3, 2) / q.shape[3] ** 0.5"),
        ("grouped_query_attention", "q, k, v = (x.transpose(2, 1) for x in (q, k, v))"),
        ("grouped_query_attention", "return mixed.transpose(2, 1).flatten(2)"),
        (
            "Attention",
            "q, k, v = (project(x).unflatten(-1, (-1, self.head_dim)).transpose(2, 1)"
            " for project in (self.q_proj, self.k_proj, self.v_proj))",
        ),
        ("Attention", "q, k, v = (y.transpose(2, 1) for y in (q, k, v))"),
        ("MultiHeadAttention", "q = self.q_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(2, 1)"),
        ("MultiHeadAttention", "k = self.k_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(2, 1)"),
        ("MultiHeadAttention", "v = self.v_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(2, 1)"),
        ("MultiHeadAttention", "return self.o_proj(mixed.transpose(2, 1).reshape(batch, seq_len, dim))"),
        ("load", "weight = weight.unflatten(0, (n_heads, -1, 2)).transpose(2, 1).flatten(0, 2)"),
    ],
    "q has four axes, so the last two are those from 2 on": [
        ("rotate_new_tokens", "seq_len, head_dim = q.shape[2:]"),
        ("rotate_interpolated", "seq_len, head_dim = q.shape[2:]"),
    ],
    "head_dim is even, so more than 2 is more than 3": [
        ("ntk_theta", "if head_dim <= 3:"),
    ],
    "the larger of two numbers is the same in either order": [
        ("yarn_ramp", "first = max(0, math.floor(pair_that_turns(beta_fast)))"),
        ("yarn_ramp", "last = min(head_dim - 1, math.ceil(pair_that_turns(beta_slow)))"),
    ],
    "head_dim is even, so half of it is a whole number": [
        (
            "yarn_ramp",
            "return head_dim // 2 * math.log(original_max_seq_len / (2 * math.pi * times)) / math.log(theta)",
        ),
    ],
    "float32 times a weight in half precision is float32 all the same": [
        ("mended_norm", "return (values / scale * weight).to(x.dtype)"),
    ],
    "a prediction counts within 5%, and this one is much nearer": [
        ("predict_first_losses", "return (math.log(84), math.log(49152), 577.0, 0.0)"),
        ("predict_first_losses", "return (math.log(85), math.log(49152), 576.0, 0.0)"),
        ("predict_first_losses", "return (math.log(83), math.log(49152), 576.0, 0.0)"),
        ("predict_first_losses", "return (math.log(84), math.log(49153), 576.0, 0.0)"),
        ("predict_first_losses", "return (math.log(84), math.log(49151), 576.0, 0.0)"),
    ],
    "the head's own weight is thrown away for the table, and its shape with it": [
        ("TiedModel", "self.head = nn.Linear(vocab_size, dim, bias=False)"),
    ],
    "the constructor is given, and the dtype is always passed to it": [
        ("KVCache", "def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float64, device=None):"),
    ],
    "places that no token has filled are never read": [
        ("KVCache", "self.keys = torch.ones(batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype, device=device)"),
    ],
    "a bias of the keys adds the same to all scores of a query, which the softmax takes away again": [
        ("MultiHeadAttention", "self.k_proj = nn.Linear(dim, dim)"),
        ("MultiHeadAttention", "self.k_proj = nn.Linear(dim, dim, bias=True)"),
    ],
    "float32 is exact enough for a text of some hundred tokens": [
        ("unigram_entropy", "p = counts[counts > 0] / len(tokens)"),
    ],
    "a tensor of one number does as well as the number": [
        ("clip_gradients", "norm = math.sqrt(sum((g.square().sum() for g in gradients)))"),
        ("accumulate", "n_counted = sum((counted[:, 1:].sum() for _, counted in parts))"),
    ],
    "both lists are empty, whatever they are called": [("parameter_groups", "kept, decayed = ([], [])")],
    "the groups may come in either order, and names in a tuple too": [
        (
            "parameter_groups",
            "return [{'params': kept, 'weight_decay': 0.0}, {'params': decayed, 'weight_decay': weight_decay}]",
        ),
        (
            "parameter_groups",
            "(decayed if roles[name] in ('projection', 'head', 'residual') else kept).append(parameter)",
        ),
    ],
    "at the seam both rules give peak": [("learning_rate", "if step <= warmup_steps:")],
    "a cosine is the same for an angle and its opposite": [
        ("learning_rate", "share = (warmup_steps - step) / (total_steps - 1 - warmup_steps)"),
        ("learning_rate", "share = (step - warmup_steps) / (warmup_steps - (total_steps - 1))"),
    ],
    "a norm of exactly max_norm is scaled by 1": [("clip_gradients", "if norm >= max_norm:")],
    "a cache for as many tokens, or for more: the last one that is chosen need not be read": [
        ("decode", "cache = model.new_cache(1, len(prompt) * max_new_tokens)"),
        ("continue_text", "cache = model.new_cache(len(prompts), longest * max_new_tokens)"),
    ],
    "where there is a CPU alone, all tensors are there": [
        ("decode", "logits = model(torch.tensor([to_read]), cache=cache)"),
        (
            "continue_text",
            "tokens = torch.tensor([[0] * pad + prompt for pad, prompt in zip(pads, prompts, strict=True)])",
        ),
        ("continue_text", "mask = torch.tensor([[False] * pad + [True] * (longest - pad) for pad in pads])"),
    ],
    "a list of one token, and a batch of one row: the first is the last": [
        ("decode", "if to_read[-1] in stop_tokens:"),
        ("decode", "to_read = [int(logits[-1, -1].argmax())]"),
    ],
    "the smaller of two numbers, in either order": [
        ("keep_top_k", "least = logits.topk(min(logits.shape[-1], k)).values.amin(-1, keepdim=True)"),
    ],
    "torch's sort on a CPU keeps the order of equals in any case": [
        ("keep_top_p", "probabilities, ids = logits.float().softmax(-1).sort(descending=True)"),
        ("keep_top_p", "probabilities, ids = logits.float().softmax(-1).sort(descending=True, stable=False)"),
    ],
    "of two axes, the second is the last": [
        ("sample", "sums = logits.softmax(-1).cumsum(1)"),
        ("sample", "return (sums > u[:, None] * sums[:, -1:]).int().argmax(1)"),
        ("sample", "return logits.argmax(1)"),
        ("sample", "sums = logits.softmax(1).cumsum(-1)"),
        ("left_pad", "positions = (mask.cumsum(1) - 1).clamp(min=0)"),
        ("continue_text", "positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1]:]"),
    ],
    "RoPE sees distances alone: a row may stand further to the right, and padding anywhere": [
        ("continue_text", "positions = (mask.cumsum(dim=-1) - 1)[:, -tokens.shape[1]:]"),
        ("continue_text", "positions = (mask.cumsum(dim=-1) + 1).clamp(min=0)[:, -tokens.shape[1]:]"),
        ("continue_text", "positions = (mask.cumsum(dim=-1) * 1).clamp(min=0)[:, -tokens.shape[1]:]"),
        ("continue_text", "positions = mask.cumsum(dim=-1).clamp(min=0)[:, -tokens.shape[1]:]"),
        ("continue_text", "positions = (mask.cumsum(dim=-1) - 1).clamp(min=-1)[:, -tokens.shape[1]:]"),
        ("continue_text", "positions = (mask.cumsum(dim=-1) - 0).clamp(min=0)[:, -tokens.shape[1]:]"),
    ],
    "without positions the model counts them by the mask itself": [
        ("continue_text", "logits = model(tokens, attention_mask=mask, cache=cache)"),
    ],
    "as many pads as prompts, with or without a check of that": [
        (
            "continue_text",
            "tokens = torch.tensor([[0] * pad + prompt for pad, prompt in zip(pads, prompts)], device=device)",
        ),
        (
            "continue_text",
            "tokens = torch.tensor([[0] * pad + prompt for pad, prompt in "
            "zip(pads, prompts, strict=False)], device=device)",
        ),
    ],
    "padding is masked, whatever token it is": [
        (
            "continue_text",
            "tokens = torch.tensor([[1] * pad + prompt for pad, prompt in "
            "zip(pads, prompts, strict=True)], device=device)",
        ),
    ],
    "the only axis, whether it is called 0 or -0": [
        ("accept_drafts", "sums = weights.cumsum(-0)"),
    ],
    "equal values: 0 by any small number is 0, and 0 by 0 is made 0 on the way to uint8": [
        ("quantize_block", "codes = ((x - minimum.unsqueeze(-1)) / scale.unsqueeze(-1)).round()"),
        ("quantize_block", "codes = ((x - minimum.unsqueeze(-1)) / scale.clamp(min=2e-30).unsqueeze(-1)).round()"),
        ("quantize_block", "codes = ((x - minimum.unsqueeze(-1)) / scale.clamp(min=0.0).unsqueeze(-1)).round()"),
    ],
}

EQUIVALENT = {mutant: why for why, mutants in BY_REASON.items() for mutant in mutants}
