"""Hugging Face's Llama with the sizes and weights of one of ours."""

import tempfile

import transformers

from llama_lessons.checkpoints import save_hugging_face
from llama_lessons.llama import Llama

__all__ = ["hugging_face"]


def hugging_face(model: Llama) -> transformers.LlamaForCausalLM:
    """The same model, as transformers reads what we save."""
    with tempfile.TemporaryDirectory() as folder:
        save_hugging_face(model, folder)
        return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
