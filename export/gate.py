"""The parity gate: a bundle against its checkpoint, on stored inputs, component by component.

    embeddings   the token table, row by row
    vision       image embeddings of each picture
    decoder      keys and values of each layer, last hidden state and logits, fed with the checkpoint's own embeddings
    heads        the scalars of the regression head, fed with the checkpoint's own last hidden state
    locator      centre maps and geometry of a question for places, each side from its own image and hidden state
    answers      the whole bundle through the runtime: which token comes out on top, teacher-forced on the checkpoint's
                 own greedy answer; how many free-running answers are the same to the last token; a task score; and how
                 far the scalars are off, asked for each
    kernels      what the optimised graphs compute with (`gmrt.export.kernels`): integer where the precision says so

A tensor passes by its cosine and by its norm ratio: a wrong scale keeps the cosine, a wrong order keeps the norm. A
position where the checkpoint's own two best logits are closer than 1e-3 is a tie and counted apart. All failures are
gathered before one error is raised. Scalars are compared in standard deviations of their training data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gmrt.calibration.images import generated_images
from gmrt.export.checkpoint import Checkpoint, open_checkpoint
from gmrt.export.kernels import Kernels, failed_kernels, inspect_bundle, planned_floats
from gmrt.export.layers import first_layer_off
from gmrt.export.precision import Limit, Limits, recipe_for
from gmrt.export.probe import DecoderProbe
from gmrt.export.reference import MAX_TOKENS, Case, answer_cases
from gmrt.export.scalars import ScalarRow, Scalars, scalar_questions
from gmrt.export.score import Score, Scores
from gmrt.georsmllm import prompts
from gmrt.georsmllm.tasks import wordings
from gmrt.runtime.backends import Backend, create_backend
from gmrt.runtime.bundle import Bundle, open_bundle
from gmrt.runtime.cache import planned_capacity
from gmrt.runtime.errors import CheckpointError, GateError
from gmrt.runtime.generate import decode_tokens
from gmrt.runtime.lexicon import tag_tokens
from gmrt.runtime.manifest import Precision, Target
from gmrt.runtime.peaks import find_regions
from gmrt.runtime.sampling import greedy
from gmrt.runtime.verify import embed_case, golden_case, golden_pixels, replay
from gmrt.runtime.vocabulary import Vocabulary

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

QUESTIONS = (prompts.CAPTION[0], prompts.CLASS[0], prompts.CAPTION[4], prompts.IS_CLASS[1].format("river"))
LOCATE = wordings.LOCATE["box"][0].format(the="the buildings")
TIE = 1e-3
CLOSE = 1.0
"""Where the checkpoint's best logit leads by less than this (odds of e to 1), its free answer might go on otherwise,
and everything behind it is another text: answers are scored up to there. What is chosen at each such place, on the
checkpoint's own text, top-1 tells."""
_SAYABLE = 0.99  # of the words of answers to other images than those that a head's words were chosen on
_GOLDEN_SEEDS = (1, 2)
_GOLDEN_SCALAR_SEED = 3
_GOLDEN_WITHIN = 0.1  # standard deviations that a scalar may be off on another machine


@dataclass(frozen=True)
class Row:
    """One compared tensor: ``worst`` is the least cosine of a single case, ``failed`` why it did not pass, or empty."""

    component: str
    tensor: str
    cosine: float
    norm_ratio: float
    worst: float
    failed: str


