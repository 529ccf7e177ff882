"""The base of configurations that pydantic checks: unknown keys and bad values become one ConfigError.

Files and command lines give words where numbers are meant (PyYAML reads ``1e-3`` as text), so text that is a
number is taken as one; truth values are not.
"""

from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

Self = TypeVar("Self", bound="Settings")


class Settings(BaseModel):
    """Immutable, checked settings.

    ALIASES maps names of other projects to the canonical ones, ALIAS_VALUES the values that such a name has
    there to those that they are here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    ALIASES: ClassVar[dict[str, str]] = {}
    ALIAS_VALUES: ClassVar[dict[str, dict[Any, Any]]] = {}

    def __init__(self, **values: Any) -> None:
        values = self._canonical(values)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_message(type(self).__name__, error)) from None

    @classmethod
    def _canonical(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Put `values` under canonical names; refuse unknown and repeated ones, and booleans for numbers."""
        result: dict[str, Any] = {}
        for name, value in values.items():
            target, value = cls.translated(name, value)
            if target not in cls.model_fields:
                hint = did_you_mean(name, [*cls.model_fields, *cls.ALIASES])
                raise ConfigError(f"{cls.__name__}: there is no setting {name!r}; {hint}")
            if target in result:
                given = next(
                    other for other in values if other != name and cls.ALIASES.get(other, other) == target
                )
                raise ConfigError(
                    f"{cls.__name__}: {name} and {given} are the same setting; give one of them"
                )
            annotation = cls.model_fields[target].annotation
            if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
                raise ConfigError(
                    f"{cls.__name__}: {target} = {value} is a truth value; give a number or a text"
                )
            result[target] = value
        return result

    @classmethod
    def translated(cls, name: str, value: Any) -> tuple[str, Any]:
        """Give a setting's canonical name, and its value there; an unknown name comes back as it is."""
        values = cls.ALIAS_VALUES.get(name, {})
        return cls.ALIASES.get(name, name), values.get(value, value) if isinstance(value, bool) else value

    def replace(self: Self, **changes: Any) -> Self:
        """Copy with `changes`, checked again; fields that were never set stay unset."""
        changes = self._canonical(changes)
        return type(self)(**{**self.model_dump(exclude_unset=True), **changes})

    def with_defaults(self: Self, **defaults: Any) -> Self:
        """Copy, giving every field of `defaults` that was not set this value instead of the class's own."""
        return self.replace(
            **{name: value for name, value in defaults.items() if name not in self.model_fields_set}
        )


def _message(owner: str, error: ValidationError) -> str:
    """Join every complaint of pydantic in one line: field, value, what would be right."""
    parts = []
    for item in error.errors(include_url=False):
        field = ".".join(
            str(part) for part in item["loc"] if not str(part).startswith(("function-", "literal["))
        )
        said = item["msg"].removeprefix("Value error, ")
        said = said[0].lower() + said[1:]
        parts.append(f"{field} = {item['input']!r}: {said}" if field else said)
    return f"{owner}: " + "; ".join(dict.fromkeys(parts))
