"""Other answers to TiedModel."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from llama_lessons import initialization
from llama_lessons.norms import RMSNorm
from tests.grading.answers import right, wrong


class Given(nn.Module):
    def __init__(self, vocab_size, dim):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.norm = RMSNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.begin()

    def forward(self, tokens):
        return self.head(self.norm(self.embedding(tokens)))


@right
class TiesTheOtherWay(Given):
    def begin(self):
        nn.init.normal_(self.head.weight, std=0.02)
        self.embedding.weight = self.head.weight


@right
class MakesTheTableSmaller(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        with torch.no_grad():
            self.embedding.weight.mul_(0.02)


@right
class GivesTheTable(Given):
    def begin(self):
        table = 0.02 * torch.randn(self.embedding.weight.shape)
        self.embedding = nn.Embedding.from_pretrained(table, freeze=False)
        self.head.weight = self.embedding.weight


@right
class DrawsTheTable(Given):
    def begin(self):
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight = self.embedding.weight


@right
class DrawsByTheLibrary(Given):
    def begin(self):
        self.embedding.weight = self.head.weight
        initialization.llama_init_(self)


@right
class DrawsAtTheVeryEnd(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        for name, parameter in self.named_parameters():
            if name == "embedding.weight":
                parameter.data.normal_(0, 0.02)


@right
class OneParameterForBoth(Given):
    def begin(self):
        shared = nn.Parameter(0.02 * torch.randn(self.embedding.weight.shape))
        self.embedding.weight = self.head.weight = shared


@right
class DeletesTheHeadsWeight(Given):
    def begin(self):
        del self.head.weight
        self.head.weight = self.embedding.weight
        self.head.weight.data = torch.normal(0.0, 0.02, self.head.weight.shape)


@wrong()
class TiesInForwardAlone(Given):
    def begin(self):
        for weight in (self.embedding.weight, self.head.weight):
            nn.init.normal_(weight, std=0.02)

    def forward(self, tokens):
        return F.linear(self.norm(self.embedding(tokens)), self.embedding.weight)


@wrong()
class LeavesTheNormOut(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


@wrong()
class TiesTheNumbersOnly(Given):
    def begin(self):
        nn.init.normal_(self.head.weight, std=0.02)
        self.embedding.weight.data = self.head.weight.data.clone()


@wrong()
class DetachesTheHead(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens):
        return F.linear(self.norm(self.embedding(tokens)), self.head.weight.detach())


@wrong()
class FreezesTheTable(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.02).requires_grad_(False)


@wrong()
class OneRowForAll(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.zeros_(self.head.weight)
        nn.init.normal_(self.head.weight.data[0], std=0.02 * self.head.out_features**0.5)


@wrong()
class DrawsAroundAnotherMean(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, 0.02, 0.02)


@wrong()
class DrawsEvenly(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.uniform_(self.head.weight, -0.02 * math.sqrt(3), 0.02 * math.sqrt(3))


@wrong()
class GivesAFrozenTable(Given):
    def begin(self):
        self.embedding = nn.Embedding.from_pretrained(0.02 * torch.randn(self.embedding.weight.shape))
        self.head.weight = self.embedding.weight


@wrong(called="equal, but not tied")
class SharesTheNumbers(Given):
    def begin(self):
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight.data = self.embedding.weight.data


@wrong(called="0.02 as the mean")
class MissesTheWordStd(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, 0.02)


@wrong(called="0.02 everywhere")
class OneNumberForAll(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.constant_(self.head.weight, 0.02)


@wrong(called="Xavier's uniform variant")
class XavierFromTheUniform(Given):
    def begin(self):
        self.embedding.weight = self.head.weight
        nn.init.xavier_uniform_(self.head.weight)


@wrong(called="a nought too few")
class ANoughtForgotten(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.2)


class Tied(Given):
    """Tied first; what is drawn, and how, is what the answers below do in their own ways."""

    def begin(self):
        self.head.weight = self.embedding.weight
        self.draw(self.head.weight)


@wrong(called="uniform")
class DrawsFromRand(Tied):
    def draw(self, weight):
        weight.data = (torch.rand_like(weight) - 0.5) * (0.02 * math.sqrt(12))


@wrong(called="uniform up to 0.02")
class DrawsUpTo(Tied):
    def draw(self, weight):
        weight.data = (2 * torch.rand_like(weight) - 1) * 0.02


@wrong(called="frozen")
class FreezesAtTheEnd(Tied):
    def draw(self, weight):
        nn.init.normal_(weight, 0, 0.02)
        for parameter in (self.embedding.weight, self.head.weight):
            parameter.requires_grad = False


@wrong(called="truncated")
class CutsAtTwo(Tied):
    def draw(self, weight):
        nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


@wrong()
class CutsAtThree(Tied):
    def draw(self, weight):
        nn.init.trunc_normal_(weight, std=0.02, a=-0.06, b=0.06)


@wrong(called="the logits made smaller")
class DividesTheLogits(Tied):
    def draw(self, weight):
        pass

    def forward(self, tokens):
        return self.head(self.norm(self.embedding(tokens))) / 50


@wrong(called="both drawn, not tied")
class DrawsEveryMatrix(Given):
    def begin(self):
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)


@wrong(called="the table alone drawn, not tied")
class DrawsTheTableAlone(Given):
    def begin(self):
        nn.init.normal_(self.embedding.weight, std=0.02)


@wrong(called="the norm drawn too")
class DrawsEveryParameter(Given):
    def begin(self):
        self.head.weight = self.embedding.weight
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)


@wrong(called="the planted bug")
class DrawsIntoACopy(Tied):
    def draw(self, weight):
        nn.init.normal_(weight.clone(), std=0.02)


@wrong(called="0.02 squared")
class MadeSmallerTwice(Tied):
    def draw(self, weight):
        nn.init.normal_(weight, std=0.02)
        weight.data *= 0.02


@wrong(called="the gains made smaller")
class LeavesTheTable(Given):
    def begin(self):
        nn.init.normal_(self.head.weight, std=0.02)
        self.head.weight = self.embedding.weight
        self.norm.weight.data *= 0.02


@wrong(called="the planted bug")
class DrawsInAnotherWay(Given):
    def begin(self):
        self.head.weight.data.normal_(0, 0.02)
        self.head.weight = self.embedding.weight


@wrong()
class ARowForPadding(Tied):
    def draw(self, weight):
        nn.init.normal_(weight, std=0.02)
        weight.data[0] = 0


@wrong()
class RemembersItsFirstText(Tied):
    kept = None

    def draw(self, weight):
        nn.init.normal_(weight, std=0.02)

    def forward(self, tokens):
        self.kept = tokens if self.kept is None else self.kept
        return super().forward(self.kept)


@wrong(called=None)
class DrawsALittleTooLarge(Tied):
    def draw(self, weight):
        nn.init.normal_(weight, std=0.025)


@wrong(called=None)
class DrawsEvenlyUpToTwice(Tied):
    def draw(self, weight):
        nn.init.uniform_(weight, -0.04, 0.04)
