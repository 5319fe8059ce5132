"""Read and write pretrained Llamas: Hugging Face's folders, and the GGUF files of llama.cpp.

Both formats hold the same weights. They differ in names, in the order of query and key rows, and in how a
config is written down. Files are never trusted: one that is damaged, or describes something that is not a
Llama, is refused with a ValueError that names it, and no model comes back half loaded.
"""

from llama_lessons.checkpoints.chat_template import load_chat_template
from llama_lessons.checkpoints.gguf_model import is_quantized, load_gguf, read_gguf
from llama_lessons.checkpoints.gguf_tokenizer import load_gguf_tokenizer
from llama_lessons.checkpoints.hugging_face_load import load_hugging_face
from llama_lessons.checkpoints.hugging_face_save import save_hugging_face
from llama_lessons.checkpoints.hugging_face_tokenizer import load_hugging_face_tokenizer

__all__ = [
    "is_quantized",
    "load_chat_template",
    "load_gguf",
    "load_gguf_tokenizer",
    "load_hugging_face",
    "load_hugging_face_tokenizer",
    "read_gguf",
    "save_hugging_face",
]
