"""Exercises of lesson 07, in the order of its notebook."""

# isort: off
from . import causal_attention
from . import repeat_kv
from . import grouped_query_attention
from . import kv_cache
from . import kv_cache_bytes
from . import mean_pool_kv_heads
from . import multi_head_attention
from . import questions

__all__ = [
    "causal_attention",
    "grouped_query_attention",
    "kv_cache",
    "kv_cache_bytes",
    "mean_pool_kv_heads",
    "multi_head_attention",
    "questions",
    "repeat_kv",
]