@dataclass(frozen=True)
class Report:
    """What a gate found. ``top1`` is over ``positions`` that are no ties; ``exact`` the share of equal free answers.

    ``sayable`` is the share of them where the bundle's head has the checkpoint's word at all.
    ``scalars`` is empty for a model without a regression head; ``task_score`` is the mean of ``scores`` over all
    answers. ``failed`` holds (component, what, why) of everything that is not in a row.
    """

    precision: Precision
    target: Target
    source: str
    cases: int
    positions: int
    ties: int
    top1: float
    exact: float
    task_score: float
    failed: tuple[tuple[str, str, str], ...]
    rows: tuple[Row, ...]
    scores: tuple[Score, ...]
    kernels: tuple[Kernels, ...]
    scalars: tuple[ScalarRow, ...] = ()
    sayable: float = 1.0

    @property
    def failures(self) -> list[str]:
        """Each failure in a line that names component, tensor and numbers; empty when the gate is passed."""
        lines = [f"{r.component:<11}{r.tensor:<14}{r.failed}" for r in self.rows if r.failed]
        lines += [f"{s.component:<11}{s.measure:<14} {s.failed}" for s in self.scalars if s.failed]
        return lines + [f"{component:<11}{what:<14}{why}" for component, what, why in self.failed]

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's parity record, without the golden cases."""
        apart = ("rows", "scores", "scalars", "failed", "kernels")
        summary = {k: v for k, v in asdict(self).items() if k not in apart}
        rows = [_without_reason(row) for row in self.rows]
        limits = recipe_for(self.precision, self.target).limits
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "date": date,
            "passed": not self.failures,
            **summary,
            "tie_margin": TIE,
            "limits": asdict(limits),
            "tensors": rows,
            "scores": [asdict(score) for score in self.scores],
            "scalars": [_without_reason(row) for row in self.scalars],
            "kernels": [kernels.to_dict() for kernels in self.kernels],
        }


def _without_reason(row: Row | ScalarRow) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if key != "failed"}


def require(report: Report, consequence: str) -> None:
    """Raise `GateError` with the table of all failures, if there is one; ``consequence`` ends the first line."""
    if report.failures:
        table = "\n  ".join(report.failures)
        raise GateError(f"the {report.precision} bundle does not agree with its checkpoint, {consequence}:\n  {table}")


