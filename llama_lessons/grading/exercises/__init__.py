"""The exercises of each lesson, a file for each exercise: a new one is named here, in the order of its notebook.

The files of lesson 05_norms lie in the folder norms.
"""

from importlib import import_module

from ..exercise import REGISTRY

__all__ = ["EXERCISES"]

EXERCISES = {
    "00_start_here": ("is_order_blind",),
    "01_learned_positions": (
        "LearnedPositionalEmbedding",
        "depends_on",
        "rows_with_gradient",
        "predict_gradient",
        "read_batch",
        "questions",
    ),
    "02_sinusoidal_positions": (
        "sinusoidal_positions",
        "pair_wavelengths",
        "predict_dot_products",
        "shift_matrix",
        "fit_shift",
        "embed_with_positions",
        "questions",
        "tutorial_table",
    ),
    "03_rope": (
        "rope_frequencies",
        "rope_tables",
        "apply_rope",
        "apply_rope_interleaved",
        "to_interleaved",
        "rotate_new_tokens",
        "questions",
    ),
    "04_extrapolation": (
        "alibi_slopes",
        "alibi_bias",
        "ntk_theta",
        "yarn_ramp",
        "yarn_attention_factor",
        "llama3_frequencies",
        "rotate_interpolated",
        "questions",
    ),
    "05_norms": (
        "layer_norm",
        "rms_norm",
        "RMSNorm",
        "questions",
        "predict_norms",
        "pre_norm_block",
        "mended_norm",
    ),
    "06_initialization": (
        "xavier_std",
        "kaiming_std",
        "init_weights",
        "questions",
        "predict_first_losses",
        "activation_rms",
        "TiedModel",
    ),
    "07_attention": (
        "causal_attention",
        "repeat_kv",
        "grouped_query_attention",
        "KVCache",
        "Attention",
        "kv_cache_bytes",
        "mean_pool_kv_heads",
        "MultiHeadAttention",
        "questions",
    ),
    "08_feed_forward": (
        "gelu",
        "SwiGLU",
        "swiglu_hidden_dim",
        "block_parameters",
        "questions",
        "predict_feed_forward",
        "FeedForwardBlock",
        "top_k_router",
    ),
    "09_llama": (
        "Block",
        "Llama",
        "load",
        "my_llama",
        "parameter_count",
        "flops_per_token",
        "questions",
    ),
    "10_training": (
        "next_token_loss",
        "unigram_entropy",
        "adamw_step",
        "parameter_groups",
        "learning_rate",
        "clip_gradients",
        "accumulate",
        "name_the_curves",
        "train_a_little",
        "questions",
    ),
    "11_generation": (
        "decode",
        "keep_top_k",
        "keep_top_p",
        "keep_min_p",
        "sample",
        "left_pad",
        "continue_text",
        "accept_drafts",
        "quantize_block",
        "questions",
    ),
}

for lesson, names in EXERCISES.items():
    for name in names:
        import_module(f"{__name__}.{lesson[3:]}.{name}")
    for exercise in REGISTRY.values():
        exercise.lesson = exercise.lesson or lesson
