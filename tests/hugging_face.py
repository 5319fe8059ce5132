"""Hugging Face's Llama with the sizes and weights of one of ours, put together by hand: an independent reference."""

import transformers

from llama_lessons.rope_scaling import rope_parameters

__all__ = ["hugging_face", "hugging_face_name"]

NAMES = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    "attention": "self_attn",
    "feed_forward": "mlp",
    "blocks": "model.layers",
}


def hugging_face_name(name):
    """Their name for a parameter of ours."""
    return ".".join(NAMES.get(part, part) for part in name.split("."))


def hugging_face(model):
    config = model.config
    scaling = {"rope_type": "default"} if config.rope_scaling is None else rope_parameters(config.rope_scaling)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.dim,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            intermediate_size=config.hidden_dim,
            max_position_embeddings=config.max_seq_len,
            rope_parameters=scaling | {"rope_theta": config.rope_theta},
            rms_norm_eps=config.norm_eps,
            tie_word_embeddings=config.tied_embeddings,
            pad_token_id=0,
            eos_token_id=None,
        )
    ).eval()
    theirs.load_state_dict({hugging_face_name(name): weight for name, weight in model.state_dict().items()})
    return theirs
