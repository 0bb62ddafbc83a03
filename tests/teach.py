"""Teach a tiny preset a dozen sentences about generated scenes, in seconds.

A random model has flat logits: an error of 3 % in a logit, which 8 bits cost it, turns over one answer in ten, and a
test of token agreement would measure chance. A model that has learnt something is sure of its words, as a real one is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmrt.calibration.images import open_images
from gmrt.export.gate import QUESTIONS
from gmrt.georsmllm.packing import value_answer
from gmrt.georsmllm.presets import build
from gmrt.georsmllm.processor import GeoRSMLLMProcessor
from gmrt.georsmllm.tasks.wordings import MEASURE

ANSWERS = {
    "tankfarm": ("there are four white storage tanks beside a road", "storage tanks"),
    "river": ("this is a river with trees on both banks", "river"),
    "parkinglot": ("many cars are parked neatly in the parking lot", "parking lot"),
    "sports": ("there is a tennis court surrounded by trees", "tennis court"),
    "marina": ("lots of boats docked in lines at the harbor", "harbor"),
}
MEASURED = "-measured"
"""A preset's name that ends so is taught to measure too."""
MEASURES: tuple[dict[str, Any], ...] = (
    {"name": "built-up fraction", "unit": "", "mean": 0.4, "std": 0.3},
    {"name": "mean height", "unit": "m", "mean": 5.0, "std": 4.0},
)
VALUES = {
    "tankfarm": (0.7, 12.0),
    "river": (0.05, 1.0),
    "parkinglot": (0.9, 2.0),
    "sports": (0.3, 4.0),
    "marina": (0.5, 7.0),
}
STEPS, BATCH, RATE = 120, 16, 3e-3


def teach(preset: str, pictures: Path, folder: Path) -> None:
    """Train a preset on the gate's questions about ``pictures``, named by what they show; save it as a checkpoint."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the batches are too small to share
    measures = MEASURES if preset.endswith(MEASURED) else ()
    model, processor = build(preset.removesuffix(MEASURED), measures=measures)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.05 / parameter.std().clamp(min=0.05))
    spec = model.config.image_spec
    pixels = torch.from_numpy(np.stack(list(open_images(pictures, spec).pixels(spec))))
    columns = _examples(processor, [file.name.split("-")[0] for file in sorted(pictures.iterdir())], bool(measures))
    if not measures:
        del columns["values"], columns["outputs"]
    picture = columns.pop("picture")
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS, pct_start=0.15)
    draw = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(STEPS):
        batch = torch.randint(len(picture), (BATCH,), generator=draw)
        inputs = {name: column[batch] for name, column in columns.items()}
        loss = model(pixel_values=pixels[picture[batch]], **inputs).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    torch.set_num_threads(threads)


def _examples(processor: GeoRSMLLMProcessor, kinds: list[str], measured: bool) -> dict[str, torch.Tensor]:
    """Right-padded input_ids, labels, values, outputs [N, S] of a model, and which picture each row asks about [N]."""
    rows: list[tuple[int, str, str, int]] = []
    for picture, kind in enumerate(kinds):
        sentence, name = ANSWERS[kind]
        answers = zip(QUESTIONS, (sentence, name, sentence, "no"), strict=True)
        rows += [(picture, question, answer, -1) for question, answer in answers]
        if measured:
            names = [str(measure["name"]) for measure in MEASURES]
            rows += [(picture, MEASURE[0].format(measure=n), value_answer(n), i) for i, n in enumerate(names)]
    coded = [(processor.encode(question).ids.tolist(), processor.answer_ids(answer)) for _, question, answer, _ in rows]
    shape = len(rows), max(len(prompt) + len(answer) for prompt, answer in coded)
    ids, labels, outputs = torch.zeros(shape, dtype=torch.long), torch.full(shape, -100), torch.full(shape, -1)
    values = torch.full(shape, torch.nan)
    for row, ((prompt, answer), (picture, _, _, output)) in enumerate(zip(coded, rows, strict=True)):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        if output >= 0:
            scale = MEASURES[output]
            values[row, len(prompt) - 1] = (VALUES[kinds[picture]][output] - scale["mean"]) / scale["std"]
            outputs[row, len(prompt) - 1] = output
    pictures = torch.tensor([picture for picture, _, _, _ in rows])
    return {"input_ids": ids, "labels": labels, "values": values, "outputs": outputs, "picture": pictures}
