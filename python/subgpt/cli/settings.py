"""Settings from a file, the environment and flags: file < SUBGPT_* < flags, every name checked.

The flags are made from the settings' own classes, so that a field of `TrainConfig` is a flag without being
written down twice. `with_settings` puts them into a command's signature in place of its `**settings`.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

import typer

from subgpt.cli.choices import completing
from subgpt.cli.origins import flag_of, in_variable, misspelt, note_file, note_flags
from subgpt.errors import ConfigError, MissingFileError
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
_FILE_LIMIT = 1 << 20
_OF_A_RUN = ("train", "model", "inputs", "verb", "subgpt_version")
_VARIABLES = ("SUBGPT_NUM_THREADS", "SUBGPT_ISA")  # which the native module reads


@dataclass(frozen=True)
class Setting:
    """One setting as a flag: its name, its type, what it means, its default (None: not shown), its panel.

    values: what it may be, where that is a few words; shells complete them. One that is true by default, or `can_be_on`
    by a preset, can be switched off as well: --bias, --no-bias.
    """

    name: str
    kind: type
    help: str
    default: Any
    panel: str
    can_be_on: bool = False
    values: tuple[str, ...] = ()

    @property
    def parameter(self) -> inspect.Parameter:
        """The flag as a parameter of a command; None where it was not given."""
        flag = flag_of(self.name)
        option = typer.Option(
            f"{flag}/--no-{flag[2:]}" if self.default is True or self.can_be_on else flag,
            help=self.help + default_note(self.default),
            show_default=False,
            rich_help_panel=self.panel,
            **in_variable(self.name),
            autocompletion=completing(self.values) if self.values else None,
        )
        annotation = cast(Any, Annotated)[self.kind | None, option]  # made at run time, so not a type to mypy
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
        )


def default_note(value: Any) -> str:
    """Write a default as help texts show it; nothing for an absent, empty or false one."""
    return "" if value in (None, "", ()) or value is False else f" [dim]\\[default: {value}][/dim]"


def settings_of(
    owner: "type[Settings]",
    panel: str,
    *,
    only: Iterable[str] | None = None,
    leave_out: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> list[Setting]:
    """List the fields of a settings class as flags, in order; `defaults` win over the class's own.

    only: which fields, all if None; of these, those of `leave_out` are none.
    """
    listed = []
    chosen = list(owner.model_fields if only is None else only)
    for name, field in owner.model_fields.items():
        if name in chosen and name not in leave_out:
            default = (defaults or {}).get(name, field.default)
            words = field.description or name.replace("_", " ")
            values = _values(field.annotation)
            listed.append(Setting(name, _kind(field.annotation), words, default, panel, values=values))
    return listed


def with_settings(settings: Iterable[Setting]) -> Callable[[F], F]:
    """Give a command one flag for each setting, in place of the `**settings` in its signature."""
    flags = list(settings)

    def extend(command: F) -> F:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

        @functools.wraps(command)
        def run(ctx: typer.Context, **values: Any) -> Any:
            from subgpt.cli.terminal import warn

            named = [param for param in ctx.command.params if isinstance(param.envvar, str)]
            note_flags(ctx, [str(param.name) for param in named], values)
            for wrong, right in misspelt([*(str(param.envvar) for param in named), *_VARIABLES]):
                warn(f"{wrong} is set, and means nothing; did you mean {right}?")
            return command(**values)

        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *(setting.parameter for setting in flags), context]
        )
        return cast("F", run)

    return extend


def resolve(
    file: Path | None,
    flags: Mapping[str, Any],
    known: Iterable[str],
    owner: "type[Settings]",
    sections: Sequence[str],
) -> dict[str, Any]:
    """Put flags over the file's values; what was not given stays out, a name that is unknown is refused.

    `owner` knows the names that other projects have for its settings.
    """
    values = {} if file is None else read_settings(file, sections)
    names = list(known)
    resolved = {}
    for name, value in values.items():
        target, value = owner.translated(name, value)
        if target not in names:
            raise ConfigError(
                f"{file}: there is no setting {name!r}; {did_you_mean(name, [*names, *owner.ALIASES])}"
            )
        resolved[target] = value
    note_file(file, resolved)
    return resolved | {name: value for name, value in flags.items() if value is not None}


def read_settings(file: Path, sections: Sequence[str]) -> dict[str, Any]:
    """Read a YAML (or JSON) file of settings, one name and value a line.

    A run's own `training/config.yaml` is such a file too: of its sections those in `sections` are laid flat.
    """
    values = _mapping(_parse(file), file)
    flat = {name: value for name, value in values.items() if name not in _OF_A_RUN}
    for section in sections:
        flat |= {k: v for k, v in _mapping(values.get(section), file).items() if v is not None}
    return flat


def _parse(file: Path) -> Any:
    import yaml

    try:
        if file.stat().st_size > _FILE_LIMIT:
            raise ConfigError(f"{file}: larger than 1 MiB; that is no file of settings")
        return yaml.load(file.read_text(encoding="utf-8"), _loader())
    except FileNotFoundError:
        raise MissingFileError(f"{file}: no such file; --config takes a YAML file of settings") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: is a directory; --config takes a YAML file of settings") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f":{mark.line + 1}"
        raise ConfigError(
            f"{file}{place}: not YAML: {error.problem or error.context}; write lines such as 'max_steps: 500'"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not YAML: {error}; write lines such as 'max_steps: 500'") from None


@functools.cache
def _loader() -> Any:
    """Make a reader of plain YAML that refuses a name which is there twice, of which one would be lost."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            names = [key for key, _ in pairs if isinstance(key.value, str)]
            seen = set()
            for key in names:
                if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value} is there twice", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


def _mapping(values: Any, file: Path) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ConfigError(f"{file}: expected lines such as 'max_steps: 500', found {type(values).__name__}")
    return values


def _values(annotation: Any) -> tuple[str, ...]:
    """List the words that a field may be: those of its Literal, or of one in its union."""
    options = get_args(annotation)
    if get_origin(annotation) is Literal:
        return tuple(option for option in options if isinstance(option, str))
    return tuple(value for option in options for value in _values(option))


def _kind(annotation: Any) -> type:
    """Choose the type that a flag's value has: bool, int, float, or str for everything else."""
    options = [annotation, *get_args(annotation)]
    return next((kind for kind in (bool, float, int) if kind in options), str)
