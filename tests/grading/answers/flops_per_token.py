"""Other answers to flops_per_token."""

from tests.grading.answers import right, wrong


def matrices(config):
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    block = config.dim * (q + kv + kv + q + 3 * config.hidden_dim)
    return config.n_layers * block + config.dim * config.vocab_size


@right
def in_parts(config, context_len):
    scores = config.n_layers * config.n_heads * context_len * 2 * config.head_dim
    mixed = config.n_layers * config.n_heads * context_len * 2 * config.head_dim
    return 2 * matrices(config) + scores + mixed


@right
def counted_in_a_loop(config, context_len):
    total = 2 * config.dim * config.vocab_size
    for _ in range(config.n_layers):
        for width in (config.n_heads, config.n_kv_heads, config.n_kv_heads, config.n_heads):
            total += 2 * config.dim * width * config.head_dim
        total += 3 * 2 * config.dim * config.hidden_dim
        total += 2 * 2 * config.n_heads * config.head_dim * context_len
    return total


@wrong()
def two_for_each_parameter(config, context_len):
    """The rule of thumb, 2 for each parameter, embedding included."""
    return 2 * (matrices(config) + (0 if config.tied_embeddings else config.dim * config.vocab_size))


@wrong()
def backward_too(config, context_len):
    return 3 * in_parts(config, context_len)


@wrong()
def whole_prompt(config, context_len):
    return context_len * in_parts(config, context_len)
