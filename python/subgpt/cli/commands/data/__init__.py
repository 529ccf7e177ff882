"""`subgpt data`: look at what a model would learn from, before it does; one module a command."""

from subgpt.cli.options import new_group

COMMANDS = ("inspect",)

app = new_group(__name__, COMMANDS, "Look at what a model would learn from.")
