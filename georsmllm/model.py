"""GeoRSMLLM: a vision tower, a connector and a language model, as a Hugging Face class (arXiv 2503.12490)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel, SiglipVisionModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from gmrt.georsmllm.config import EfficientNetLiteConfig, GeoRSMLLMConfig
from gmrt.georsmllm.coordinates import neighbours, token_losses
from gmrt.georsmllm.lite import EfficientNetLite
from gmrt.georsmllm.locator import Locator, locator_loss
from gmrt.runtime.locator import FINE

VALUE_WEIGHT = 1.0
"""Weight of the scalars' loss beside that of the words; both are about 1 for a model that knows nothing."""


LOCATOR_WEIGHT = 0.2
"""Weight of the locator's loss: at 1 its gradient in the decoder is 4 to 25 times that of the words, which then are not
learnt (docs/training-log.md)."""


class Connector(nn.Module):
    """Pixel shuffle, then a two-layer MLP: patch features [B, grid², C] → tokens [B, (grid/shuffle)², D].

    Pixel shuffle folds ``shuffle`` × ``shuffle`` neighbouring patches into channels (as in Idefics3), which keeps all
    of the features and shortens the prompt.
    """

    def __init__(self, config: GeoRSMLLMConfig) -> None:
        super().__init__()
        vision: Any = config.vision_config
        text: Any = config.text_config
        width = int(text.hidden_size)
        self.grid, self.shuffle = config.grid, config.shuffle
        self.norm = nn.LayerNorm(vision.hidden_size * config.shuffle**2)
        self.fc1 = nn.Linear(vision.hidden_size * config.shuffle**2, width)
        self.fc2 = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.connector_dropout)
        # As in a ViT, where a token lies is added to what it holds; both of a size, or the place is not seen beside
        # features that grow a hundred times as long (docs/decisions.md).
        self.scale = nn.LayerNorm(width) if config.positions else None
        self.positions = nn.Parameter(0.5 * torch.randn(config.image_tokens, width)) if config.positions else None

    def forward(self, features: Tensor) -> Tensor:
        """Return one embedding per group of patches, in row-major order."""
        if self.shuffle > 1:
            g, s, channels = self.grid, self.shuffle, features.shape[-1]
            folded = features.reshape(-1, g // s, s, g // s, s, channels).permute(0, 1, 3, 2, 4, 5)
            features = folded.reshape(-1, (g // s) ** 2, s * s * channels)
        out: Tensor = self.fc2(self.dropout(nn.functional.gelu(self.fc1(self.norm(features)), approximate="tanh")))
        return out if self.positions is None or self.scale is None else self.scale(out) + self.positions


class SiglipTower(nn.Module):
    """Transformers' SigLIP encoder without its pooling head: [B, 3, H, W] → [B, patches, C]."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        config.vision_use_head = False
        self.siglip = SiglipVisionModel(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the last hidden state, after the final norm."""
        out: Tensor = self.siglip(pixel_values=pixels).last_hidden_state
        return out


class GeoRSMLLMForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Images and words in, words (and points, as words) out."""

    config_class = GeoRSMLLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean over the batch at hand: the Trainer must not count items for it
    _supports_sdpa = True

    def __init__(self, config: GeoRSMLLMConfig) -> None:
        super().__init__(config)
        vision: Any = config.vision_config
        text: Any = config.text_config
        lite = isinstance(vision, EfficientNetLiteConfig)
        self.tower: nn.Module = EfficientNetLite(vision.neck, vision.places) if lite else SiglipTower(vision)
        self.connector = Connector(config)
        self.decoder = AutoModelForCausalLM.from_config(text)
        self.regression = nn.Linear(text.hidden_size, len(config.measures)) if config.measures else None
        self.locator = Locator(int(text.hidden_size), config.places, config.grid * FINE) if config.places else None
        self._tied_weights_keys = {
            f"decoder.{k}": f"decoder.{v}" for k, v in (self.decoder._tied_weights_keys or {}).items()
        }
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what is ours; the composed models have initialised themselves."""
        std = float(getattr(self.config.text_config, "initializer_range", 0.02))
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)

    def get_input_embeddings(self) -> nn.Module:
        """Return the token table."""
        table: nn.Module = self.decoder.get_input_embeddings()
        return table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token table."""
        self.decoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the head."""
        head: nn.Module = self.decoder.get_output_embeddings()
        return head

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Map normalised images [B, 3, H, W] to embeddings [B, T, D]."""
        return self.see(pixel_values)[0]

    def see(self, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map normalised images [B, 3, H, W] to embeddings [B, T, D] and, for the locator, places [B, P, G, G]."""
        return self.read(self.tower(pixel_values))

    def read(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map the tower's features [B, grid², C] to embeddings and places, as `see` has them."""
        if not self.config.places:
            return self.connector(features), None
        cells, places = features.tensor_split([features.shape[2] - self.config.places * FINE**2], dim=2)
        square = places.transpose(1, 2).reshape(len(places), -1, self.config.grid, self.config.grid)
        return self.connector(cells), nn.functional.pixel_shuffle(square, FINE)

    def embed(self, input_ids: Tensor, image_embeds: Tensor | None) -> Tensor:
        """Look up tokens [B, S] and put images [N, T, D], in order, where their placeholders stand → [B, S, D].

        Raises ValueError when placeholders and image embeddings do not count the same.
        """
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        if image_embeds is None:
            return embeds
        places = input_ids == self.config.image_token_id
        rows = image_embeds.reshape(-1, image_embeds.shape[-1]).to(embeds.dtype)
        if int(places.sum()) != rows.shape[0]:
            raise ValueError(f"{int(places.sum())} image placeholders for {rows.shape[0]} image embeddings")
        return embeds.masked_scatter(places[..., None], rows)

    def forward(  # noqa: PLR0913, PLR0917  # as Hugging Face's models take their inputs
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        image_embeds: Tensor | None = None,
        image_places: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        values: Tensor | None = None,
        outputs: Tensor | None = None,
        spread: Tensor | None = None,
        numbers: Tensor | None = None,
        asked: Tensor | None = None,
        images: Tensor | None = None,
        wanted: Tensor | None = None,
        places: Tensor | None = None,
        shapes: Tensor | None = None,
        known: Tensor | None = None,
        single: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Run the whole model; ``labels`` [B, S] (−100 ignored) adds the shifted cross-entropy.

        Images come as ``pixel_values`` [N, 3, H, W], as a frozen tower's ``image_features`` [N, P, C], or as ready
        ``image_embeds`` [N, T, D], with a locator ``image_places`` [N, P, G, G] too. ``attention_mask`` is [B, S], or
        the additive mask [B, 1, S, S] of packed questions.
        With ``labels``, ``logits`` are those of the labelled positions only [n, V], in order: the head is not run where
        nothing is to be learnt. ``values`` and ``outputs`` [B, S], as `packing.Row` has them, add the smooth L1 loss of
        the regression head where ``outputs`` is not −1. ``spread`` [B, S] marks labels that are coordinates, taught as
        `coordinates.token_losses` says with the tokens ``numbers`` [1000]. ``asked`` [L, 2] (row, position) and
        ``images`` [B] with the targets of `locator.locator_targets` add the locator's loss. Raises ValueError for
        values without a head.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give input_ids or inputs_embeds")
            if pixel_values is not None:
                image_embeds, image_places = self.see(pixel_values)
            elif image_features is not None:
                image_embeds, image_places = self.read(image_features)
            inputs_embeds = self.embed(input_ids, image_embeds)
        masks = {"attention_mask": attention_mask, "position_ids": position_ids}
        if labels is None:
            out: CausalLMOutputWithPast = self.decoder(inputs_embeds=inputs_embeds, **masks, **kwargs)
            return out
        hidden = self.decoder.model(inputs_embeds=inputs_embeds, **masks, use_cache=False).last_hidden_state
        told = labels[:, 1:] != -100
        logits = self.decoder.lm_head(hidden[:, :-1][told])
        if spread is None or numbers is None:
            loss = nn.functional.cross_entropy(logits, labels[:, 1:][told])
        else:
            loss = token_losses(logits, labels[:, 1:][told], spread[:, 1:][told], numbers, self.neighbours).mean()
        if self.locator is not None:
            targets = {"wanted": wanted, "places": places, "shapes": shapes, "known": known, "single": single}
            loss = loss + LOCATOR_WEIGHT * self._locator_loss(hidden, image_places, asked, images, targets)
        if self.regression is not None:
            loss = loss + VALUE_WEIGHT * self._value_loss(hidden, values, outputs)
        elif values is not None:
            raise ValueError("the batch holds scalars and the model has no regression head: configure its measures")
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    @cached_property
    def neighbours(self) -> Tensor:
        """Targets of coordinates, see `coordinates.neighbours`."""
        return neighbours().to(self.device)

    def measured(self, hidden: Tensor) -> Tensor:
        """Every scalar in its unit, [..., K], from last hidden states [..., D]; raises ValueError without a head."""
        if self.regression is None:
            raise ValueError("the model has no regression head: its configuration names no measures")
        scales = [(measure["std"], measure["mean"]) for measure in self.config.measures]
        std, mean = torch.tensor(scales, dtype=hidden.dtype, device=hidden.device).T
        out: Tensor = self.regression(hidden) * std + mean
        return out

    def _locator_loss(
        self,
        hidden: Tensor,
        places: Tensor | None,
        asked: Tensor | None,
        images: Tensor | None,
        targets: dict[str, Tensor | None],
    ) -> Tensor:
        """Loss of the locator; 0 without a question for it, and still a function of all of it, which DDP asks for."""
        assert self.locator is not None
        if asked is None or images is None or places is None:
            zero: Tensor = torch.stack([weight.sum() * 0.0 for weight in self.locator.parameters()]).sum()
            return zero
        ends = images.cumsum(0)
        last = places[ends - 1]
        first = last if bool((images == 1).all()) else places[ends - images]
        maps, found, one = self.locator(hidden[asked[:, 0], asked[:, 1]], first, last, asked[:, 0])
        unused: Tensor = self.locator.changes.weight.sum() * 0.0
        return locator_loss(maps, found, one, targets) + unused

    @torch.inference_mode()
    def locate(self, hidden: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps [1, G, G], geometry [1, 8, G, G] and one or many [1] for a hidden state [D], places [n, P, G, G]."""
        if self.locator is None:
            raise ValueError("the model has no locator")
        first, last = places[:1], places[-1:]
        same = len(places) == 1
        maps: tuple[Tensor, Tensor, Tensor] = self.locator(
            hidden[None], last if same else first, last, torch.zeros(1, dtype=torch.long)
        )
        return maps

    def _value_loss(self, hidden: Tensor, values: Tensor | None, outputs: Tensor | None) -> Tensor:
        """Smooth L1 on the scalars of a batch; 0 without any, and still a function of the head, which DDP asks for."""
        assert self.regression is not None
        if values is None or outputs is None:
            zero: Tensor = self.regression(hidden[:, 0]).sum() * 0.0
            return zero
        places = outputs >= 0
        guesses = self.regression(hidden[places]).gather(1, outputs[places][:, None])[:, 0]
        total = nn.functional.smooth_l1_loss(guesses.float(), values[places], reduction="sum")
        return total / places.sum().clamp(min=1)

    def prepare_inputs_for_generation(self, input_ids: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Pass the images on the first step only: afterwards they are in the cache."""
        images = {k: kwargs.pop(k, None) for k in ("pixel_values", "image_embeds")}
        first = kwargs.pop("is_first_iteration", False)
        own = super().prepare_inputs_for_generation  # type: ignore[misc]
        inputs: dict[str, Any] = own(input_ids, is_first_iteration=first, **kwargs)
        if first or not kwargs.get("use_cache", True):
            inputs.update({k: v for k, v in images.items() if v is not None})
        return inputs


AutoConfig.register("efficientnet_lite", EfficientNetLiteConfig)
AutoConfig.register("georsmllm", GeoRSMLLMConfig)
AutoModelForCausalLM.register(GeoRSMLLMConfig, GeoRSMLLMForConditionalGeneration)


@torch.inference_mode()
def greedy(
    model: GeoRSMLLMForConditionalGeneration, inputs_embeds: Tensor, eos: tuple[int, ...], max_tokens: int
) -> list[int]:
    """Greedy continuation of one prompt's embeddings [1, S, D], the reference for every export; EOS not included."""
    out = model.decoder(inputs_embeds=inputs_embeds, use_cache=True, logits_to_keep=1)
    ids: list[int] = []
    while len(ids) < max_tokens:
        token = int(out.logits[0, -1].argmax())
        if token in eos:
            break
        ids.append(token)
        step = model.get_input_embeddings()(torch.tensor([[token]]))
        out = model.decoder(inputs_embeds=step, past_key_values=out.past_key_values, use_cache=True)
    return ids
