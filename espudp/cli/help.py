"""`--help` as plain text, the options by what they are about.

The panels that typer draws unless it is told otherwise cost as much CPU again as all the rest of a start, and
half of each line at 80 columns.
"""

from typing import Any

from typer.core import TyperCommand, TyperGroup

# Letters in the first column at most; what is longer has a line to itself.
_FIRST_COLUMN = 34
# Letters of a sentence: none is cut off.
_SHORT_HELP = 1000

# typer has no public names for the types of what is overridden here.


class Command(TyperCommand):
    """A command whose options are listed under their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, what belongs nowhere else, and the groups in the order of their first options."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                default = "Arguments" if parameter.param_type_name == "argument" else "Options"
                group = getattr(parameter, "rich_help_panel", None) or default
                groups.setdefault(group, []).append(record)
        for group, records in groups.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records, _FIRST_COLUMN)


class Group(TyperGroup):
    """Commands with the whole first sentence of each."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            names = self.list_commands(ctx)
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(_SHORT_HELP)) for name in names]
            )
