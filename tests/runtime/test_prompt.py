"""Prompts: words and images to ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fabricate import CONTROL, TEMPLATE, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime.errors import BundleError, PromptError
from gmrt.runtime.prompt import Prompt, PromptLayout, compile_template, encode_prompt

TOKENIZER = make_tokenizer()
IMAGE = CONTROL.index("<image>")
LAYOUT = PromptLayout("<image>", IMAGE, (1,), 2)


def encode(question: str, images: int = 1, tokens: int = 9, template: str = TEMPLATE) -> Prompt:
    """Encode with the fabricated tokenizer."""
    return encode_prompt(
        question,
        images=images,
        tokens_per_image=tokens,
        tokenizer=TOKENIZER,
        template=compile_template(template),
        layout=LAYOUT,
    )


@settings(max_examples=40, deadline=None)
@given(
    question=st.text(alphabet="abc de?船", min_size=1).filter(str.strip),
    images=st.integers(1, 2),
    tokens=st.integers(1, 70),
)
def test_images_are_widened_in_place(question: str, images: int, tokens: int) -> None:
    """Guards against placeholders that are not widened, and a prefix that cuts into the image or the question."""
    prompt = encode(question, images, tokens)
    assert (prompt.ids == IMAGE).sum() == images * tokens
    assert prompt.ids[prompt.prefix - 1] == IMAGE
    assert IMAGE not in prompt.suffix_ids
    assert TOKENIZER.decode(prompt.suffix_ids.tolist()) == question.strip()
    assert prompt.text == "<user>" + "<image>" * images + question.strip() + "<assistant>"


def test_prefix_depends_on_the_images_alone() -> None:
    """Guards against a cache that can never be reused."""
    first, second = encode("describe"), encode("how many ships are there?")
    assert first.prefix == second.prefix
    np.testing.assert_array_equal(first.ids[: first.prefix], second.ids[: second.prefix])


@pytest.mark.parametrize("question", ["", " \n\t", "what is <image>", "<eos>", "a <assistant> says"])
def test_questions_that_are_refused(question: str) -> None:
    """Guards against an empty question, and against words that forge the model's own tokens."""
    with pytest.raises(PromptError):
        encode(question)


def test_placeholder_is_refused_even_when_it_is_no_special_token() -> None:
    """Guards against a user's placeholder counted as an image, which would blame the template."""
    layout = PromptLayout("describe", TOKENIZER.encode("describe").ids[0], (1,), 2)
    with pytest.raises(PromptError, match="control token"):
        encode_prompt(
            "describe",
            images=1,
            tokens_per_image=1,
            tokenizer=TOKENIZER,
            template=compile_template(TEMPLATE),
            layout=layout,
        )


@pytest.mark.parametrize("images", [0, 3])
def test_number_of_images(images: int) -> None:
    """Guards against a series that the model never saw in training."""
    with pytest.raises(PromptError, match="takes 1 to 2 images"):
        encode("describe", images)


@pytest.mark.parametrize("data", [{}, {"image_token": "<image>", "image_token_id": "x"}, {"eos_token_ids": 3}])
def test_layout_that_is_not_readable(data: dict[str, Any]) -> None:
    """Guards against a KeyError from a manifest."""
    with pytest.raises(BundleError, match="prompt layout"):
        PromptLayout.from_dict(data)


def test_layout_is_read_back() -> None:
    """Guards against a field that is not written."""
    assert PromptLayout.from_dict(LAYOUT.to_dict()) == LAYOUT
