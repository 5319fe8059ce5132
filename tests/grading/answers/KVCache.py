"""Other answers to KVCache."""

import torch
from torch import nn

from llama_lessons import attention
from tests.grading.answers import right, wrong

right(attention.KVCache)


class Given:
    """The constructor as the notebook gives it."""

    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None):
        self.length = 0
        self.keys = torch.zeros(batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)


@right
class ByNarrow(Given):
    def append(self, k, v):
        new = k.shape[2]
        if new > self.keys.shape[2] - self.length:
            raise ValueError("no room")
        self.keys.narrow(2, self.length, new).copy_(k)
        self.values.narrow(2, self.length, new).copy_(v)
        self.length += new
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)


class CacheFull(ValueError):
    pass


@right
class RefusesWithAnErrorOfItsOwn(Given):
    def append(self, k, v):
        if self.length + k.shape[2] > self.keys.shape[2]:
            raise CacheFull("no room")
        return attention.KVCache.append(self, k, v)


@right
class ByIndexCopy(Given):
    def append(self, k, v):
        places = torch.arange(self.length, self.length + k.shape[2], device=k.device)
        if len(places) and places[-1] >= self.keys.shape[2]:
            raise ValueError("no room")
        self.keys.index_copy_(2, places, k)
        self.values.index_copy_(2, places, v)
        self.length += len(places)
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@right
class InOneTensor:
    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None):
        self.both = torch.empty(2, batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype, device=device)
        self.keys, self.values = self.both
        self.length = 0

    def append(self, k, v):
        if self.length + k.shape[-2] > self.both.shape[3]:
            raise ValueError("full")
        self.both[:, :, :, self.length : self.length + k.shape[-2]] = torch.stack((k, v))
        self.length += k.shape[-2]
        return tuple(self.both[:, :, :, : self.length])


@right
class WithTokensFirst:
    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None):
        shape = (max_seq_len, batch, n_kv_heads, head_dim)
        self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        self.length = 0

    def append(self, k, v):
        free = list(range(self.length, len(self.keys)))
        if len(free) < k.shape[2]:
            raise ValueError("full")
        for token in range(k.shape[2]):
            place = free.pop(0)
            self.keys[place], self.values[place] = k[:, :, token], v[:, :, token]
        self.length = len(self.keys) - len(free)
        return [x[: self.length].permute(1, 2, 0, 3) for x in (self.keys, self.values)]


@right
class OneTokenAfterTheOther(attention.KVCache):
    def append(self, k, v):
        if self.length + k.shape[2] > self.max_seq_len:
            raise ValueError
        for key, value in zip(k.unbind(2), v.unbind(2), strict=True):
            self.keys[:, :, self.length], self.values[:, :, self.length] = key, value
            self.length += 1
        return [self.keys[..., : self.length, :], self.values[..., : self.length, :]]


@right
class CountsAndTakesBack(Given):
    def append(self, k, v):
        start = self.length
        self.length += k.shape[2]
        if self.length > self.keys.size(2):
            self.length = start
            raise ValueError("full")
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@right
class AsAModule(nn.Module):
    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None):
        super().__init__()
        self.length = 0
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(batch, n_kv_heads, max_seq_len, head_dim, dtype=dtype).to(device))

    append = CountsAndTakesBack.append


class Wrong(attention.KVCache):
    """The course's cache, to be spoiled."""


@wrong(called="counted under another name")
class WithACountOfItsOwn(Wrong):
    def append(self, k, v):
        self.length = getattr(self, "filled", 0)
        try:
            return super().append(k, v)
        finally:
            self.filled, self.length = self.length, 0


@wrong(called="counted twice")
class WithAPlaceBesideTheLength(Given):
    def append(self, k, v):
        self.place = getattr(self, "place", 0)
        if self.place + k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")
        for key, value in zip(k.unbind(2), v.unbind(2), strict=True):
            self.keys[:, :, self.place], self.values[:, :, self.place] = key, value
            self.place += 1
        self.length = self.place
        return self.keys[:, :, : self.place], self.values[:, :, : self.place]


@wrong(called="kept until none fits")
class RefusesWhenHalfIsWritten(Wrong):
    def append(self, k, v):
        for key, value in zip(k.split(1, 2), v.split(1, 2), strict=True):
            kept = super().append(key, value)
        return kept


@wrong(called="written and then refused")
class WritesWhatFitsAndThenRefuses(Given):
    def append(self, k, v):
        place = self.length
        for i in range(k.shape[2]):
            if place == self.keys.shape[2]:
                raise ValueError("full")
            self.keys[:, :, place] = k[:, :, i]
            self.values[:, :, place] = v[:, :, i]
            place += 1
        self.length = place
        return self.keys[:, :, :place], self.values[:, :, :place]


