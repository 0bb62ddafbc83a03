"""Prompt layout: words and images to token ids. Shared by training and the field.

A chat template (jinja2, rendered in a sandbox because a bundle is untrusted input) turns messages into text in which
every image is one placeholder. The text is tokenised once, each placeholder is widened to the number of embeddings
that one image has, and the position behind the last image is remembered: everything before it depends on the images
alone and can stay in the KV cache while the question changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.sandbox
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from gmrt.runtime.errors import BundleError, PromptError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PromptLayout:
    """What the manifest says about prompts.

    ``image_token`` is the placeholder's text and ``image_token_id`` its id; ``eos_token_ids`` end an answer;
    ``max_images`` is how many images the model was trained on in one prompt.
    """

    image_token: str
    image_token_id: int
    eos_token_ids: tuple[int, ...]
    max_images: int

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PromptLayout:
        """Read the manifest's ``prompt`` object; raise `BundleError` when a field is missing."""
        try:
            return cls(
                image_token=str(data["image_token"]),
                image_token_id=int(data["image_token_id"]),
                eos_token_ids=tuple(int(i) for i in data["eos_token_ids"]),
                max_images=int(data["max_images"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"bundle.json: the prompt layout is not readable ({error!r})") from None

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's ``prompt`` object."""
        return {
            "image_token": self.image_token,
            "image_token_id": self.image_token_id,
            "eos_token_ids": list(self.eos_token_ids),
            "max_images": self.max_images,
        }


@dataclass(frozen=True)
class Prompt:
    """One question, ready for the model.

    ``ids`` int64 [S] with each image widened to its embeddings; ``prefix`` is the length up to the last image's end;
    ``text`` is what was tokenised: an answer's own tokens are those that follow when it is tokenised behind this.
    """

    ids: IntArray
    prefix: int
    text: str

    @property
    def suffix_ids(self) -> IntArray:
        """The ids behind the last image: the question and the answer's opening."""
        return self.ids[self.prefix :]


def compile_template(source: str) -> jinja2.Template:
    """Compile a chat template in jinja2's immutable sandbox; raise `BundleError` when it is not valid jinja."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise BundleError(f"chat_template.jinja: not a valid template ({error})") from None


def messages_for(question: str, images: int) -> list[dict[str, Any]]:
    """One user turn: the images in order, then the question, in the chat format of Hugging Face processors."""
    content: list[dict[str, Any]] = [{"type": "image"} for _ in range(images)]
    content.append({"type": "text", "text": question})
    return [{"role": "user", "content": content}]


def encode_prompt(
    question: str,
    *,
    images: int,
    tokens_per_image: int,
    tokenizer: Tokenizer,
    template: jinja2.Template,
    layout: PromptLayout,
) -> Prompt:
    """Render and tokenise one question about ``images`` images, up to where the answer begins.

    Raises `PromptError` for an empty question, one that contains a control token of the model, or more images than the
    model was trained on; `BundleError` when the template does not place each image exactly once, or ends with one.
    """
    text = question.strip()
    if not text:
        raise PromptError('the prompt is empty: ask something, for example "describe"')
    if not 1 <= images <= layout.max_images:
        raise PromptError(f"this model takes 1 to {layout.max_images} images in one prompt, got {images}")
    refuse_control_tokens(text, tokenizer, layout)
    try:
        rendered = template.render(messages=messages_for(text, images), add_generation_prompt=True)
    except Exception as error:  # noqa: BLE001 - a template is a foreign program and can raise anything
        raise BundleError(f"chat_template.jinja: rendering failed ({error!r})") from None
    ids = np.asarray(tokenizer.encode(rendered, add_special_tokens=False).ids, dtype=np.int64)
    places = np.flatnonzero(ids == layout.image_token_id)
    if len(places) != images:
        raise BundleError(f"chat_template.jinja: placed {len(places)} images where {images} were given")
    if places[-1] == len(ids) - 1:
        raise BundleError("chat_template.jinja: leaves nothing behind the image for the answer to begin from")
    repeats = np.where(ids == layout.image_token_id, tokens_per_image, 1)
    prefix = int(repeats[: places[-1] + 1].sum())
    return Prompt(ids=np.repeat(ids, repeats), prefix=prefix, text=rendered)


def refuse_control_tokens(text: str, tokenizer: Tokenizer, layout: PromptLayout) -> None:
    """Raise `PromptError` when a user's words contain one of the model's own control tokens."""
    control = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    for token in sorted(control | {layout.image_token}):
        if token in text:
            raise PromptError(f"the prompt contains {token!r}, a control token of this model: leave it out")
