"""One module per verb; each has a Typer application called `app`."""