@wrong()
class WithoutAReturn(Wrong):
    def append(self, k, v):
        super().append(k, v)


@wrong(called="what came in returned, nothing counted")
class KeepsNothing(Wrong):
    def append(self, k, v):
        return k, v


@wrong(called="what came in returned, nothing counted")
class WritesAndNeverCounts(Given):
    def append(self, k, v):
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError
        self.keys[:, :, self.length : end], self.values[:, :, self.length : end] = k, v
        return k, v


@wrong(called="counted before it is refused")
class LooksForRoomLast(Given):
    def append(self, k, v):
        start, end = self.length, self.length + k.shape[2]
        self.keys[:, :, start:end], self.values[:, :, start:end] = k, v
        self.length = end
        if end > self.keys.shape[2]:
            raise ValueError
        return self.keys[:, :, :end], self.values[:, :, :end]


@wrong(called="grows when full")
class GrowsWithoutEnd(Wrong):
    def append(self, k, v):
        if self.length + k.shape[2] > self.max_seq_len:
            self.keys = torch.cat((self.keys, torch.zeros_like(self.keys)), dim=2)
            self.values = torch.cat((self.values, torch.zeros_like(self.values)), dim=2)
        return super().append(k, v)


@wrong()
class ForTheFirstRowOnly(Wrong):
    def append(self, k, v):
        return super().append(k[:1].expand_as(k), v[:1].expand_as(v))


@wrong(called="emptied by a refusal")
class ForgetsAfterRefusing(Wrong):
    def append(self, k, v):
        try:
            return super().append(k, v)
        except ValueError:
            self.length = 0
            raise


@wrong()
class SharedByAll(Wrong):
    memory = None

    def __init__(self, *sizes):
        super().__init__(*sizes)
        if SharedByAll.memory is None:
            SharedByAll.memory = self.keys
        self.keys = SharedByAll.memory


@wrong(called="memory shared by all caches")
class SharedByCachesOfOneSize(Given):
    memory = {}  # noqa: RUF012

    def __init__(self, *sizes):
        if sizes not in self.memory:
            super().__init__(*sizes)
            self.memory[sizes] = self.keys, self.values
        self.length, (self.keys, self.values) = 0, self.memory[sizes]

    append = ByNarrow.append


@wrong()
class CountedByTheClass(Given):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        CountedByTheClass.length = 0
        del self.length

    def append(self, k, v):
        start = self.length
        if start + k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")
        CountedByTheClass.length += k.shape[2]
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@wrong()
class DtypeOfTheFirst(Given):
    dtype = None

    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None):
        DtypeOfTheFirst.dtype = self.dtype or dtype
        super().__init__(batch, n_kv_heads, max_seq_len, head_dim, self.dtype, device)

    append = ByNarrow.append


@wrong()
class InFloat32(Wrong):
    def __init__(self, batch, n_kv_heads, max_seq_len, head_dim, dtype=torch.float32, device=None):
        super().__init__(batch, n_kv_heads, max_seq_len, head_dim, torch.float32, device)

    def append(self, k, v):
        return super().append(k.float(), v.float())


@wrong(called="an assert")
class WithAnAssert(Wrong):
    def append(self, k, v):
        assert self.length + k.shape[2] <= self.max_seq_len
        return super().append(k, v)


@wrong(called="memory replaced")
class JoinedByCat(Wrong):
    def append(self, k, v):
        if self.length + k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")
        self.keys = torch.cat([self.keys[:, :, : self.length], k], dim=2)
        self.values = torch.cat([self.values[:, :, : self.length], v], dim=2)
        self.length += k.shape[2]
        return self.keys, self.values


@wrong(called="a chunk taken for a new prompt")
class PrefillAndDecode(Given):
    def append(self, k, v):
        start = self.length if k.shape[2] == 1 else 0
        end = start + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, start:end], self.values[:, :, start:end] = k, v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@wrong(called="length never counted on")
class CountsInALocalVariable(Given):
    def append(self, k, v):
        length = self.length
        if length + k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, length : length + k.shape[2]] = k
        self.values[:, :, length : length + k.shape[2]] = v
        length += k.shape[2]
        return self.keys[:, :, :length], self.values[:, :, :length]


@wrong(called="in other memory")
class KeptInAList(Given):
    def append(self, k, v):
        if self.length + k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")
        self.pieces = [*getattr(self, "pieces", []), (k, v)]
        self.length += k.shape[2]
        return tuple(torch.cat(x, dim=2) for x in zip(*self.pieces, strict=True))


