"""The exercises of each lesson, a file for each exercise: a new one is named here, in the order of its notebook."""

from importlib import import_module

__all__ = ["EXERCISES"]

EXERCISES = {
    "start_here": ("is_order_blind",),
    "learned_positions": (
        "LearnedPositionalEmbedding",
        "depends_on",
        "rows_with_gradient",
        "predict_gradient",
        "read_batch",
        "questions",
    ),
    "sinusoidal_positions": (
        "sinusoidal_positions",
        "pair_wavelengths",
        "predict_dot_products",
        "shift_matrix",
        "fit_shift",
        "embed_with_positions",
        "questions",
        "tutorial_table",
    ),
    "rope": (
        "rope_frequencies",
        "apply_rope",
        "apply_rope_interleaved",
        "to_interleaved",
        "rotate_new_tokens",
        "questions",
    ),
    "extrapolation": (
        "alibi_slopes",
        "alibi_bias",
        "ntk_theta",
        "yarn_ramp",
        "yarn_attention_factor",
        "llama3_frequencies",
        "rotate_interpolated",
        "questions",
    ),
    "norms": (
        "layer_norm",
        "rms_norm",
        "RMSNorm",
        "questions",
        "predict_norms",
        "pre_norm_block",
        "mended_norm",
    ),
    "initialization": (
        "xavier_std",
        "kaiming_std",
        "init_weights",
        "questions",
        "predict_first_losses",
        "activation_rms",
        "TiedModel",
    ),
    "attention": (
        "causal_attention",
        "repeat_kv",
        "grouped_query_attention",
        "KVCache",
        "kv_cache_bytes",
        "mean_pool_kv_heads",
        "MultiHeadAttention",
        "questions",
    ),
}

for lesson, names in EXERCISES.items():
    for name in names:
        import_module(f"{__name__}.{lesson}.{name}")
