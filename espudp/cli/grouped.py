"""Options that belong together as one dataclass: `def command(*, who: Authentication)`."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, TypeVar

R = TypeVar("R")


def grouped(command: Callable[..., R]) -> Callable[..., R]:
    """A command for typer, in which every parameter that is a dataclass is replaced by the fields of it."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, tuple[type[Any], tuple[str, ...]]] = {}
    options: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            fields = inspect.signature(kind, eval_str=True).parameters
            groups[name] = kind, tuple(fields)
            options += (p.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in fields.values())
        else:
            options.append(parameter.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD))

    @functools.wraps(command)
    def run(**given: Any) -> R:
        for name, (kind, fields) in groups.items():
            given[name] = kind(**{field: given.pop(field) for field in fields})
        return command(**given)

    vars(run)["__signature__"] = signature.replace(parameters=options)
    return run