def gate_questions(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What is asked about each picture: captions and classes, each measure, and places where there is a locator."""
    located = (LOCATE,) if checkpoint.model.locator is not None else ()
    return (*QUESTIONS, *scalar_questions(checkpoint), *located)


def run_gate(checkpoint: Checkpoint, bundle_path: Path, images: Iterable[FloatArray], source: str) -> Report:
    """Compare a bundle with its checkpoint on ``images`` [3, H, W], every question about each; ``source`` in words."""
    questions = gate_questions(checkpoint)
    bundle = open_bundle(bundle_path)
    backend = create_backend(bundle, "cpu")
    recipe = recipe_for(bundle.manifest.precision, bundle.manifest.target)
    limits = recipe.limits
    tensors = _Tensors(limits)
    answers, scalars, scores = _Answers(), Scalars(checkpoint, limits.values), Scores()
    table = checkpoint.table()
    tensors.add("embeddings", "rows", table, bundle.table.lookup(np.arange(len(table))))
    decoder = DecoderProbe(bundle)
    first: FloatArray | None = None
    for pixels in images:
        first = pixels if first is None else first
        seen = backend.encode(pixels[None])
        image, places = seen.embeds[0], seen.places
        for case in answer_cases(checkpoint, pixels, questions):
            tensors.add("vision", "image_embeds", case.image_embeds, image)
            if case.image_places is not None:
                assert places is not None  # a bundle has a locator where its checkpoint has one
                tensors.add("vision", "image_places", case.image_places, places[0])
            for name, ours, theirs in decoder.compare(case):
                tensors.add("decoder", name, ours, theirs)
            forced, values, hidden = replay(bundle, backend, image, case.question, case.answer)
            scalars.add(case, values, backend)
            # The loop of the field refuses numbers that are not finite; here they are a failure like others.
            free = _free(bundle, backend, image, case.question) if np.isfinite(forced).all() else ()
            answers.add(case, bundle.tokens(forced.argmax(axis=-1)), free, bundle.vocabulary)
            if case.question != LOCATE:
                sure = _sure(case)
                if sure:
                    said = (bundle.tokenizer.decode(list(ids[:sure])) for ids in (case.answer, free))
                    scores.add_text(case.question, *said)
                continue
            assert places is not None
            found = _found(checkpoint, bundle, case, places, hidden[0])
            for name, ours, theirs in zip(("maps", "geometry"), *(side[:2] for side in found), strict=True):
                tensors.add("locator", name, ours, theirs)
            scores.add_regions(*(find_regions(*side, "box").regions for side in found))
    top1 = answers.matched / max(1, answers.positions)
    kernels, rows = inspect_bundle(bundle), tuple(tensors.rows())
    floats = (*recipe.floats, *planned_floats(bundle.manifest))
    failed = _failed_answers(answers, scores, limits) + failed_kernels(kernels, limits.integer, floats)
    if first is not None and any(row.component == "vision" and row.failed for row in rows):
        beyond = limits.vision.value, limits.vision_norm.value
        failed.append(("vision", "first layer", first_layer_off(checkpoint, bundle, first, beyond)))
    return Report(
        precision=bundle.manifest.precision,
        target=bundle.manifest.target,
        source=source,
        cases=answers.cases,
        positions=answers.positions,
        ties=answers.ties,
        top1=round(top1, 6),
        exact=round(answers.exact / max(1, answers.cases), 6),
        task_score=round(scores.mean, 6),
        failed=tuple(failed),
        rows=rows,
        scores=tuple(scores.rows()),
        kernels=kernels,
        scalars=tuple(scalars.rows()),
        sayable=round(answers.sayable / max(1, answers.positions), 6),
    )


def golden_cases(bundle_path: Path, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Record what a bundle says to two pictures that can be made anywhere, for `gmrt.runtime.verify`."""
    bundle = open_bundle(bundle_path)
    backend = create_backend(bundle, "cpu")
    asked = list(zip(_GOLDEN_SEEDS, QUESTIONS, strict=False))
    asked += [(_GOLDEN_SCALAR_SEED, question) for question in scalar_questions(checkpoint)[:1]]
    within = tuple(_GOLDEN_WITHIN * measure["std"] for measure in checkpoint.model.config.measures)
    records = []
    for seed, question in asked:
        pixels = golden_pixels(seed, bundle.manifest.image)
        (case,) = answer_cases(checkpoint, pixels, [question])
        logits, values, _ = replay(bundle, backend, backend.encode(pixels[None]).embeds[0], question, case.answer)
        golden = golden_case(bundle, seed, question, case.answer, logits)
        if seed == _GOLDEN_SCALAR_SEED:
            golden = replace(golden, values=tuple(map(float, values[0])), within=within)
        records.append(golden.to_dict())
    return records


def verify_against(bundle_path: Path | str, checkpoint_path: Path | str) -> Report:
    """Run the whole gate again on an existing bundle, on generated scenes.

    Raises `CheckpointError` when the bundle was not made from this checkpoint; failures are in the report.
    """
    checkpoint = open_checkpoint(checkpoint_path)
    manifest = open_bundle(bundle_path).manifest
    if manifest.provenance.get("checkpoint") != checkpoint.sha256:
        raise CheckpointError(f"{checkpoint_path}: these are not the weights that {bundle_path} was made from")
    images = generated_images().split(0)[1]
    return run_gate(checkpoint, Path(bundle_path), images.pixels(manifest.image), images.source)


def _free(bundle: Bundle, backend: Backend, image: FloatArray, question: str) -> tuple[int, ...]:
    """The bundle's own greedy answer, through the loop of the field; end not included."""
    embeds, length = embed_case(bundle, image, question, ())
    decoder = backend.bind(backend.new_cache(planned_capacity(length + MAX_TOKENS, bundle.manifest.cache)))
    last = decoder.prefill(embeds[None], np.array([[length - 1]]))[0, 0]
    tags = tag_tokens(bundle.tokenizer) if bundle.locator is not None else None
    eos = frozenset((*bundle.manifest.prompt.eos_token_ids, *(tags or ())))
    tokens = decode_tokens(
        decoder,
        bundle.table,
        last,
        sampler=greedy,
        constraint=None,
        eos=eos,
        max_tokens=MAX_TOKENS,
        rewind_to=0,
        vocabulary=bundle.vocabulary,
    )
    return tuple(token.id for token in tokens if token.id not in eos)


def _sure(case: Case) -> int:
    """Tokens of the checkpoint's answer before its first close call."""
    second, first = np.partition(case.logits[: len(case.answer)], -2, axis=-1)[:, -2:].T
    close = np.flatnonzero(first - second < CLOSE)
    return int(close[0]) if len(close) else len(case.answer)


def _failed_answers(answers: _Answers, scores: Scores, limits: Limits) -> list[tuple[str, str, str]]:
    failed, need = [], limits.top1
    if answers.positions == 0 or answers.matched < need.value * answers.positions:
        why = f"{answers.matched} of {answers.positions} < {need.value} ({need.why})"
        failed.append(("answers", "top-1", why))
    if answers.sayable < _SAYABLE * answers.positions:
        lacking = answers.positions - answers.sayable
        why = f"the head lacks the word of {lacking} of {answers.positions} tokens: keep more words"
        failed.append(("answers", "vocabulary", why))
    if scores.values and scores.mean < limits.task.value:
        failed.append(("answers", "task score", f"{scores.mean:.3f} < {limits.task.value} ({limits.task.why})"))
    return failed


Found = tuple[FloatArray, FloatArray, float]


def _found(
    checkpoint: Checkpoint, bundle: Bundle, case: Case, places: FloatArray, hidden: FloatArray
) -> tuple[Found, Found]:
    """Maps, geometry and one-or-many of the locator, the checkpoint's and the bundle's, from own image and state."""
    assert bundle.locator is not None
    assert case.image_places is not None
    exact, state = torch.from_numpy(case.image_places)[None], torch.from_numpy(case.last_hidden[0])
    maps, shapes, single = checkpoint.model.locate(state, exact)
    ours = maps[0].numpy(), shapes[0].numpy(), float(single)
    return ours, bundle.locator.maps(hidden, bundle.locator.look(places))


@dataclass
class _Tensors:
    """Products and norms of compared tensors, summed over cases."""

    limits: Limits
    sums: dict[tuple[str, str], npt.NDArray[np.float64]] = field(default_factory=dict)
    worst: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, component: str, tensor: str, ours: FloatArray, theirs: FloatArray) -> None:
        a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
        if a.shape != b.shape:
            raise GateError(
                f"{component} {tensor}: {theirs.shape} instead of {ours.shape}: the graph has other outputs"
            )
        key, sums = (component, tensor), np.array([a @ b, a @ a, b @ b])
        self.sums[key] = self.sums.get(key, np.zeros(3)) + sums
        self.worst[key] = min(self.worst.get(key, 1.0), _cosine(sums))

    def rows(self) -> Iterator[Row]:
        for (component, tensor), sums in self.sums.items():
            cosine, ratio = _cosine(sums), float(np.sqrt(sums[2] / max(sums[1], 1e-30)))
            least, drift = self._limits(component)
            parts = [f"cosine {cosine:.6f} < {least.value} ({least.why})"] if not cosine >= least.value else []
            if not abs(ratio - 1) <= drift.value:
                parts.append(f"norm ratio {ratio:.4f} is off by more than {drift.value} ({drift.why})")
            worst = self.worst[component, tensor]
            yield Row(component, tensor, round(cosine, 7), round(ratio, 6), round(worst, 7), "; ".join(parts))

    def _limits(self, component: str) -> tuple[Limit, Limit]:
        limits = self.limits
        return {
            "embeddings": (limits.table, limits.decoder_norm),
            "vision": (limits.vision, limits.vision_norm),
            "locator": (limits.vision, limits.vision_norm),
            "decoder": (limits.decoder, limits.decoder_norm),
        }[component]


@dataclass
class _Answers:
    """Agreement of tokens, counted over cases."""

    cases: int = 0
    positions: int = 0
    ties: int = 0
    matched: int = 0
    sayable: int = 0
    exact: int = 0

    def add(self, case: Case, top: IntArray, free: tuple[int, ...], held: Vocabulary | None) -> None:
        second, first = np.partition(case.logits, -2, axis=-1)[:, -2:].T
        clear = first - second >= TIE
        self.cases += 1
        self.positions += int(clear.sum())
        self.ties += int((~clear).sum())
        ours = case.logits.argmax(axis=-1)
        self.matched += int((top == ours)[clear].sum())
        self.sayable += sum(held is None or held.holds([token]) for token in ours[clear])
        self.exact += free == case.answer


def _cosine(sums: npt.NDArray[np.float64]) -> float:
    """Cosine from (a·b, a·a, b·b); two empty vectors are the same."""
    if sums[1] == 0 and sums[2] == 0:
        return 1.0
    return float(sums[0] / np.sqrt(max(sums[1] * sums[2], 1e-60)))
