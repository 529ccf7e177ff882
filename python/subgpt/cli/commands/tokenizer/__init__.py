"""`subgpt tokenizer`: train one, turn text into ids and back, look at what it does; one module a command."""

from subgpt.cli.options import new_group

COMMANDS = ("train", "encode", "decode", "count", "show", "stats", "convert")

app = new_group(__name__, COMMANDS, "Train a tokenizer and look at what it does.")
