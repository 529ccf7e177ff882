"""`subgpt data`: look at what a model would learn from, and prepare it, before it does; one module a command."""

from subgpt.cli.options import new_group

COMMANDS = ("inspect", "prepare")

app = new_group(
    __name__, COMMANDS, "Look at what a model would learn from, and bring large amounts of it into shape."
)
