"""Teach a tiny preset a dozen sentences about generated scenes, in seconds.

A random model has flat logits: an error of 3 % in a logit, which 8 bits cost it, turns over one answer in ten, and a
test of token agreement would measure chance. A model that has learnt something is sure of its words, as a real one is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gmrt.calibration.images import open_images
from gmrt.export.gate import QUESTIONS
from gmrt.georsmllm.presets import build

ANSWERS = {
    "storagetanks": ("there are four white storage tanks beside a road", "storage tanks"),
    "beach": ("this is a beach with waves and sand", "beach"),
    "parkinglot": ("many cars are parked neatly in the parking lot", "parking lot"),
    "tenniscourt": ("there is a tennis court surrounded by trees", "tennis court"),
    "harbor": ("lots of boats docked in lines at the harbor", "harbor"),
}
STEPS, BATCH, RATE = 120, 16, 3e-3


def teach(preset: str, pictures: Path, folder: Path) -> None:
    """Train a preset on the gate's questions about ``pictures``, named by what they show; save it as a checkpoint."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the batches are too small to share
    model, processor = build(preset)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.05 / parameter.std().clamp(min=0.05))
    spec = model.config.image_spec
    pixels = torch.from_numpy(np.stack(list(open_images(pictures, spec).pixels(spec))))
    ids, labels, picture = _examples(processor, [file.name.split("-")[0] for file in sorted(pictures.iterdir())])
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS, pct_start=0.15)
    draw = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(STEPS):
        batch = torch.randint(len(ids), (BATCH,), generator=draw)
        loss = model(input_ids=ids[batch], pixel_values=pixels[picture[batch]], labels=labels[batch]).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    torch.set_num_threads(threads)


def _examples(processor: object, kinds: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels [N, S] (-100: not learnt), and which picture each row asks about [N]."""
    rows = []
    for picture, kind in enumerate(kinds):
        sentence, name = ANSWERS[kind]
        for question, answer in zip(QUESTIONS, (sentence, name, sentence, "no"), strict=True):
            rows.append((picture, processor.encode(question).ids.tolist(), processor.answer_ids(answer)))
    width = max(len(prompt) + len(answer) for _, prompt, answer in rows)
    ids, labels = torch.zeros(len(rows), width, dtype=torch.long), torch.full((len(rows), width), -100)
    for row, (_, prompt, answer) in enumerate(rows):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    return ids, labels, torch.tensor([picture for picture, _, _ in rows])