@wrong(called="a RuntimeError, no ValueError")
class WithoutALook(Given):
    def append(self, k, v):
        self.keys[:, :, self.length : self.length + k.shape[2]] = k
        self.values[:, :, self.length : self.length + k.shape[2]] = v
        self.length += k.shape[2]
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@wrong(called="counted, and torch left to refuse")
class WithoutALookAndCountedFirst(Given):
    def append(self, k, v):
        start = self.length
        self.length += k.shape[2]
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@wrong(called="written where the next tokens belong")
class CountedBeforeWriting(Given):
    def append(self, k, v):
        if self.length + k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")
        self.length += k.shape[2]
        self.keys[:, :, self.length : self.length + k.shape[2]] = k
        self.values[:, :, self.length : self.length + k.shape[2]] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@wrong(called="joined behind all")
class JoinedNaively(Given):
    def append(self, k, v):
        self.keys = torch.cat([self.keys, k], dim=2)
        self.values = torch.cat([self.values, v], dim=2)
        self.length += k.shape[2]
        return self.keys, self.values


@wrong(called="refused without a word")
class SaysNothingWhereItIsFull(Given):
    def append(self, k, v):
        if k.shape[2] <= self.keys.shape[2] - self.length:
            return ByNarrow.append(self, k, v)
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@wrong(called="a single token too many lost")
class WaitsForTorchToRefuse(Given):
    def append(self, k, v):
        try:
            return WithoutALook.append(self, k, v)
        except RuntimeError:
            raise ValueError("full") from None


@wrong(called="the first places returned")
class CutsAtTheNumberOfNewTokens(Given):
    def append(self, k, v):
        ByNarrow.append(self, k, v)
        return self.keys[:, :, : k.shape[2]], self.values[:, :, : k.shape[2]]


@wrong(called="only a full cache refused")
class LooksWhetherItIsFull(Given):
    def append(self, k, v):
        if self.length >= self.keys.shape[2]:
            raise ValueError("full")
        return WithoutALook.append(self, k, v)


@wrong(called="starts over when full")
class BeginsAgain(Given):
    def append(self, k, v):
        if self.length + k.shape[2] > self.keys.shape[2]:
            self.length = 0
        return WithoutALook.append(self, k, v)


@wrong(called=None)
class WritesOnePlace(Given):
    def append(self, k, v):
        self.keys[:, :, self.length] = k
        self.values[:, :, self.length] = v
        self.length += 1
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@wrong(called=None)
class FilledFromTheEnd(Given):
    def append(self, k, v):
        if self.length + k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, -k.shape[2] :], self.values[:, :, -k.shape[2] :] = k, v
        self.length += k.shape[2]
        return self.keys[:, :, -self.length :], self.values[:, :, -self.length :]


class Spelled(Given):
    """The plain way, in which the answers below change what they write and return, or when they refuse."""

    def refuse(self, k):
        if self.length + k.shape[2] > self.keys.shape[2]:
            raise ValueError("full")

    def append(self, k, v):
        self.refuse(k)
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.result(k, v)

    def result(self, k, v):
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@wrong(called="keys for values")
class ReturnsTheKeysTwice(Spelled):
    def result(self, k, v):
        return self.keys[:, :, : self.length], self.keys[:, :, : self.length]


@wrong(called="values for keys")
class ReturnsTheValuesTwice(Spelled):
    def result(self, k, v):
        return self.values[:, :, : self.length], self.values[:, :, : self.length]


@wrong(called="cut along the heads")
class CutsAxis1(Spelled):
    def result(self, k, v):
        return self.keys[:, : self.length], self.values[:, : self.length]


@wrong(called="in other memory")
class ReturnsAPromptItself(Spelled):
    def result(self, k, v):
        return (k, v) if self.length == k.shape[2] else super().result(k, v)


@wrong(called="a token too many accepted")
class CountsFrom0(Spelled):
    def refuse(self, k):
        if self.length + k.shape[2] - 1 > self.keys.shape[2]:
            raise ValueError("full")


@wrong(called="a RuntimeError")
class RaisesAnother(Spelled):
    def refuse(self, k):
        if self.length + k.shape[2] > self.keys.shape[2]:
            raise RuntimeError("full")


@wrong(called="refused after it was written")
class LooksAfterwards(Spelled):
    def refuse(self, k):
        pass

    def append(self, k, v):
        start = self.length
        kept = super().append(k, v)
        if self.length > self.keys.shape[2]:
            self.length = start
            raise ValueError("full")
        return kept
