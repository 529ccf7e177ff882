"""The options of sampling as controls: one table says what there is, one panel shows it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nicegui import ui

from subgpt.errors import InvalidValueError
from subgpt.generation.config import GenerationConfig
from subgpt.playground.limits import MAX_FORM, MAX_STOPS, MAX_TOKENS, cut
from subgpt.playground.parts import Slider, text


class Option(NamedTuple):
    """One control. `name` is GenerationConfig's, `start` what it shows at first; a range makes it a slider."""

    name: str
    label: str
    start: float | None
    least: float = 0.0
    most: float = 0.0
    step: float = 0.0

    @property
    def about(self) -> str:
        """What it does, as GenerationConfig says."""
        return GenerationConfig.model_fields[self.name].description or ""


DRAW = (
    Option("temperature", "Temperature", 0.8, 0.0, 2.0, 0.05),
    Option("top_p", "Top-p", 0.95, 0.01, 1.0, 0.01),
    Option("min_p", "Min-p", 0.0, 0.0, 1.0, 0.01),
    Option("top_k", "Top-k", 0),
)
"""The rules that most people turn."""
LENGTH = (Option("max_new_tokens", "New tokens", 120), Option("seed", "Seed", None))
MORE = (
    Option("typical_p", "Typical-p", 1.0, 0.01, 1.0, 0.01),
    Option("repetition_penalty", "Repetition penalty", 1.0, 0.8, 2.0, 0.05),
    Option("frequency_penalty", "Frequency penalty", 0.0, -2.0, 2.0, 0.1),
    Option("presence_penalty", "Presence penalty", 0.0, -2.0, 2.0, 0.1),
    Option("no_repeat_ngram_size", "No repeated n-gram of", 0),
)
TEXTS = {
    "stop": ("Stop texts, one a line", "\\n\\n"),
    "regex": ("Regular expression", "[A-Z][a-z]+\\."),
    "json_schema": ("JSON schema", '{"type": "object", …}'),
}
"""Options that are texts: label and an example."""


def options_of(values: Mapping[str, Any], max_tokens: int = MAX_TOKENS) -> dict[str, Any]:
    r"""Make options of `GenerationConfig` of what controls hold: empty ones are left out, whole numbers are integers.

    max_tokens: new tokens that a text may have; InvalidValueError for more, fewer where nobody says how many.

    A line of `stop` is a text, in which \n and \t stand for what they mean.

    >>> options_of({"top_k": 40.0, "temperature": 0.5, "seed": None, "stop": "END\n\\n\\n\n", "regex": " "})
    {'top_k': 40, 'temperature': 0.5, 'stop': ['END', '\n\n']}
    """
    options: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, str):
            value = cut(value, MAX_FORM)
            if not value.strip():
                continue
            if name == "stop":
                lines = [line for line in value.split("\n") if line]
                if len(lines) > MAX_STOPS:
                    raise InvalidValueError(f"stop: there are {len(lines)} lines; give {MAX_STOPS} at most")
                value = [line.replace("\\n", "\n").replace("\\t", "\t") for line in lines]
        elif isinstance(value, float) and value.is_integer():
            value = int(value)  # a browser knows no integers
        if value is not None:
            options[name] = value
    usual = GenerationConfig.model_fields["max_new_tokens"].default
    asked = options.get("max_new_tokens", usual if "max_new_tokens" in values else 0)
    if "max_new_tokens" not in options and asked > max_tokens:
        options["max_new_tokens"] = max_tokens
    elif isinstance(asked, int) and asked > max_tokens:
        raise InvalidValueError(
            f"max_new_tokens = {asked}: the page writes {max_tokens:,} at most; ask for fewer, or go on with what came"
        )
    return options


class OptionPanel:
    """Controls for options; `values` has what they hold."""

    def __init__(self, max_tokens: int, on_change: Callable[[], None] | None = None) -> None:
        self.values: dict[str, Any] = {}
        self._max_tokens = max_tokens
        self._changed = on_change or (lambda: None)
        self._resets: list[Callable[[], object]] = []

    def add(self, *options: Option) -> None:
        """Put controls here: a slider for each option that has a range, else a field for a number."""
        for option in options:
            if option.name == "max_new_tokens" and option.start is not None:
                option = option._replace(start=min(option.start, self._max_tokens))
            self.values[option.name] = option.start
            with ui.element("div").classes("option"):
                text(option.label, "span").classes("option-name").props["title"] = option.about
                made = self._slider(option) if option.step else self._field(option)
            made.props["aria-label"] = option.label

    def add_texts(self, *names: str) -> None:
        """Put fields for options that are texts here."""
        for name in names:
            label, example = TEXTS[name]
            field = ui.textarea(label, placeholder=example).classes("area mono")
            field.props(f"outlined dense autogrow rows=1 maxlength={MAX_FORM} spellcheck=false stack-label")
            field.on_value_change(lambda event, name=name: self._take(name, event.value))
            self.values[name] = ""

    def options(self) -> dict[str, Any]:
        """Give what the controls hold as options of `GenerationConfig`."""
        return options_of(self.values, self._max_tokens)

    def reset(self) -> None:
        """Put all numbers back to what they were at first."""
        for reset in self._resets:
            reset()

    def _take(self, name: str, value: Any) -> None:
        self.values[name] = value
        self._changed()

    def _slider(self, option: Option) -> ui.element:
        start = option.start or 0.0
        shown = ui.label(f"{start:g}").classes("option-value").props("aria-hidden=true")

        def take(value: float) -> None:
            shown.text = f"{value:g}"
            self._take(option.name, value)

        slider = Slider(option.least, option.most, option.step, start, take)
        self._resets.append(lambda: slider.set_value(start))
        return slider.element

    def _field(self, option: Option) -> ui.element:
        field = ui.number(value=option.start, min=0, step=1, placeholder="any")
        field.on_value_change(lambda event: self._take(option.name, event.value))
        self._resets.append(lambda: field.set_value(option.start))
        return field.classes("number").props("borderless dense hide-bottom-space")
