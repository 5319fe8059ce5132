"""KVCache: keys and values of the tokens read so far, in memory taken beforehand."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...exercise import Exercise
from ...expect import Mismatch, expect_close, expect_like
from .cache_filling import Base, Joined, fills, in_words, pair
from .common import LESSON


def cases() -> list[tuple]:
    """Prefill and steps, more room than tokens, a full cache, half precision, refusals at once and in between."""
    return [
        (*pair(2, 3, 5, 4), 8, (5,)),
        (*pair(2, 3, 5, 4, seed=1), 8, (3, 1, 1)),
        (*pair(2, 2, 6, 4, seed=2, dtype=torch.bfloat16), 6, (1, 2, 3)),
        (*pair(1, 1, 6, 2, seed=4), 4, (3, 2, 1)),
        (*pair(1, 2, 8, 2, seed=5), 5, (2, 4, 2)),
        (*pair(1, 1, 9, 2, seed=6), 4, (5, 2)),
    ]


kv_cache = Exercise(
    name="KVCache",
    lesson=LESSON,
    points=4,
    minutes=8,
    parameters=("batch", "n_kv_heads", "max_seq_len", "head_dim", "dtype", "device"),
    reference=Base,
    cases=cases,
    returns=(Tensor, Tensor, bool, bool, str),
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


def expect_kept(answer: Callable, k: Tensor, v: Tensor, room: int, sizes: tuple[int, ...], refused: str = "") -> None:
    """Refuse an answer that does not keep all pieces but those that there is no room for."""
    pieces = f"pieces of {', '.join(map(str, sizes))} in a cache for {room}"
    keys, values, _, _, seen = answer(k, v, room, sizes)
    if seen != refused:
        raise Mismatch(f"{pieces}: expected {in_words(refused)}, got {in_words(seen)}")
    there = sum(sizes) - sum(int(piece.split()[0]) for piece in refused.split(", ") if piece)
    for name, got, want in (("keys", keys, k), ("values", values, v)):
        where = f"{name} after {pieces}"
        expect_like(got, shape=(*k.shape[:2], there, k.shape[3]), dtype=k.dtype, where=where)
        expect_close(got, want[:, :, :there], where=where, rtol=0, atol=0)


@kv_cache.property("a prompt at once: its own keys and values come back")
def _(answer: Callable) -> None:
    for seed, (shape, room) in enumerate([((2, 3, 5, 4), 8), ((1, 1, 1, 2), 2), ((3, 2, 4, 8), 6)]):
        expect_kept(answer, *pair(*shape, seed=seed), room, shape[2:3])


@kv_cache.property("a prompt, then token by token: after each append, all that is there so far, in order")
def _(answer: Callable) -> None:
    k, v = pair(2, 3, 7, 4)
    for sizes in ((4, 1), (4, 1, 1, 1), (1,) * 7, (2, 3), (2, 3, 2), (6, 1)):
        expect_kept(answer, k[:, :, : sum(sizes)], v[:, :, : sum(sizes)], 9, sizes)


@kv_cache.property("the last place may be filled")
def _(answer: Callable) -> None:
    k, v = pair(2, 2, 5, 4)
    for sizes in ((5,), (4, 1), (1, 4)):
        expect_kept(answer, k, v, 5, sizes)
    expect_kept(answer, k[:, :, :1], v[:, :, :1], 1, (1,))


@kv_cache.property("the cache's own dtype")
def _(answer: Callable) -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        expect_kept(answer, *pair(1, 2, 3, 4, dtype=dtype), 4, (2, 1))


@kv_cache.property("written into the memory taken beforehand, not copied anew each time")
def _(answer: Callable) -> None:
    k, v = pair(1, 2, 6, 4)
    if not answer(k, v, 8, (3, 1, 1, 1))[2]:
        raise Mismatch(
            "expected views of self.keys and self.values from each append, but what came back lies in other memory: "
            "torch.cat or .clone() copies all tokens at each new one"
        )


@kv_cache.property("self.length tells how many places are filled")
def _(answer: Callable) -> None:
    for room, sizes in ((8, (3, 1, 2)), (4, (3, 2, 1))):
        if not answer(*pair(1, 2, 6, 4), room, sizes)[3]:
            raise Mismatch(
                f"after pieces of {', '.join(map(str, sizes))} in a cache for {room}: expected a self.length that "
                "grows by each piece that is taken, and stays at one that is refused"
            )


@kv_cache.property("too many tokens are refused with a ValueError")
def _(answer: Callable) -> None:
    k, v = pair(1, 2, 12, 4)
    for room, sizes, refused in (
        (4, (5,), "5 after 0: ValueError"),
        (4, (4, 1), "1 after 4: ValueError"),
        (5, (1, 3, 3), "3 after 4: ValueError"),
        (4, (9,), "9 after 0: ValueError"),
    ):
        expect_kept(answer, k, v, room, sizes, refused)


@kv_cache.property("after a refusal the cache is as it was")
def _(answer: Callable) -> None:
    k, v = pair(1, 2, 110, 4)
    for room, sizes, refused in (
        (4, (3, 2, 1), "2 after 3: ValueError"),
        (5, (2, 4, 3), "4 after 2: ValueError"),
        (5, (1, 1, 100, 2), "100 after 2: ValueError"),
    ):
        expect_kept(answer, k, v, room, sizes, refused)


@kv_cache.misconception(
    "only the new tokens returned",
    "You return the keys and values that were just appended. Attention of the new tokens needs all so far: return what "
    "is in the cache up to the new length.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        super().append(k, v)
        return k, v


@kv_cache.misconception(
    "the empty places returned too",
    "You return the whole memory, with the places that no token has filled. Attention would read zeros there as if "
    "they were keys: cut axis 2, that of the tokens, at the new length.",
)
class _(Base):
    def kept(self) -> tuple[Tensor, Tensor]:
        return self.keys, self.values


@kv_cache.misconception(
    "length never counted on",
    "self.length stays as it was, so each append begins at the same place and writes over what was there.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.refuse(k)
        self.write(k, v)
        return self.keys[:, :, : self.end(k)], self.values[:, :, : self.end(k)]


@kv_cache.misconception(
    "what was there before returned",
    "You cut at the old length: what is returned lacks the tokens that were just appended. Count on first.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        before = self.length
        super().append(k, v)
        return self.keys[:, :, :before], self.values[:, :, :before]


@kv_cache.misconception(
    "one counted for each append",
    "You add 1 to the length at each append. Token by token that is right, but a prompt is appended at once: add "
    "k.shape[2].",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.refuse(k)
        self.write(k, v)
        self.length += 1
        return self.kept()


@kv_cache.misconception(
    "written where the next tokens belong",
    "You count on self.length first and then write at self.length. That is behind the places of these tokens, which "
    "stay empty: write from the old length to the new one.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.refuse(k)
        self.length = self.end(k)
        self.write(k, v)
        return self.kept()


@kv_cache.misconception(
    "each piece written to the first places",
    "You count on, but write each piece to places 0, 1, ... over what was there. New tokens go behind the old ones, "
    "from self.length on.",
)
class _(Base):
    def write(self, k: Tensor, v: Tensor) -> None:
        self.keys[:, :, : k.shape[2]], self.values[:, :, : k.shape[2]] = k, v


@kv_cache.misconception(
    "length set, not counted on",
    "You set the length to that of the newest piece. It is to grow: self.length + k.shape[2].",
)
class _(Base):
    def end(self, k: Tensor) -> int:
        return k.shape[2]


@kv_cache.misconception(
    "newest tokens first",
    "You put the new tokens before the old ones. The places are those of the text: the queries count from the end.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.refuse(k)
        old, end = self.length, self.end(k)
        for memory, new in ((self.keys, k), (self.values, v)):
            memory[:, :, k.shape[2] : end] = memory[:, :, :old].clone()
            memory[:, :, : k.shape[2]] = new
        self.length = end
        return self.kept()


@kv_cache.misconception(
    "overflow dropped",
    "Tokens for which there is no room are dropped without a word. The model would go on as if they had never been "
    "said: raise a ValueError.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        room = self.keys.shape[2] - self.length
        return super().append(k[:, :, :room], v[:, :, :room])


@kv_cache.misconception(
    "oldest tokens pushed out",
    "Where there is no room, you push out the oldest tokens. Such caches exist, but it is not what is asked: raise a "
    "ValueError, so that nobody loses the start of a text without knowing.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        size = self.keys.shape[2]
        for name, new in (("keys", k), ("values", v)):
            kept = torch.cat((getattr(self, name)[:, :, : self.length], new), dim=2)[:, :, -size:]
            getattr(self, name)[:, :, : kept.shape[2]] = kept
        self.length = min(self.length + k.shape[2], size)
        return self.kept()


@kv_cache.misconception(
    "the error of torch left to speak",
    "You leave it to torch to refuse. Several tokens too many end in a RuntimeError about sizes, and a single one in a "
    "full cache is lost without a word. Look first whether there is room, and raise a ValueError.",
)
class _(Base):
    def refuse(self, k: Tensor) -> None:
        return None


@kv_cache.misconception(
    "the last place refused",
    "You refuse to fill the last place: >= where > is meant. max_seq_len tokens fit.",
)
class _(Base):
    def refuse(self, k: Tensor) -> None:
        if self.length + k.shape[2] >= self.keys.shape[2]:
            raise ValueError("full")


@kv_cache.misconception(
    "refused too late",
    "New tokens, all or some of them, are counted before you refuse them, so after a ValueError the cache believes "
    "that it holds them. Look whether there is room before anything changes.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        start, self.length = self.length, self.end(k)
        if self.length > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.kept()


@kv_cache.misconception(
    "only the size of the new piece looked at",
    "You refuse a piece that is longer than the whole cache, but forget what is in it already: it is self.length plus "
    "the new tokens that have to fit.",
)
class _(Base):
    def refuse(self, k: Tensor) -> None:
        if k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")


@kv_cache.misconception(
    "keys for values",
    "The keys are written into both memories, so attention mixes keys. v goes into self.values.",
)
class _(Base):
    def write(self, k: Tensor, v: Tensor) -> None:
        super().write(k, k)


@kv_cache.misconception(
    "values before keys",
    "You return the values first. Keys first, then values.",
)
class _(Base):
    def kept(self) -> tuple[Tensor, Tensor]:
        return super().kept()[::-1]


@kv_cache.misconception(
    "copied anew each time",
    "The numbers are right, but torch.cat or .clone() copies all earlier tokens at each new one, and for a long text "
    "that is most of the work. Write into self.keys and self.values, and return slices of them, which copy nothing.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.refuse(k)
        old = getattr(self, "joined", (k[:, :, :0], v[:, :, :0]))
        self.joined = tuple(torch.cat((a, b), dim=2) for a, b in zip(old, (k, v), strict=True))
        self.length = self.end(k)
        return self.joined


@kv_cache.misconception(
    "memory replaced",
    "You put other tensors in place of self.keys and self.values: torch.cat makes a new one. The memory for "
    "max_seq_len tokens is gone, and the next tokens find no room. Write into it: self.keys[:, :, start:end] = k.",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.refuse(k)
        # Never more than once: afterwards there is no room.
        self.keys, self.values, self.length = k.clone(), v.clone(), self.end(k)
        return self.keys, self.values


@kv_cache.misconception(
    "joined behind the empty places",
    "torch.cat puts the new tokens behind the whole memory, empty places and all, and makes a longer one. Write into "
    "the memory that is there: self.keys[:, :, start:end] = k.",
)
class _(Joined):
    def kept(self) -> tuple[Tensor, Tensor]:
        return self.keys, self.values


@kv_cache.misconception(
    "joined behind the empty places, and cut",
    "torch.cat puts the new tokens behind the whole memory, so what you return from its beginning are empty places. "
    "Write into the memory that is there: self.keys[:, :, start:end] = k.",
)
class _(Joined):
    """Joined so; what is returned is the beginning."""


@kv_cache.misconception(
    "a prompt counted as one token",
    "What you write and return is right, but then you add 1 to the length. Token by token that is right, but a prompt "
    "is appended at once, and the next tokens are written over it: add k.shape[2].",
)
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.refuse(k)
        self.write(k, v)
        end = self.end(k)
        self.length += 1
        return self.keys[:, :, :end], self.values[:, :, :end]


@kv_cache.alternative
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        new = k.shape[2]
        if new > self.keys.shape[2] - self.length:
            raise ValueError("no room")
        self.keys.narrow(2, self.length, new).copy_(k)
        self.values.narrow(2, self.length, new).copy_(v)
        self.length += new
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)


@kv_cache.alternative
class _(Base):
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(self.length, self.length + k.shape[2], device=k.device)
        if len(places) and places[-1] >= self.keys.shape[2]:
            raise ValueError("no room")
        self.keys.index_copy_(2, places, k)
        self.values.index_copy_(2, places, v)
        self.length += len(places)
        return self.kept()
