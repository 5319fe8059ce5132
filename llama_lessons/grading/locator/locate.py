"""Compare two models part by part, and say which part is the first to differ, and why."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from llama_lessons.llama import LlamaConfig, rotary_embedding

from ..catalogue import Catalogue
from ..verdict import Mistake
from .formulas import ATTENTION, EMBEDDING, FEED_FORWARD, HEAD, NORM, norm
from .report import Fault, Report, Step
from .roles import IN_BLOCK, find_config, find_modules, in_order, place_of
from .running import Run, run
from .wiring import BLOCK, STACK

__all__ = ["locate"]

UNEXPLAINED = 1e-3  # how much of a difference a mistake may leave unexplained
WEIGHTS = {"attention": ("q_proj", "k_proj", "v_proj", "o_proj"), "feed_forward": ("gate_proj", "up_proj", "down_proj")}
ANOTHER_BLOCK = "weights of another block"

Signals = dict[str, list[Tensor]]


def locate(
    model: nn.Module,
    reference: nn.Module,
    tokens: Tensor,
    modules: dict[str, nn.Module] | None = None,
    reference_modules: dict[str, nn.Module] | None = None,
    config: LlamaConfig | None = None,
) -> Report:
    """Run two models on the same tokens, and find the first part in which they differ.

    Each part of `model` is given what its counterpart was given, and what it returns is replaced by what that returned,
    so that one mistake is not taken for many.

    Args:
        model: called as model(tokens).
        reference: the model that is right.
        tokens: ids, (batch, seq_len), a dozen or more.
        modules: parts of `model` by role, such as "embedding", "blocks.0", "blocks.0.attention_norm",
            "blocks.0.attention", "blocks.0.feed_forward_norm", "blocks.0.feed_forward", "norm", "head"; by default as
            they are called in the course's Llama or in Hugging Face's. A role that no module plays is left out.
        reference_modules: the same of `reference`.
        config: of both; by default the reference's. Without it the place is found, and mostly no reason.

    Raises:
        ValueError: if modules are not given and have other names.
    """
    modules, theirs = modules or find_modules(model), reference_modules or find_modules(reference)
    modes = [(each, each.training) for each in (model, reference)]
    try:
        for each, _ in modes:
            each.eval()
        wanted = run(reference, theirs, tokens)
        along = run(model, modules, tokens)
        forced = run(model, modules, tokens, like=wanted)
    finally:
        for each, training in modes:
            each.train(training)
    with torch.no_grad():
        return _Comparison(modules, theirs, wanted, along, forced, config or find_config(reference)).report()


@dataclass
class _Comparison:
    modules: dict[str, nn.Module]
    theirs: dict[str, nn.Module]
    wanted: Run
    along: Run
    forced: Run
    config: LlamaConfig | None

    @cached_property
    def roles(self) -> list[str]:
        return in_order([role for role in self.modules if role in self.theirs])

    @cached_property
    def tolerance(self) -> float:
        dtypes = {call.returned.dtype for seen in (self.wanted, self.along) for (call, *_) in seen.calls.values()}
        return max(2e-5, *(4 * torch.finfo(dtype).eps for dtype in dtypes))

    @cached_property
    def layers(self) -> int:
        return sum(role.count(".") == 1 for role in self.theirs)

    def report(self) -> Report:
        steps = tuple(self.step(role) for role in self.roles)
        end = _off(self.forced.logits, self.wanted.logits)
        steps += (Step("logits", 0.0, end, _off(self.along.logits, self.wanted.logits)),)
        faults = tuple(fault for step in steps for fault in self.faults_of(step))
        return Report(steps, self.tolerance, faults, self.mistake(faults) if faults else None)

    def step(self, role: str) -> Step:
        want, forced, along = (seen.calls.get(role, [None])[0] for seen in (self.wanted, self.forced, self.along))
        if forced is None or along is None:
            return Step(role, torch.inf, torch.inf, torch.inf)
        off = _off(forced.given, want.given), _off(forced.returned, want.returned)
        return Step(role, *off, _off(along.returned, want.returned))

    def faults_of(self, step: Step) -> Iterator[Fault]:
        if step.role != "logits" and not self.called_once(step.role):
            if place_of(step.role) in self.modules and not self.called_once(place_of(step.role)):
                return  # its block has the fault
            yield Fault(step.role, "called", torch.inf)
            return
        if step.given > self.tolerance:
            yield Fault(step.role, "given", step.given)
        if step.returned > self.tolerance:
            yield Fault(step.role, "returned", step.returned)

    def called_once(self, role: str) -> bool:
        return len(self.forced.calls.get(role, ())) == 1

    # ------------------------------------------------------------------------------------------- the reason

    def mistake(self, faults: tuple[Fault, ...]) -> Mistake | None:
        """What the first fault looks like, and whether that explains all of them."""
        blocks = [self.modules[role] for role in self.roles if role.count(".") == 1]
        if len(set(blocks)) < len(blocks):
            return Mistake(
                "one block in several places",
                f"{len(blocks)} blocks are asked for, and there are {len(set(blocks))}: [Block(config)] * n repeats "
                "one. Make each of them.",
                True,
            )
        places = list(dict.fromkeys(_wiring(fault.place) for fault in faults))
        matching = self.matching(places[0])
        if not matching:
            found = [self.other_numbers(fault) for fault in faults]
            return found[0] and replace(found[0], sure=None not in found)
        (name, diagnosis), *others = sorted(matching, key=lambda found: matching[found])
        best = max(matching[name, diagnosis], self.tolerance / 10)
        alone = all(matching[other] > 10 * best for other in others)
        sure = alone and all(name in {other for other, _ in self.matching(place)} for place in places[1:])
        return Mistake(name, diagnosis, sure)

    def matching(self, place: str) -> dict[tuple[str, str], float]:
        """The mistakes, by name and diagnosis, that do what is seen at a place, and how far off they are from it."""
        catalogue = _catalogue(place)
        if (right := self.made_by(place, catalogue.reference)) is None:
            return {}
        seen = self.seen(place, right)
        far = _distance(seen, right)
        found = {}
        for name, diagnosis, code in self.hypotheses(place, catalogue):
            try:
                made = self.made_by(place, code)
            except Exception:  # such as shapes that this mistake cannot have
                continue
            off = _distance(seen, made)
            shows = _distance(made, right) > self.tolerance
            if shows and off <= max(self.tolerance / 10, min(UNEXPLAINED * far, UNEXPLAINED)):
                found[name, diagnosis] = off
        return found

    def hypotheses(self, place: str, catalogue: Catalogue) -> Iterator[tuple[str, str, Callable]]:
        for misconception in catalogue.misconceptions:
            yield misconception.name, misconception.diagnosis, misconception.make()
        if catalogue is NORM:
            beside = {"norm", place.replace("feed_forward", "attention"), place.replace("attention", "feed_forward")}
            for role in beside & self.theirs.keys() - {place}:
                diagnosis = f"It has the gains of {role}: look at which weights go where."
                gains = self.arguments(role)[1]
                yield "gains of another norm", diagnosis, lambda x, _, eps, gains=gains: norm(x, gains, eps)
        if catalogue in (NORM, ATTENTION, FEED_FORWARD) and place != "norm":
            _, layer, part = place.split(".")
            for other in {int(layer) - 1, int(layer) + 1, 0, self.layers - 1} & set(range(self.layers)) - {int(layer)}:
                diagnosis = f"It has the weights of another block's {part}: look at how blocks are counted."
                arguments = self.arguments(f"blocks.{other}.{part}")[1:]
                yield ANOTHER_BLOCK, diagnosis, lambda x, *own, w=arguments: catalogue.reference(x, *w)

    def seen(self, place: str, like: Signals) -> Signals:
        """What is seen of the model at a place, for as many of the signals as it has parts."""
        if _is_formula(place):
            return {"returned": [self.forced.calls[place][0].returned]}
        ending = self.forced.logits if place == "stack" else self.forced.calls[place][0].returned
        calls = {
            role: [call.given for call in self.forced.calls.get(role, ())] for role in like if role in self.modules
        }
        return calls | {"returned": [ending]}

    def made_by(self, place: str, code: Callable) -> Signals | None:
        """What such code would make there; nothing where the reference itself is no such code."""
        if _is_formula(place):
            if (arguments := self.arguments(place)) is None:
                return None
            made = {"returned": [code(*arguments)]}
            if code is _catalogue(place).reference:
                right = self.wanted.calls[place][0].returned
                if _off(made["returned"][0], right) > self.tolerance:
                    return None
            return made
        signals: Signals = {}

        def stub(role: str) -> Callable[[Tensor], Tensor]:
            def part(given: Tensor) -> Tensor:
                signals.setdefault(role, []).append(given)
                return self.wanted.calls[role][0].returned

            return part

        if place == "stack":
            blocks = [stub(f"blocks.{i}") for i in range(self.layers)]
            tokens = self.wanted.calls["embedding"][0].given
            ending = code(tokens, stub("embedding"), blocks, stub("norm"), stub("head"))
        else:
            ending = code(self.wanted.calls[place][0].given, *(stub(f"{place}.{part}") for part in IN_BLOCK))
        return signals | {"returned": [ending]}

    def arguments(self, role: str) -> tuple | None:
        """What the formula of a part is given: the reference's input and weights; nothing where these are unknown."""
        kind, module, given = role.split(".")[-1], self.theirs[role], self.wanted.calls[role][0].given
        try:
            if kind in ("embedding", "head"):
                return given, module.weight
            if self.config is None:
                return None
            if kind.endswith("norm"):
                return given, module.weight, self.config.norm_eps
            weights = SimpleNamespace(**{name: getattr(module, name).weight for name in WEIGHTS[kind]})
        except AttributeError:
            return None
        return (given, weights, self.constants) if kind == "attention" else (given, weights)

    @cached_property
    def constants(self) -> SimpleNamespace:
        config = self.config
        device = self.wanted.logits.device
        return SimpleNamespace(
            n_heads=config.n_heads,
            n_kv_heads=config.n_kv_heads,
            group_size=config.group_size,
            head_dim=config.head_dim,
            theta=config.rope_theta,
            frequencies=rotary_embedding(config).frequencies.to(device),
        )

    def other_numbers(self, fault: Fault) -> Mistake | None:
        """What is seen of a part whose weights are other numbers than the reference's, in whatever order."""
        role = fault.role
        if fault.side != "returned" or role == "logits" or role.count(".") == 1:
            return None
        own = list(self.modules[role].parameters())
        for name, weight in self.theirs[role].named_parameters():
            alike = [parameter for parameter in own if parameter.shape == weight.shape]
            if alike and not any(_same_numbers(parameter, weight) for parameter in alike):
                if role == "head" and _same_numbers(weight, self.theirs["embedding"].weight):
                    return Mistake(
                        "untied head",
                        "The head has a weight of its own, with other numbers. In this model it is the embedding's: "
                        "the two are tied.",
                    )
                what = name.removesuffix(".weight") if "." in name else "weight"
                return Mistake(
                    "other numbers",
                    f"Its {what} holds other numbers than the reference's, in whatever order: were they loaded, and "
                    "into this part?",
                )
        return None


