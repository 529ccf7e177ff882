"""Recipes: settings of fine-tuning by what it is for, each a YAML file here that says why.

A recipe stands below everything else that is set: recipe < file < environment < flags.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """What a kind of fine-tuning needs.

    Attributes:
        name: What it is called, as in ``TrainConfig(recipe=name)``.
        summary: What a model has learnt afterwards.
        data: What it wants to be trained on.
        probe: How success is seen.
        settings: Fields of `TrainConfig`, for where nothing else is given.

    """

    name: str
    summary: str
    data: str
    probe: str
    settings: Mapping[str, Any]


def recipe_names() -> list[str]:
    """List the names that there are.

    >>> recipe_names()
    ['knowledge', 'qa', 'speciality', 'voice']
    """
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def recipe(name: str) -> Recipe:
    """Read a recipe; ConfigError with the nearest name if there is none such.

    >>> recipe("knowledge").settings["probe_match"]
    'exact'
    >>> recipe("knowlege")
    Traceback (most recent call last):
    subgpt.errors.ConfigError: there is no recipe 'knowlege'; did you mean 'knowledge'?
    """
    names = recipe_names()
    if name not in names:
        raise ConfigError(f"there is no recipe {name!r}; {did_you_mean(name, names)}")
    import yaml

    values = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return Recipe(name=name, **values)
