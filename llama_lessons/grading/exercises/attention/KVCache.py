"""Exercise 4: keys and values of the tokens read so far, in memory taken beforehand."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, draw
from .cache_filling import expect_kept, fills


class KVCache:
    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None) -> None:
        self.length = 0
        self.keys = torch.zeros(batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        start = self.length
        end = start + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("no room")
        new = slice(start, end)
        self.keys[:, :, new], self.values[:, :, new] = k, v
        self.length = end
        filled = slice(0, end)
        return self.keys[:, :, filled], self.values[:, :, filled]


def pair(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return draw(*shape, seed=seed, dtype=dtype), draw(*shape, seed=seed + 50, dtype=dtype)


def cases() -> list[tuple]:
    """Prefill and steps, more room than tokens, a full cache, half precision, refusals, length set back, two caches."""
    return [
        (*pair(2, 6, 5, 4), 8, (5,)),
        (*pair(2, 3, 5, 4, seed=1), 8, (3, 1, 1)),
        (*pair(2, 2, 6, 4, seed=2, dtype=torch.bfloat16), 6, (1, 2, 3)),
        (*pair(1, 1, 6, 2, seed=4), 4, (3, 2, 1)),
        (*pair(1, 2, 8, 2, seed=5), 5, (2, 4, 2)),
        (*pair(1, 1, 9, 2, seed=6), 4, (6, 2)),
        (*pair(1, 1, 7, 2, seed=9), 4, (4, 1, 2)),
        (*pair(1, 2, 6, 2, seed=7), 8, (3, -3, 2, 1)),
        (*pair(1, 2, 6, 2, seed=3), 8, (3, 1, -2, 2)),
        (*pair(1, 2, 6, 2, seed=8), 16, (3, 1, 2), True),
    ]


exercise = Exercise(
    KVCache,
    points=4,
    minutes=8,
    cases=cases,
    returns=(Tensor, Tensor, bool, bool, bool, str),
    using=fills,
    hints=(
        "self.length says how many places are taken. The new tokens go into the next k.shape[2] places of axis 2, in "
        "self.keys and in self.values. What is self.length afterwards?",
        "Assigning to a slice, x[:, :, a:b] = y, writes into the memory of x. And x[:, :, :b] copies nothing: it is a "
        "view of the same memory.",
        "Look whether there is room before you write anything or count anything: after a ValueError the cache should "
        "be as it was.",
    ),
)


@exercise.property("a prompt at once: its own keys and values come back")
def prompt_at_once(answer: Callable) -> None:
    for seed, (shape, room) in enumerate([((2, 3, 5, 4), 8), ((1, 1, 1, 2), 2), ((3, 2, 4, 8), 6)]):
        expect_kept(answer, *pair(*shape, seed=seed), room, shape[2:3])


@exercise.property("a prompt, then token by token: after each append, all that is there so far, in order")
def piece_by_piece(answer: Callable) -> None:
    for sizes in ((4, 1), (4, 1, 1, 1), (1,) * 7, (2, 3), (2, 3, 2), (6, 1), (1, 1, 3), (3, 1, 2, 1)):
        expect_kept(answer, *pair(2, 3, sum(sizes), 4), 9, sizes)


@exercise.property("the last place may be filled")
def last_place(answer: Callable) -> None:
    for sizes in ((5,), (4, 1), (1, 4), (1,)):
        expect_kept(answer, *pair(2, 2, sum(sizes), 4), sum(sizes), sizes)


@exercise.property("the cache's own dtype")
def dtypes(answer: Callable) -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.float32):
        expect_kept(answer, *pair(1, 2, 3, 4, dtype=dtype), 4, (2, 1))


@exercise.property("what comes back lies in the memory taken beforehand")
def in_place(answer: Callable) -> None:
    if not answer(*pair(1, 2, 6, 4), 8, (3, 1, 1, 1))[2]:
        raise Mismatch("expected slices of self.keys and self.values, as the constructor made them; got other memory")


@exercise.property("self.length tells how many places are filled, and nothing else does")
def length(answer: Callable) -> None:
    for room, sizes in ((8, (3, 1, 2)), (4, (3, 2, 1))):
        if not answer(*pair(1, 2, 6, 4), room, sizes)[3]:
            raise Mismatch(
                f"after pieces of {', '.join(map(str, sizes))} in a cache for {room}: expected a self.length that "
                "grows by each piece that is taken, and stays at one that is refused"
            )
    for steps in ((4, -4, 2), (3, 1, -2, 2, 1), (8, -8, 8)):
        expect_kept(answer, *pair(1, 2, 16, 4), 8, steps)


@exercise.property("too many tokens are refused with a ValueError")
def too_many_refused(answer: Callable) -> None:
    for room, sizes in ((4, (5,)), (4, (4, 1)), (5, (1, 3, 3)), (4, (9,))):
        expect_kept(answer, *pair(1, 2, 12, 4), room, sizes)


@exercise.property("after a refusal the cache is as it was")
def as_before_a_refusal(answer: Callable) -> None:
    for room, sizes in ((4, (3, 2, 1)), (5, (2, 4, 3)), (5, (1, 1, 100, 2))):
        if not expect_kept(answer, *pair(1, 2, 110, 4), room, sizes)[4]:
            raise Mismatch(f"a cache for {room}, after pieces of {sizes}: expected its memory as before a refusal")


@exercise.property("two caches do not know of each other")
def two_caches(answer: Callable) -> None:
    expect_kept(answer, *pair(1, 2, 7, 4), 16, (4, 1, 2), True)


def join(cache: KVCache, k: Tensor, v: Tensor, filled: int | None = None) -> None:
    cache.keys = torch.cat((cache.keys[:, :, :filled], k), dim=2)
    cache.values = torch.cat((cache.values[:, :, :filled], v), dim=2)


exercise.slips("""
    what came in returned, nothing counted: start = self.length -> return k, v
        You return what came in, and self.length does not grow. The next tokens need the keys and values of all before
        them: write these into the memory and count them.
    what came in returned: return self.keys[:, :, filled], self.values[:, :, filled] -> return k, v
        You return the keys and values that just came in. Attention of the new tokens needs all so far.
    only the new tokens returned: slice(0, end) -> slice(start, end)
        You return the places of the new tokens alone. Their attention needs all so far, up to the new length.
    the empty places returned too: slice(0, end) -> slice(None)
        You return the whole memory, with the places that no token has filled. Attention would read them as if they were
        keys: cut axis 2, that of the tokens, at the new length.
    what was there before returned: slice(0, end) -> slice(0, start)
        You cut at the old length: what is returned lacks the tokens that were just appended.
    the first places returned: slice(0, end) -> slice(0, k.shape[2])
        You cut at the number of new tokens, so the first places come back. Cut at the new length.
    length never counted on: self.length = end -> pass
        self.length stays as it was, so each append begins at the same place and writes over what was there.
    one counted for each append: self.length = end -> self.length = end = start + 1
        You add 1 to the length at each append. A prompt is appended at once: add k.shape[2].
    a prompt counted as one token: self.length = end -> self.length = start + 1
        The length grows by 1 at each append, so the tokens after a prompt are written over it: add k.shape[2].
    length set, not counted on: self.length = end -> self.length = end = k.shape[2]
        You set the length to that of the newest piece. It is to grow: self.length + k.shape[2].
    a chunk taken for a new prompt: start = self.length -> start = 0 if k.shape[2] > 1 else self.length
        Several tokens at once are put at the first places, as if a new text began. They may come later too, as a chunk:
        all belong behind what is there.
    written where the next tokens belong: slice(start, end) -> slice(end, 2 * end - start)
        You count on self.length first and then write from there. That is behind the places of these tokens, which stay
        empty: write from the old length to the new one.
    each piece written to the first places: slice(start, end) -> slice(0, end - start)
        You write each piece to places 0, 1, ... over what was there. New tokens go behind the old ones.
    keys for values: new] = k, v -> new] = k, k
        What comes back as values are the keys, so attention mixes keys. v goes into self.values, which comes back.
    values for keys: new] = k, v -> new] = v, v
        What comes back as keys are the values, which no query was made for. k goes into self.keys, which comes back.
    only first tokens: new = slice(start, end) -> new = slice(start, start + 1); k, v = k[:, :, :1], v[:, :, :1]
        Of each piece only the first token is written, and the places of the others stay empty. Write a slice of places.
    values never written: self.keys[:, :, new], self.values[:, :, new] = k, v -> self.keys[:, :, new] = k
        The values stay as the constructor made them: v is not written into self.values.
    keys and values exchanged: new] = k, v -> new] = v, k
        What comes back is exchanged: the values first. Keys first, then values.
    in other memory: filled], self.values[:, :, filled] -> filled].clone(), self.values[:, :, filled].clone()
        The numbers are right, but they lie in other memory than the constructor took, as after torch.cat, .clone() or
        an index, or where k and v themselves come back. Write into that memory, and return slices of it.
    cut along the heads: [:, :, filled], self.values[:, :, filled] -> [:, filled], self.values[:, filled]
        You cut axis 1, that of the heads, at the new length. The tokens stand on axis 2.
    memory replaced: self.keys[:, :, new], self.values[:, :, new] = k, v -> join(self, k, v, start)
        Other tensors take the place of self.keys and self.values: torch.cat makes a new one, for no more tokens than
        there are, and the next ones find no room. Write into the memory that is there: self.keys[:, :, start:end] = k.
    joined behind all: start = self.length -> join(self, k, v); self.length += k.shape[2]; return self.keys, self.values
        torch.cat puts the new tokens behind the whole memory, empty places and all, and makes a longer one. Write into
        the memory that is there: self.keys[:, :, start:end] = k.
    joined behind all, and cut: self.keys[:, :, new], self.values[:, :, new] = k, v -> join(self, k, v)
        torch.cat puts the new tokens behind the whole memory, so what you return from its beginning are empty places.
        Write into the memory that is there: self.keys[:, :, start:end] = k.
    overflow dropped: end = start -> k, v = (x[:, :, : self.keys.shape[2] - start] for x in (k, v)); end = start
        Tokens for which there is no room are dropped without a word. Raise a ValueError.
    refused without a word: raise ValueError("no room") -> return self.keys[:, :, :start], self.values[:, :, :start]
        Where there is no room, nothing is kept and nobody is told. Raise a ValueError.
    starts over when full: raise ValueError("no room") -> start, end = 0, k.shape[2]
        Where there is no room, you begin again at place 0, and the text so far is lost. Raise a ValueError.
    grows when full: raise ValueError("no room") -> join(self, self.keys, self.values)
        Where there is no room, you take more memory. The cache is for max_seq_len tokens: raise a ValueError.
    a RuntimeError, no ValueError: end > self.keys.shape[2] -> False
        You leave it to torch to refuse. Several tokens too many end in a RuntimeError about sizes, and a single one in
        a full cache is lost without a word. Look first whether there is room, and raise a ValueError.
    counted, and torch left to refuse: raise ValueError("no room") -> self.length = end
        Several tokens too many end in a RuntimeError of torch, when self.length has counted them already. Look first
        whether there is room, and raise a ValueError before anything changes.
    a single token too many lost: end > self.keys.shape[2] -> end > self.keys.shape[2] and k.shape[2] > 1
        A single token that finds the cache full is lost without a word: torch writes one token into an empty slice, and
        raises nothing. Compare self.length + k.shape[2] with self.keys.shape[2] before you write.
    a token too many accepted: end > self.keys.shape[2] -> end > self.keys.shape[2] + 1
        A piece that is one token too long is not refused with a ValueError. Compare with self.keys.shape[2] itself.
    refused after it was written: end > self.keys.shape[2] -> end > self.keys.shape[2] and k.shape[2] == 1
        A single token too many is refused with a ValueError, but of several torch says that they do not fit, as where
        you look for room after you write. Look first.
    counted before it is refused: raise ValueError -> self.keys[:, :, start:] = k; self.length = end; raise ValueError
        A single token too many is counted and then refused with a ValueError, but of several torch says that they do
        not fit, as where you look for room after you write and count. Look first.
    a RuntimeError: raise ValueError -> raise RuntimeError
        Too many tokens end in a RuntimeError, a single one too. Asked for is a ValueError.
    an assert: raise ValueError -> raise AssertionError
        Too many tokens end in an AssertionError; python -O leaves an assert out. Write if and raise ValueError(...).
    the last place refused: end > -> end >=
        You refuse to fill the last place, as with >= where > is meant. max_seq_len tokens fit.
    only a full cache refused: end > self.keys -> start == self.keys
        A full cache refuses, one with too few places left does not: it is self.length + k.shape[2] that has to fit.
    only the size of the new piece looked at: end > self.keys -> k.shape[2] > self.keys
        A piece that is too long for the places left is not refused with a ValueError, unless it is longer than the
        whole cache. It is self.length + k.shape[2] that has to fit.
    counted and then refused: end = start -> self.length = end = start
        The new tokens are counted before you refuse them, so after a ValueError self.length counts what is not there.
    kept until none fits: raise ValueError -> self.append(k[:, :, :-1], v[:, :, :-1]); raise ValueError
        Of a piece that is refused, as many tokens as fit are kept and counted. Look for room before anything changes.
    written and then refused: raise ValueError -> self.keys[:, :, start:] = k[:, :, :1]; raise ValueError
        Something is written into the memory before a piece is refused, though not counted. Look for room first.
    emptied by a refusal: raise ValueError -> self.length = 0; raise ValueError
        After a ValueError self.length is 0. It is to stay as it was, so that fewer tokens may still be appended.