def _is_formula(place: str) -> bool:
    """Whether a place is a part with a formula of its own, and no block or stack that connects parts."""
    return place != "stack" and place.count(".") != 1


def _catalogue(place: str) -> Catalogue:
    if place == "stack":
        return STACK
    if place.count(".") == 1:
        return BLOCK
    kind = place.split(".")[-1]
    known = {"embedding": EMBEDDING, "attention": ATTENTION, "feed_forward": FEED_FORWARD, "head": HEAD}
    return known.get(kind, NORM)


def _wiring(place: str) -> str:
    """The place of a fault: the model's result is the stack's."""
    return "stack" if place == "logits" else place


def _distance(a: Signals, b: Signals) -> float:
    """How far two sets of signals are from each other, at the worst of those that both have."""
    offs = [0.0]
    for role in a:
        if len(a[role]) != len(b.get(role, ())):
            return torch.inf
        offs += map(_off, a[role], b.get(role, ()))
    return max(offs)


def _off(a: Tensor, b: Tensor) -> float:
    """How far a is from b, as a share of b's size, at the worst token."""
    if a.shape != b.shape:
        return torch.inf
    if not b.is_floating_point():
        return 0.0 if torch.equal(a, b.to(a)) else torch.inf
    a, b = a.to(b.device).double(), b.double()
    size = b.norm(dim=-1).clamp(min=1e-12)
    return ((a - b).norm(dim=-1) / size).nan_to_num(torch.inf).max().item()


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    a, b = (x.detach().double().flatten().sort().values for x in (a, b))
    return torch.allclose(a, b.to(a.device), rtol=1e-2, atol=1e-4)
