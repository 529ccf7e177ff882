"""The Jinja that chat templates run in: what transformers gives them, and nothing that could do harm.

Jinja's sandbox keeps templates from Python's internals. It does not keep them from running for ever or filling
the memory: ``"a" * 10**10``, ``"%999999999d" % 1``, ``"a".center(10**10)``, a text that is joined to itself forty
times, lists that hold themselves twice, nested loops, macros that call themselves. Here

* everything is paid for (`meter`, `operations`): the template's tree is rewritten so that what Jinja compiles to
  plain Python, such as loops, literals, slices, comparisons and ``~``, is paid for as well;
* attributes, methods, filters and callables are those of a list, not all but those of a list.
"""

from __future__ import annotations

import types
from datetime import datetime
from functools import cache
from typing import Any, NoReturn, cast

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import loopcontrols
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

from subgpt.data.chat.generation import GenerationMarks
from subgpt.data.chat.meter import meter
from subgpt.data.chat.operations import (
    allows_method,
    binary,
    call_method,
    filters,
    joined,
    safe_format,
    tests,
    written,
)

LONGEST_TEMPLATE = 1 << 18
"""Characters; published ones have a few thousand."""
_LONGEST_TIME_FORMAT = 200
_OF_JINJA = ("_block_vars", "_loop_vars")
_METHOD = (types.BuiltinMethodType, types.MethodWrapperType)


class RefusedError(TemplateError):
    """What a template says with ``raise_exception``."""


def raise_exception(message: str) -> NoReturn:
    """Refuse the messages; the template's own words."""
    meter().weigh(message, texts=True)
    raise RefusedError(str(message))


def strftime_now(format: str) -> str:
    """Write the time that it is now."""
    if len(format) > _LONGEST_TIME_FORMAT:
        raise SecurityError("the format of a time is too long")
    return datetime.now().strftime(format)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with a meter, and a list of what there is."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[GenerationMarks, loopcontrols],
            # With a context, so that Jinja does not compute what is constant while it compiles, unpaid.
            finalize=pass_context(lambda _, value: written(value)),
            optimized=False,
        )
        allowed: dict[str, Any] = {
            **filters(),
            **{name: pass_context(function) for name, function in _INTERNAL.items()},
        }
        self.filters, self.tests = allowed, cast(Any, tests())
        self.globals = {
            "range": safe_range,
            "dict": dict,
            "namespace": Namespace,
            "raise_exception": raise_exception,
            "strftime_now": strftime_now,
        }
        self._callables = tuple(self.globals.values())

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Payments().visit(source), *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002
        """Allow the attributes of loops and namespaces, and some methods of texts, lists and mappings."""
        if attr.startswith("_"):
            return False
        return isinstance(obj, (LoopContext, Namespace)) or allows_method(obj, attr)

    def is_safe_callable(self, obj: Any) -> bool:
        """Allow what the template made, what it was given, and allowed methods."""
        if isinstance(obj, (Macro, LoopContext, BlockReference, Undefined)) or obj in self._callables:
            return True
        owner = getattr(obj, "__self__", None)
        return (
            isinstance(owner, (LoopContext, GenerationMarks))
            or getattr(obj, "__name__", "") == "format"
            or (isinstance(obj, _METHOD) and allows_method(owner, obj.__name__))
        )

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Refuse at once, where Jinja would write nothing."""
        raise SecurityError(f"the attribute {attribute!r} of a {type(obj).__name__} is not allowed")

    def wrap_str_format(self, value: Any) -> Any:
        """Give a harmless ``format``; ``format_map`` is not on the list."""
        if isinstance(value, types.BuiltinMethodType) and value.__name__ == "format":
            return safe_format(value.__self__) if isinstance(value.__self__, str) else None
        return None

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look something up."""
        meter().weigh(argument)
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002
        """Compute with two values."""
        return binary(operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call something that may be called."""
        meter().spend()
        if not __self.is_safe_callable(__obj):
            raise SecurityError(f"it calls a {type(__obj).__name__}, which is not allowed")
        # What Jinja itself passes along; it is for functions of Jinja only.
        named = {name: value for name, value in kwargs.items() if name not in _OF_JINJA}
        if isinstance(__obj, _METHOD):
            return call_method(__obj, args, named)
        if __obj in (dict, Namespace) or isinstance(getattr(__obj, "__self__", None), LoopContext):
            meter().weigh((args, tuple(named.values())))
        return super().call(__context, __obj, *args, **kwargs)


@cache
def environment() -> ChatEnvironment:
    """Give the one environment; what differs between renderings is in their context and meter."""
    return ChatEnvironment()


def _step(_: Context, value: Any) -> Any:
    meter().spend()
    return value


def _made(_: Context, value: Any) -> Any:
    return meter().made(value)


def _weighed(_: Context, value: Any) -> Any:
    meter().weigh(value)
    return value


def _joined(_: Context, parts: list[Any]) -> str:
    return joined(parts)


# Names that no template can write.
_INTERNAL = {"~step": _step, "~made": _made, "~weighed": _weighed, "~joined": _joined}


def _through(name: str, node: nodes.Node) -> nodes.Filter:
    """Send the value of an expression through an internal filter."""
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Payments(NodeTransformer):
    """Adds to a template what pays for it."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        node = super().generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For():
                step = nodes.ExprStmt(
                    _through("~step", nodes.Const(None, lineno=node.lineno)), lineno=node.lineno
                )
                node.body.insert(0, step)
                if node.test is not None:  # what is left out has been looked at
                    node.test = _through("~step", node.test)
            case nodes.Output():
                # Jinja writes what stands between tags unseen; a constant goes through `finalize`.
                node.nodes = [
                    nodes.Const(part.data, lineno=part.lineno)
                    if isinstance(part, nodes.TemplateData)
                    else part
                    for part in node.nodes
                ]
            case nodes.Concat():
                return _through("~joined", nodes.List(node.nodes, lineno=node.lineno))
            case nodes.List() | nodes.Dict():
                return _through("~made", node)
            case nodes.Tuple() if node.ctx == "load":
                return _through("~made", node)
            case nodes.Getitem() if isinstance(node.arg, nodes.Slice):
                return _through("~made", node)
            case nodes.Compare():
                node.expr = _through("~weighed", node.expr)
                for operand in node.ops:
                    operand.expr = _through("~weighed", operand.expr)
            case nodes.Pair():
                node.key = _through("~weighed", node.key)
        return node
