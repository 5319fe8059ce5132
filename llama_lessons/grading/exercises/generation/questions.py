"""Quick questions of lesson 11."""

from ...question import question

question(
    name="what_limits_decoding",
    right="c",
    reasons={
        "a": "The head is one matrix among many. In this model it is a fifth of the bytes that a token reads.",
        "b": "One token needs two operations for each weight; a processor does far more of them in the time that it "
        "takes to fetch the weight.",
        "c": "Each weight is fetched from memory and used once. The bytes of all weights, divided by what the memory "
        "delivers in a second, are the least time that a token takes.",
        "d": "At a few hundred tokens the cache is a small part of what is read: 46 kB a token here, beside 538 MB.",
    },
    hint="Lesson 11 has read 1 and 8 tokens at once. What did the time hardly depend on?",
)

question(
    name="why_the_rest_is_garbage",
    right="b",
    reasons={
        "a": "A wrong template would spoil the first token as well.",
        "b": "The prompt is read with right positions, and its last token gives the right first word. From then on "
        "each new token is turned as if it stood at 0.",
        "c": "A temperature changes how a token is chosen, for the first one as for all others.",
        "d": "Wrong weights give a wrong first token too.",
    },
    hint="What does the first token depend on that all others do not, and what do the others need besides?",
)

question(
    name="what_a_draft_changes",
    right="a",
    reasons={
        "a": "Refused tokens are replaced so that all that comes out is distributed as the model's own choice. A bad "
        "drafter only has more of its tokens refused.",
        "b": "Then keeping every draft would be right. The words are the model's, whoever drafts.",
        "c": "It is exact at every temperature: min(1, p / q) and max(p - q, 0) see to that.",
        "d": "The model reads all drafted tokens, also those that are refused: it computes more, in less time.",
    },
    hint="For p and q as in section 7, what came out of the right rule, and does that depend on q?",
)

question(
    name="what_four_bits_cost",
    right="d",
    reasons={
        "a": "Memory and speed are what is gained.",
        "b": "Larger blocks round more: one scale has to reach from the smallest to the largest of more values.",
        "c": "The perplexity was the same to half a percent, and words still differ now and then.",
        "d": "Products in bfloat16 change logits a little. Where two tokens are about as probable, the other one may "
        "be chosen, and the text goes another way from there.",
    },
    hint="Perplexity is a mean over many tokens. What does greedy decoding look at?",
)
