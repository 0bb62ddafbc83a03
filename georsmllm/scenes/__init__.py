"""Generated scenes: georeferenced pictures with exact labels, from seeds."""

from gmrt.georsmllm.scenes.compose import compose
from gmrt.georsmllm.scenes.layouts import KINDS
from gmrt.georsmllm.scenes.pairs import Change, ScenePair, generate_pair
from gmrt.georsmllm.scenes.scene import GeneratedScene, generate, write_scene
from gmrt.georsmllm.scenes.styles import STYLES_TEST, STYLES_TRAIN, Style

__all__ = [
    "KINDS",
    "STYLES_TEST",
    "STYLES_TRAIN",
    "Change",
    "GeneratedScene",
    "ScenePair",
    "Style",
    "compose",
    "generate",
    "generate_pair",
    "write_scene",
]