""")


@exercise.misconception
class newest_tokens_first(KVCache):
    """You put the new tokens before the old ones. The places are those of the text: the queries count from the end."""

    def append(self, k, v):
        kept = super().append(k, v)
        for memory in kept:
            memory.copy_(memory.roll(k.shape[2], dims=2))
        return kept


@exercise.misconception
class oldest_tokens_pushed_out(KVCache):
    """Where there is no room, you push out the oldest tokens. Such caches exist, but it is not what is asked: raise a
    ValueError, so that nobody loses the start of a text without knowing."""

    def append(self, k, v):
        size = self.keys.shape[2]
        for memory, new in (self.keys, k), (self.values, v):
            kept = torch.cat((memory[:, :, : self.length], new), dim=2)[:, :, -size:]
            memory[:, :, : kept.shape[2]] = kept
        self.length = min(self.length + k.shape[2], size)
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@exercise.misconception
class counted_twice(KVCache):
    """Where self.length is set back, as for a new text, new tokens still go behind the old ones: the places are counted
    elsewhere too. Count with self.length alone."""

    filled = 0

    def append(self, k, v):
        self.length = self.filled
        kept = super().append(k, v)
        self.filled = self.length
        return kept


@exercise.misconception
class counted_under_another_name(counted_twice):
    """The numbers are right, but self.length does not tell how many places are filled. Count with it alone."""

    def append(self, k, v):
        kept = super().append(k, v)
        self.length = 0
        return kept


@exercise.misconception
class memory_shared_by_all_caches(KVCache):
    """One cache writes over what another one keeps: their memory is the same, as that of an attribute of the class or a
    default value would be. Each cache has its own, made in the constructor."""

    shared = {}  # noqa: RUF012

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.keys, self.values = self.shared.setdefault(sizes, (self.keys, self.values))
