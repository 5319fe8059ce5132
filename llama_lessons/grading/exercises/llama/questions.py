"""Quick questions of lesson 09."""

from ...question import question

question(
    name="what_a_tied_file_lacks",
    right="b",
    reasons={
        "a": "It is the other way round. Where the head is tied, the matrix is stored once, as the embedding: "
        "output.weight is what is left out. No file leaves out the embedding.",
        "b": "SmolLM2's head is tied: its matrix is the embedding's, and the file has it once. Llama 3 8B has two "
        "matrices, and its file too. So what a strict load has to find depends on the config: to ask for output.weight "
        "in every file would refuse SmolLM2, and to do without it in every file would leave the head of Llama 3 8B as "
        "it was drawn.",
        "c": "That is right for SmolLM2. But Llama 3 8B's head is a matrix of its own. If its file lacks that matrix, "
        "something is missing, and a head made of the embedding would be another model: that file has to be refused.",
        "d": "strict=False lets any name be missing and any be extra, also where one is misspelt. Then a whole layer "
        "may keep its random numbers, and no error says so. Say exactly what this config's file has to hold.",
    },
    hint="How many matrices of vocab_size by dim does each of the two models have? And which of the two names does the "
    "file keep where there is only one?",
)

question(
    name="what_the_first_token_skips",
    right="c",
    reasons={
        "a": "The first token's row of the embedding goes through the head as any other, and its logits are right. "
        "A head with wrong weights would spoil the first token too.",
        "b": "gate and up work on each token by itself, the first one included. If they were exchanged, its logits "
        "would be wrong as well.",
        "c": "The first token has one key, its own, so its weight is 1 whatever the score: queries and keys do not "
        "matter, nor does the rotation, which at position 0 turns by 0. All that works on each token alone is right, "
        "values and o_proj too. From the second token on scores count: look at the layout of q and k, at rope_theta "
        "and at the mask.",
        "d": "The last norm is the same for all tokens, the first one included. With another eps, its logits would be "
        "off as well, if only a little.",
    },
    hint="The first token can only read itself. Which of the model's weights have no effect on its logits?",
)

question(
    name="what_fits_in_16_gb",
    right="c",
    reasons={
        "a": "The weights take 6.74 billion x 2 bytes = 13.5 GB, and fit. But each token takes 2 x 32 layers x 32 "
        "heads x 128 channels x 2 bytes = 524,288 bytes of cache, so 8192 of them take 4.3 GB: 17.8 GB in all.",
        "b": "The weights alone take 8.03 billion x 2 bytes = 16.1 GB: too much before the first token is read.",
        "c": "The weights take 3.21 billion x 2 bytes = 6.4 GB. Each token takes 2 x 28 layers x 8 heads x 128 "
        "channels x 2 bytes = 114,688 bytes, so 65,536 of them take 7.5 GB: 13.9 GB in all.",
        "d": "The weights take 2.5 GB, and each token of a text only 2 x 16 layers x 8 heads x 64 channels x 2 bytes = "
        "32,768 bytes. But four texts of 131,072 tokens have 524,288 of them, and these take 17.2 GB.",
    },
    hint="parameter_count and lesson 07's kv_cache_bytes say both: weights, and the cache for all tokens of all texts.",
)
