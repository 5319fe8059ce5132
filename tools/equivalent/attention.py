"""Equivalent mutants of lesson 07."""

__all__ = ["EQUIVALENT"]

AXES = "transpose takes its two axes in either order"
ONLY_ON_CUDA = "it comes out on the CPU, which a CUDA device tells and the CPU cannot"
GIVEN = "the constructor is given, and the dtype is always passed to it"
NEVER_READ = "places that no token has filled are never read"
KEY_BIAS = "a bias of the keys adds the same to all scores of a query, which the softmax takes away again"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("causal_attention", "places = torch.arange(key_len)"): ONLY_ON_CUDA,
    ("causal_attention", "scores = q.float() @ k.float().transpose(3, 2) / q.shape[3] ** 0.5"): AXES,
    ("grouped_query_attention", "q, k, v = (x.transpose(2, 1) for x in (q, k, v))"): AXES,
    ("grouped_query_attention", "return mixed.transpose(2, 1).flatten(2)"): AXES,
    (
        "KVCache",
        "def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float64, device=None):",
    ): GIVEN,
    ("KVCache", "self.keys = torch.zeros(batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype)"): ONLY_ON_CUDA,
    (
        "KVCache",
        "self.keys = torch.ones(batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype, device=device)",
    ): NEVER_READ,
    ("MultiHeadAttention", "self.k_proj = nn.Linear(dim, dim)"): KEY_BIAS,
    ("MultiHeadAttention", "self.k_proj = nn.Linear(dim, dim, bias=True)"): KEY_BIAS,
    ("MultiHeadAttention", "q = self.q_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(2, 1)"): AXES,
    ("MultiHeadAttention", "k = self.k_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(2, 1)"): AXES,
    ("MultiHeadAttention", "v = self.v_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(2, 1)"): AXES,
    ("MultiHeadAttention", "return self.o_proj(mixed.transpose(2, 1).reshape(batch, seq_len, dim))"): AXES,
}
